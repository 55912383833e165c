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
  let got = 0;
  const wanted = way === 'up' ? 2 : bytes;
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    got += chunk.length;
    if (got >= wanted) break;
  }
  if (got !== wanted) throw new Error(`${got} bytes came back`);
  return performance.now() - begun;
}
