import { createWriteStream, fstatSync } from 'node:fs';
import type { Writable } from 'node:stream';

/**
 * The container's standard output (1) or error (2), which is never closed. Runtimes may give pipes that do not block: a file
 * stream fails on one as soon as it is full, so those are waited for by the event loop.
 */
export function containerStream(fd: 1 | 2): Writable {
  if (!isPipeOrSocket(fd)) return createWriteStream('', { fd, autoClose: false });
  // Of Node: a second stream on the same descriptor would not hear that it takes more.
  return fd === 1 ? process.stdout : process.stderr;
}

function isPipeOrSocket(fd: number): boolean {
  try {
    const stat = fstatSync(fd);
    return stat.isFIFO() || stat.isSocket();
  } catch {
    return false; // it is closed
  }
}

/**
 * A stream of the container, which is written to at the pace of whoever reads it. When it breaks, or is given up, what
 * follows is dropped and nobody waits for it any more.
 */
export class ContainerOutput {
  readonly #sink: Writable;
  #gone = false;
  /** Who waits until it takes more, or never will. */
  readonly #waiting = new Set<() => void>();

  constructor(sink: Writable) {
    this.#sink = sink;
    // Descriptors of the container are not closed, so a stream on one that broke is neither destroyed nor ever drained.
    const gone = (): void => this.giveUp();
    sink.on('error', gone).on('close', gone);
    sink.on('drain', () => this.#wake());
  }

  /** Settles when it takes more. */
  async write(chunk: Buffer): Promise<void> {
    if (this.#usable() && !this.#sink.write(chunk)) await this.#woken();
  }

  /** Settles when what was written has gone out, or never will. */
  async flushed(): Promise<void> {
    if (!this.#usable()) return;
    const woken = this.#woken();
    this.#sink.write('', () => this.#wake());
    await woken;
  }

  /** It is too slow to be waited for. */
  giveUp(): void {
    this.#gone = true;
    this.#wake();
  }

  #usable(): boolean {
    return !this.#gone && !this.#sink.destroyed;
  }

  #woken(): Promise<void> {
    return new Promise((resolve) => {
      if (this.#usable()) this.#waiting.add(resolve);
      else resolve();
    });
  }

  #wake(): void {
    for (const resolve of this.#waiting) resolve();
    this.#waiting.clear();
  }
}
