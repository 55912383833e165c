import { Duplex } from 'node:stream';

/** What a relay leads to that has said its last at once, and takes what it is sent at some 3 MB/s. */
export class SlowTarget extends Duplex {
  received = 0;

  constructor() {
    super({ highWaterMark: 16 << 10 });
    this.push(null);
  }

  override _read(): void {}

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.received += chunk.length;
    setTimeout(done, 5);
  }
}

/** Sizes of uploads: how much waits at one of the steps to the target when the last byte is sent differs from one to the next. */
export const SIZES: readonly number[] = Array.from({ length: 8 }, (_, n) => (1 << 20) + n * 16_384 + 5_000);
