import { PassThrough } from 'node:stream';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { RelayFrame } from '../../proto/generated/openshell/v1/openshell.ts';
import { DataFrameReader, dataHead } from '../../supervisor/rpc/data-frames.ts';
import { FrameReader, frameOf } from '../../supervisor/rpc/frames.ts';
import { writeData } from '../../supervisor/rpc/stream.ts';

const MAX = 1 << 20;

/** What a reader tells, with neighbouring pieces of data joined. */
function reading(maxBytes = MAX) {
  const told: { data?: Buffer; message?: Buffer }[] = [];
  const reader = new DataFrameReader(maxBytes, {
    data(bytes) {
      const last = told.at(-1);
      if (last?.data === undefined) told.push({ data: Buffer.from(bytes) });
      else last.data = Buffer.concat([last.data, bytes]);
    },
    message: (bytes) => void told.push({ message: Buffer.from(bytes) }),
  });
  return { reader, told };
}

/** Cuts bytes at the given places. */
const cut = (bytes: Buffer, places: readonly number[]): readonly Buffer[] => {
  const at = [...new Set(places.map((place) => place % (bytes.length + 1)))].sort((a, b) => a - b);
  return [...at, bytes.length].map((end, index) => bytes.subarray(at[index - 1] ?? 0, end));
};

test.each([0, 1, 127, 128, 16_383, 16_384, 65_536, 1_000_000])(
  '%i bytes of data read back as protobuf has them',
  (length) => {
    const data = Buffer.alloc(length, 7);
    const head = dataHead(length);
    const [message] = new FrameReader(MAX).push(Buffer.concat([head, data]));
    const { payload } = RelayFrame.decode(message ?? Buffer.alloc(0));
    expect(payload?.$case === 'data' && Buffer.from(payload.value).equals(data)).toBe(true);
  },
);

test.each([100, 4_096, 4_097, 100_000])(
  'what is written of %i bytes is one frame, copied or not',
  (length) => {
    const stream = new PassThrough({ highWaterMark: MAX });
    writeData(stream, Buffer.alloc(length, 3));
    const { reader, told } = reading();
    for (let chunk = stream.read(); chunk !== null; chunk = stream.read()) reader.push(chunk);
    expect(told).toEqual([{ data: Buffer.alloc(length, 3) }]);
    expect(reader.complete).toBe(true);
  },
);

describe('a reader of data frames', () => {
  const piece = fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes));
  const frame = fc.oneof(
    piece.map((bytes) => ({ kind: 'data' as const, bytes })),
    fc.string({ maxLength: 200 }).map((channelId) => ({
      kind: 'message' as const,
      bytes: Buffer.from(RelayFrame.encode({ payload: { $case: 'init', value: { channelId } } }).finish()),
    })),
    // Anything at all, data that is encoded in an unusual way among it.
    fc
      .oneof(
        piece,
        piece.map((bytes) =>
          Buffer.concat([Buffer.from([0x12, 0x80 | (bytes.length % 128), 0x80, 0]), bytes]),
        ),
        piece.map((bytes) =>
          Buffer.concat([Buffer.from([0x12, bytes.length % 128]), bytes, Buffer.from([1])]),
        ),
      )
      .map((bytes) => ({ kind: 'message' as const, bytes })),
  );

  test('tells what a plain reader and protobuf tell, however the bytes are cut', () => {
    fc.assert(
      fc.property(
        fc.array(frame, { maxLength: 12 }),
        fc.array(fc.nat(), { maxLength: 30 }),
        (frames, places) => {
          const bytes = Buffer.concat(
            frames.map((one) =>
              one.kind === 'data'
                ? Buffer.concat([dataHead(one.bytes.length), one.bytes])
                : frameOf(one.bytes),
            ),
          );
          const { reader, told } = reading();
          for (const chunk of cut(bytes, places)) reader.push(chunk);
          expect(reader.complete).toBe(true);
          const dataOf = (message: Buffer): Buffer | undefined => {
            try {
              const { payload } = RelayFrame.decode(message);
              return payload?.$case === 'data' ? Buffer.from(payload.value) : undefined;
            } catch {
              return undefined;
            }
          };
          // The same bytes of data in the same order, whichever way they came.
          const direct = told.map(
            ({ data, message }) => data ?? dataOf(message ?? Buffer.alloc(0)) ?? Buffer.alloc(0),
          );
          const plain = new FrameReader(MAX).push(bytes).map((message) => dataOf(message) ?? Buffer.alloc(0));
          expect(Buffer.concat(direct).equals(Buffer.concat(plain))).toBe(true);
          // And no message that is not data is lost.
          const others = (all: readonly Buffer[]) =>
            all.filter((message) => dataOf(message) === undefined).length;
          expect(
            told.filter(({ message }) => message !== undefined && dataOf(message) === undefined).length,
          ).toBe(others(new FrameReader(MAX).push(bytes)));
        },
      ),
    );
  });

  test('hands data on before its frame is whole', () => {
    const { reader, told } = reading();
    reader.push(Buffer.concat([dataHead(1_000), Buffer.alloc(10, 1)]));
    expect(told).toEqual([{ data: Buffer.alloc(10, 1) }]);
    expect(reader.complete).toBe(false);
  });

  test('refuses a message that is too large or compressed', () => {
    expect(() => reading(100).reader.push(frameOf(Buffer.alloc(101)))).toThrow(
      'a message of 101 bytes, above 100',
    );
    expect(() => reading().reader.push(Buffer.from([1, 0, 0, 0, 1, 0]))).toThrow('compressed');
  });
});
