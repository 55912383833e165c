import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  type Entry,
  type LogRecord,
  MAX_RECORD_BYTES,
  RECORD_CLASSES,
  type RecordClass,
  type RecordEntry,
  recordBytes,
} from '../../supervisor/buffer/record.ts';
import type { RecordBuffer } from '../../supervisor/buffer/record-buffer.ts';

const BOUND = 2 * MAX_RECORD_BYTES;
const ALL = { maxEntries: Number.MAX_SAFE_INTEGER, maxBytes: Number.MAX_SAFE_INTEGER };

export function record(message: string): LogRecord {
  return { kind: 'log', at: 1_000, level: 'INFO', target: 'test', message, fields: {} };
}

const large = (name: string) => record(name.padEnd(20_000, '.'));

export function messageOf(entry: RecordEntry): string {
  return entry.record.kind === 'log' ? entry.record.message : entry.record.kind;
}

function names(entries: readonly Entry[]): string[] {
  return entries.map((entry) =>
    entry.type === 'record'
      ? `${entry.class} ${messageOf(entry).replace(/\.+$/, '')}`
      : `${entry.class} gap ${entry.first}-${entry.last}`,
  );
}

function drain(buffer: RecordBuffer, limits = ALL): Entry[] {
  const all: Entry[] = [];
  for (let batch = buffer.nextBatch(limits); batch !== undefined; batch = buffer.nextBatch(limits)) {
    all.push(...batch.entries);
    buffer.ack(batch);
  }
  return all;
}

/** Every sequence of a class, delivered or named by a gap. */
function covered(entries: readonly Entry[], recordClass: RecordClass): number[] {
  return entries
    .filter((entry) => entry.class === recordClass)
    .flatMap((entry) =>
      entry.type === 'record'
        ? [entry.sequence]
        : Array.from({ length: entry.last - entry.first + 1 }, (_, index) => entry.first + index),
    );
}

/** What every buffer promises. `create` makes an empty one with the given bound in bytes. */
export function describeRecordBuffer(name: string, create: (maxBytes: number) => RecordBuffer): void {
  describe(name, () => {
    test('hands out what came in, in order of arrival across classes', () => {
      const buffer = create(BOUND);
      buffer.append('logs', record('one'));
      buffer.append('audit', record('two'));
      buffer.append('logs', record('three'));
      expect(names(drain(buffer))).toEqual(['logs one', 'audit two', 'logs three']);
      expect(buffer.stats()).toMatchObject({ bytes: 0, entries: 0 });
      expect(buffer.nextBatch(ALL)).toBeUndefined();
    });

    test('hands out the same entries again until they are acknowledged, and fewer when asked for fewer', () => {
      const buffer = create(BOUND);
      for (const message of ['one', 'two', 'three']) buffer.append('logs', record(message));
      expect(names(buffer.nextBatch(ALL)?.entries ?? [])).toHaveLength(3);
      const half = buffer.nextBatch({ maxEntries: 1, maxBytes: BOUND });
      expect(names(half?.entries ?? [])).toEqual(['logs one']);
      if (half !== undefined) expect(buffer.ack(half)).toBe(true);
      expect(names(drain(buffer))).toEqual(['logs two', 'logs three']);
    });

    test('forgets nothing for the acknowledgement of a batch that a later one replaced', () => {
      const buffer = create(BOUND);
      buffer.append('logs', record('one'));
      const first = buffer.nextBatch(ALL);
      const second = buffer.nextBatch(ALL);
      if (first === undefined || second === undefined) throw new Error('no batch');
      expect(buffer.ack(first)).toBe(false);
      expect(buffer.stats().entries).toBe(1);
      expect(buffer.ack(second)).toBe(true);
      expect(buffer.ack(second)).toBe(false);
      expect(buffer.stats().entries).toBe(0);
    });

    test('keeps a batch within its bytes, yet always gives one entry', () => {
      const buffer = create(BOUND);
      for (const message of ['a', 'b', 'c']) buffer.append('logs', large(message));
      expect(names(buffer.nextBatch({ maxEntries: 50, maxBytes: 45_000 })?.entries ?? [])).toEqual([
        'logs a',
        'logs b',
      ]);
      expect(names(buffer.nextBatch({ maxEntries: 50, maxBytes: 1 })?.entries ?? [])).toEqual(['logs a']);
    });

    test('cuts a record that is too large and says so in it', () => {
      const buffer = create(BOUND);
      expect(buffer.append('logs', record('x'.repeat(100_000)))).toBe('cut');
      const [entry] = drain(buffer);
      if (entry?.type !== 'record') throw new Error('no record');
      expect(recordBytes(entry.record)).toBeLessThanOrEqual(MAX_RECORD_BYTES);
      expect(messageOf(entry)).toMatch(/^x+…\[cut \d+ bytes\]$/);
    });

    test('gives up the oldest record of the lowest class first', () => {
      const buffer = create(BOUND);
      for (const message of ['a', 'b']) buffer.append('audit', large(message));
      for (const message of ['l', 'm']) buffer.append('logs', large(message));
      for (const message of ['s', 't']) buffer.append('samples', large(message));
      for (const message of ['n', 'o', 'p']) expect(buffer.append('logs', large(message))).toBe('kept');
      expect(names(drain(buffer))).toEqual([
        'audit a',
        'audit b',
        'logs gap 1-1',
        'logs m',
        'samples gap 1-2',
        'logs n',
        'logs o',
        'logs p',
      ]);
    });

    test('gives up a record itself when all that is held is worth more', () => {
      const buffer = create(BOUND);
      for (let index = 0; index < 6; index += 1) buffer.append('status', large(String(index)));
      expect(buffer.append('samples', large('late'))).toBe('dropped');
      expect(buffer.stats().classes).toMatchObject({ status: { records: 6, lost: 0 }, samples: { lost: 1 } });
      expect(names(drain(buffer)).at(-1)).toBe('samples gap 1-1');
    });

    test('takes nothing from a batch that is out', () => {
      const buffer = create(BOUND);
      for (const message of ['a', 'b']) buffer.append('logs', large(message));
      const batch = buffer.nextBatch(ALL);
      for (let index = 0; index < 20; index += 1) buffer.append('logs', large(`later ${index}`));
      if (batch === undefined) throw new Error('no batch');
      expect(buffer.ack(batch)).toBe(true);
      const rest = drain(buffer);
      expect(names(batch.entries)).toEqual(['logs a', 'logs b']);
      expect(names(rest)[0]).toMatch(/^logs gap 3-/);
      expect(covered(rest, 'logs')).toEqual(Array.from({ length: 20 }, (_, index) => index + 3));
    });

    test('tells one loss as one gap, even when a batch was out in the middle of it', () => {
      const buffer = create(BOUND);
      for (let index = 0; index < 10; index += 1) buffer.append('logs', large(String(index)));
      expect(names(buffer.nextBatch({ maxEntries: 1, maxBytes: BOUND })?.entries ?? [])).toEqual([
        'logs gap 1-4',
      ]);
      buffer.append('logs', large('10'));
      expect(names(drain(buffer))[0]).toBe('logs gap 1-5');
    });

    test('never exceeds its bound, and accounts for every record exactly once, whatever happens', () => {
      const command = fc.oneof(
        fc.record({
          do: fc.constant('append' as const),
          class: fc.constantFrom(...RECORD_CLASSES),
          size: fc.integer({ min: 0, max: 70_000 }),
        }),
        fc.record({ do: fc.constant('batch' as const), maxEntries: fc.integer({ min: 1, max: 20 }) }),
        fc.record({ do: fc.constant('batch all' as const) }),
        fc.record({ do: fc.constant('ack' as const) }),
      );
      fc.assert(
        fc.property(fc.array(command, { maxLength: 120 }), (commands) => {
          const buffer = create(BOUND);
          const appended: Record<RecordClass, number> = { audit: 0, status: 0, logs: 0, samples: 0 };
          const delivered: Entry[] = [];
          let out = buffer.nextBatch(ALL);
          for (const step of commands) {
            if (step.do === 'append') {
              appended[step.class] += 1;
              buffer.append(step.class, record('y'.repeat(step.size)));
            } else if (step.do === 'batch') {
              out = buffer.nextBatch({ maxEntries: step.maxEntries, maxBytes: 100_000 });
            } else if (step.do === 'batch all') {
              out = buffer.nextBatch(ALL);
            } else if (out !== undefined) {
              if (buffer.ack(out)) delivered.push(...out.entries);
              out = undefined;
            }
            expect(buffer.stats().bytes).toBeLessThanOrEqual(BOUND);
          }
          delivered.push(...drain(buffer));
          for (const name of RECORD_CLASSES) {
            expect(covered(delivered, name)).toEqual(
              Array.from({ length: appended[name] }, (_, index) => index + 1),
            );
            const lost = delivered.reduce(
              (sum, entry) => (entry.type === 'gap' && entry.class === name ? sum + entry.count : sum),
              0,
            );
            expect(buffer.stats().classes[name].lost).toBe(lost);
          }
        }),
        { numRuns: 200 },
      );
    });
  });
}
