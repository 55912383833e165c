import fc from 'fast-check';
import { expect, test } from 'vitest';
import { CUT_FIELDS_KEY, cutToLimit, MAX_RECORD_BYTES, recordBytes } from '../../supervisor/buffer/record.ts';
import { record } from './suite.ts';

test('a record within the limit is left as it is', () => {
  const small = record('short');
  expect(cutToLimit(small)).toBe(small);
});

test('a cut never leaves half a character behind', () => {
  for (const pad of ['', 'a', 'ab', 'abc']) {
    const cut = cutToLimit(record(pad + '😀'.repeat(40_000)));
    expect(cut.message).not.toContain('\uFFFD');
    expect(cut.message).toMatch(/…\[cut \d+ bytes\]$/);
  }
});

test('a record always fits after the cut, wherever its bulk lies', () => {
  const bulk = fc.tuple(fc.string({ unit: 'grapheme', maxLength: 8 }), fc.integer({ min: 0, max: 20_000 }));
  const text = bulk.map(([unit, times]) => unit.repeat(times));
  fc.assert(
    fc.property(
      text,
      text,
      text,
      fc.dictionary(fc.string({ maxLength: 5 }), text),
      (level, target, message, fields) => {
        const cut = cutToLimit({ kind: 'log', at: 0, level, target, message, fields });
        expect(recordBytes(cut)).toBeLessThanOrEqual(MAX_RECORD_BYTES);
        const missing = Object.keys(fields).filter((key) => !(key in cut.fields)).length;
        if (missing > 0) expect(cut.fields[CUT_FIELDS_KEY]).toBe(String(missing));
      },
    ),
    { numRuns: 100 },
  );
});
