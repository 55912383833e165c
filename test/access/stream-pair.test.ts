import { finished } from 'node:stream/promises';
import { expect, test } from 'vitest';
import { streamPair } from '../../supervisor/access/stream-pair.ts';

test('an end that is destroyed takes the other one with it, which may be waiting to write', async () => {
  const [one, other] = streamPair();
  other.on('error', () => undefined);
  other.write(Buffer.alloc(1 << 20)); // which nobody reads
  other.end();
  one.destroy();
  await expect.poll(() => other.destroyed).toBe(true);
});

test('an end that breaks with an error takes the other one with it', async () => {
  const [one, other] = streamPair();
  one.on('error', () => undefined);
  one.destroy(new Error('broken'));
  await expect.poll(() => other.destroyed).toBe(true);
});

test('what was written before a clean end is read, then both are closed', async () => {
  const [one, other] = streamPair();
  const chunks: Buffer[] = [];
  one.write(Buffer.alloc(100_000, 1));
  one.end(Buffer.alloc(1_000, 2));
  one.resume();
  other.on('data', (chunk: Buffer) => chunks.push(chunk));
  other.once('end', () => other.end('bye'));
  await Promise.all([finished(one), finished(other)]);
  expect(Buffer.concat(chunks).length).toBe(101_000);
  expect([one.destroyed, other.destroyed]).toEqual([true, true]);
});
