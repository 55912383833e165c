import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { OutputLog, type OutputName, type Piece } from '../../supervisor/workload/output-log.ts';

const BOUNDS = { bytes: 1 << 20, pieces: 8_192 };

/** All that a reader has before it, and how many pieces that is. */
function drain(reader: { next(): Piece | undefined }): readonly Piece[] {
  const pieces: Piece[] = [];
  for (let next = reader.next(); next !== undefined; next = reader.next()) pieces.push(next);
  return pieces;
}
/** What was printed, with a mark at each change of the stream. */
const text = (pieces: readonly Piece[]): string => {
  let stream: OutputName | undefined;
  let all = '';
  for (const piece of pieces) {
    if (piece.stream !== stream) all += piece.stream === 'output' ? '>' : '!';
    stream = piece.stream;
    all += piece.chunk.toString('latin1');
  }
  return all;
};
/** As a pipe gives it: with memory of its own. */
const printed = (line: string): Buffer => Buffer.from(new Uint8Array(Buffer.from(line, 'latin1')).buffer);

describe('what was printed', () => {
  test('comes to every reader once and in order, however its pieces fall and whenever it is read', () => {
    const step = fc.oneof(
      fc.record({
        stream: fc.constantFrom<OutputName>('output', 'errors'),
        size: fc.oneof(fc.nat(20), fc.nat(9_000)),
      }),
      fc.constant('read' as const),
      fc.constant('attach' as const),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const log = new OutputLog({ bytes: 1 << 30, pieces: 1 << 30 });
        const readers = [{ reader: log.reader(), got: [] as Piece[] }];
        const model: Piece[] = [];
        for (const [n, one] of steps.entries()) {
          if (one === 'read') for (const { reader, got } of readers) got.push(...drain(reader));
          else if (one === 'attach') readers.push({ reader: log.reader(), got: [] });
          else {
            const chunk = printed(String.fromCharCode(97 + (n % 26)).repeat(one.size));
            log.append(one.stream, chunk);
            if (one.size > 0) model.push({ stream: one.stream, chunk });
          }
        }
        for (const { reader, got } of readers) {
          got.push(...drain(reader));
          expect(text(got)).toBe(text(model));
          expect(reader.unread.bytes).toBe(0);
        }
      }),
    );
  });

  test('stays as it is in the hands of who reads it', () => {
    const log = new OutputLog(BOUNDS);
    const reader = log.reader();
    log.append('output', printed('one '));
    const held = reader.next();
    for (let n = 0; n < 5_000; n += 1) log.append(n % 2 === 0 ? 'output' : 'errors', printed('two '));
    expect(held?.chunk.toString()).toBe('one ');
  });

  test.each([
    ['short lines', 80, false],
    ['short lines on two streams in turn', 200, true],
    ['lines of half a page', 2_100, false],
    ['large chunks', 64 << 10, true],
    ['slices of a pool', 5_000, false],
  ])('keeps no more memory alive than its bounds, as %s', (_, size, turns) => {
    const log = new OutputLog(BOUNDS);
    for (let n = 0; n < (3 << 20) / size; n += 1) {
      const pooled = size === 5_000 ? Buffer.alloc(64 << 10).subarray(0, size) : undefined;
      log.append(turns && n % 2 === 0 ? 'errors' : 'output', pooled ?? printed('x'.repeat(size)));
    }
    const pieces = drain(log.reader());
    const bytes = pieces.reduce((sum, { chunk }) => sum + chunk.length, 0);
    const memory = new Set(pieces.map(({ chunk }) => chunk.buffer));
    const kept = [...memory].reduce((sum, { byteLength }) => sum + byteLength, 0);
    expect(bytes).toBeGreaterThan((1 << 20) - size - 4096);
    expect(kept).toBeLessThanOrEqual((1 << 20) + 2 * 4096);
  });

  test('is one piece in memory, however many read it', () => {
    const log = new OutputLog(BOUNDS);
    log.append('output', printed('x'.repeat(100)));
    const buffers = Array.from({ length: 16 }, () => log.reader().next()?.chunk.buffer);
    expect(new Set(buffers).size).toBe(1);
  });

  test('is bounded in bytes and in pieces for who comes later, and whole for who was there before', () => {
    const log = new OutputLog({ bytes: 10_000, pieces: 4 });
    const early = log.reader();
    for (let n = 0; n < 10; n += 1) log.append(n % 2 === 0 ? 'output' : 'errors', printed(`${n}`));
    expect(text(drain(log.reader()))).toBe('>6!7>8!9');
    for (let n = 0; n < 5; n += 1) log.append('output', printed(`${n}`.repeat(4_096)));
    const late = log.reader();
    expect(late.unread).toEqual({ bytes: 8_192, pieces: 2 });
    expect(early.unread).toEqual({ bytes: 10 + 5 * 4_096, pieces: 15 });
    const all = text(drain(early));
    expect([all.slice(0, 21), all.length]).toEqual(['>0!1>2!3>4!5>6!7>8!9>', 21 + 5 * 4_096]);
    early.close();
    log.append('output', printed('more'));
    expect(early.next()).toBeUndefined();
  });

  test('costs the same however much is kept: a hundred thousand turns of two streams take no time', () => {
    const log = new OutputLog(BOUNDS);
    const reader = log.reader();
    const [out, errors] = [printed('o'), printed('e')];
    let read = 0;
    for (let n = 0; n < 50_000; n += 1) {
      log.append('output', out);
      log.append('errors', errors);
      if (n % 1_000 === 0) read += drain(reader).length;
    }
    expect(read + drain(reader).length).toBe(100_000);
    expect(drain(log.reader()).length).toBe(8_192);
  });
});
