import type { Duplex, Readable } from 'node:stream';
import type { ServerChannel } from 'ssh2';

/** What ssh2 1.17 holds back of a channel until the client takes more. */
interface HeldBack {
  _chunk: unknown;
  _chunkcb: unknown;
  _chunkErr: unknown;
  _chunkcbErr: unknown;
}

/**
 * Copies what a process prints into a channel. A client that reads slowly slows its own process and nobody else: ssh2
 * heeds the client's window but not whether the connection below takes more, so both are waited for here. And one
 * write at a time, forgotten when it is done: ssh2 sends what it held back of one stream a second time when the
 * other stream of the channel has to wait.
 */
export class ChannelOutput {
  readonly #channel: ServerChannel;
  readonly #connection: Duplex;
  #open = true;
  #turn: Promise<void> = Promise.resolve();
  #waiting = 0;
  #moved = 0;
  /** Ends the one wait that there is when the channel closes. */
  #wake: (() => void) | undefined;

  constructor(channel: ServerChannel, connection: Duplex) {
    this.#channel = channel;
    this.#connection = connection;
  }

  /** The client's side of the channel has gone: nothing is written any more, and whoever waits goes on. */
  close(): void {
    this.#open = false;
    this.#wake?.();
  }

  /** How many writes have ended, and whether one has not: what has not moved between two looks is quiet. */
  get progress(): { readonly moved: number; readonly writing: boolean } {
    return { moved: this.#moved, writing: this.#waiting > 0 };
  }

  /** Resolves when `source` has ended, was destroyed or the channel has closed; then `source` is destroyed. */
  async copy(source: Readable, stream: 'output' | 'errors'): Promise<void> {
    try {
      for await (const chunk of source as AsyncIterable<Buffer>) {
        await this.write(stream, chunk);
        if (!this.#open) return;
      }
    } catch {
      // It was destroyed, or its other end was reset: its end is all that counts.
    } finally {
      source.destroy();
    }
  }

  /** Resolves when the client's window and the connection have taken it, or when nobody ever will. */
  write(stream: 'output' | 'errors', chunk: Buffer): Promise<void> {
    this.#waiting += 1;
    this.#turn = this.#turn
      .then(() => this.#write(stream, chunk))
      .then(() => {
        this.#waiting -= 1;
        this.#moved += 1;
      });
    return this.#turn;
  }

  async #write(stream: 'output' | 'errors', chunk: Buffer): Promise<void> {
    const connection = this.#connection;
    if (connection.writableNeedDrain)
      await this.#until((done) => {
        connection.once('drain', done);
        return () => connection.off('drain', done);
      });
    if (!this.#open || !connection.writable || this.#channel.outgoing.state !== 'open') return;
    const target = stream === 'output' ? this.#channel : this.#channel.stderr;
    await this.#until((done) => void target.write(chunk, done));
    const held = this.#channel as unknown as HeldBack;
    held._chunk = held._chunkcb = held._chunkErr = held._chunkcbErr = undefined;
  }

  /** Waits for what `start` begins, or for the end of the channel. */
  async #until(start: (done: () => void) => (() => void) | undefined): Promise<void> {
    let stop: (() => void) | undefined;
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
      stop = start(() => resolve());
      if (!this.#open) resolve();
    });
    this.#wake = undefined;
    stop?.();
  }
}
