import type { Writable } from 'node:stream';

/** The right to write to the main process, which one has at a time. */
export interface InputLease {
  readonly held: boolean;
  /**
   * False when the process takes no more for now: what is written before `drained` is called is dropped, and so may the chunk
   * be if the lease is given back before. Written without the lease, or to a process that has closed its input, it
   * is dropped as well.
   */
  write(chunk: Buffer, drained: () => void): boolean;
  /** Gives it back: whoever asks next has it. */
  release(): void;
}

/**
 * The input of the main process, which may read none of it for ever. Two chunks of owners are kept at most, whoever comes and
 * goes: one that is in the stream, and one that waits for it with the lease.
 */
export class MainInput {
  readonly #stream: Writable;
  #lease: InputLease | undefined;
  /** A chunk is in the stream. */
  #busy = false;
  /** What the lease does when it is out, or never will be. */
  #next: (() => void) | undefined;

  constructor(stream: Writable) {
    this.#stream = stream;
    stream.on('error', () => undefined); // the process has closed it
    stream.on('close', () => this.#out());
  }

  /** Undefined while somebody has it. */
  take(): InputLease | undefined {
    if (this.#lease !== undefined) return undefined;
    const isHeld = (): boolean => this.#lease === lease;
    const lease: InputLease = {
      get held() {
        return isHeld();
      },
      write: (chunk, drained) => {
        if (!isHeld() || !this.#open) return true;
        if (!this.#busy) {
          this.#put(chunk);
          return true;
        }
        this.#next ??= () => {
          this.#put(chunk);
          drained();
        };
        return false;
      },
      release: () => {
        if (!isHeld()) return;
        this.#next = undefined;
        this.#lease = undefined;
      },
    };
    this.#lease = lease;
    return lease;
  }

  get #open(): boolean {
    return !this.#stream.destroyed && !this.#stream.writableEnded;
  }

  #put(chunk: Buffer): void {
    if (!this.#open) return;
    this.#busy = true;
    this.#stream.write(chunk, () => this.#out());
  }

  #out(): void {
    this.#busy = false;
    const next = this.#next;
    this.#next = undefined;
    next?.();
  }
}
