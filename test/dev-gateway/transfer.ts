import { once } from 'node:events';
import type { Duplex } from 'node:stream';

const PIECE = Buffer.alloc(256 << 10);

/**
 * Times a transfer over a stream to a server that takes (`up`) or gives (`down`) as many bytes as the first 32 that it
 * reads say, and answers `ok` to what it took. Resolves with milliseconds; rejects when other bytes came back.
 */
export async function timeTransfer(stream: Duplex, way: 'up' | 'down', bytes: number): Promise<number> {
  const begun = performance.now();
  stream.write(`${way} ${bytes}\n`.padEnd(32));
  for (let left = way === 'up' ? bytes : 0; left > 0; left -= PIECE.length)
    if (!stream.write(PIECE.subarray(0, Math.min(left, PIECE.length)))) await once(stream, 'drain');
  await received(stream, way === 'up' ? 2 : bytes);
  return performance.now() - begun;
}

/** Resolves when so many bytes have come; rejects at more of them, and at an end before. */
function received(stream: Duplex, wanted: number): Promise<void> {
  let got = 0;
  return new Promise((resolve, reject) => {
    const fail = (): void => reject(new Error(`${got} bytes came back`));
    stream.on('data', (chunk: Buffer) => {
      got += chunk.length;
      if (got === wanted) resolve();
      if (got > wanted) fail();
    });
    stream.once('end', fail);
    stream.once('close', fail);
  });
}
