import fc from 'fast-check';
import { expect, test } from 'vitest';
import { checksum, decodeRecord, encodeRecord } from '../../supervisor/buffer/record-codec.ts';
import { KINDS } from './kinds.ts';

test.each(KINDS)('a record of class %s comes back as it was', (_, record) => {
  expect(decodeRecord(encodeRecord(record))).toEqual(record);
});

test('any text is decoded or refused, never thrown over', () => {
  const shaped = fc.array(fc.jsonValue(), { maxLength: 7 });
  const kinds = fc.constantFrom('log', 'event', 'policy-status', 'exit', 'denials', 'sample', 'next year’s');
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string(),
        shaped.map((list) => JSON.stringify(list)),
        fc.tuple(kinds, shaped).map(([kind, list]) => JSON.stringify([kind, ...list])),
      ),
      (text) => {
        const record = decodeRecord(text);
        if (record !== undefined) expect(decodeRecord(encodeRecord(record))).toEqual(record);
      },
    ),
    { numRuns: 500 },
  );
});

test('an instant that JSON cannot hold comes back as 0', () => {
  const record = { kind: 'event', at: Number.NaN, message: 'm' } as const;
  expect(decodeRecord(encodeRecord(record))).toEqual({ ...record, at: 0 });
});

test('a checksum tells the same text under another name apart', () => {
  expect(checksum(['b', 'logs', 1], 'text')).not.toBe(checksum(['b', 'logs', 2], 'text'));
  expect(checksum(['b', 'logs', 1], 'text')).toBe(checksum(['b', 'logs', 1], 'text'));
});
