import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  type BufferRecord,
  type Entry,
  type LogRecord,
  MAX_RECORD_BYTES,
  RECORD_CLASSES,
  type RecordClass,
  type RecordEntry,
  recordBytes,
} from '../../supervisor/buffer/record.ts';
import type { RecordBuffer } from '../../supervisor/buffer/record-buffer.ts';
import { KINDS } from './kinds.ts';

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

const isGap = (entry: Entry): boolean => entry.type === 'gap';

/** The record with so much in it that it does not fit. */
function swollen(one: BufferRecord): BufferRecord {
  const much = 'x'.repeat(70_000);
  switch (one.kind) {
    case 'log':
    case 'event':
      return { ...one, message: much };
    case 'policy-status':
      return { ...one, error: much };
    case 'exit':
      return { ...one, instanceId: much };
    case 'denials': {
      const [summary] = one.request.summaries;
      if (summary === undefined) throw new Error('no summary');
      const summaries = Array.from({ length: 100 }, () => ({ ...summary, denyReason: much.slice(0, 2_000) }));
      return { ...one, request: { ...one.request, summaries } };
    }
    case 'sample':
      return { ...one, values: { much } };
  }
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

    test('hands out only the classes that are asked for, and everything in its order afterwards', () => {
      const buffer = create(BOUND);
      buffer.append('logs', record('one'));
      buffer.append('status', record('two'));
      buffer.append('logs', record('three'));
      const batch = buffer.nextBatch({ ...ALL, classes: ['status'] });
      if (batch === undefined) throw new Error('no batch');
      expect(names(batch.entries)).toEqual(['status two']);
      expect(buffer.ack(batch)).toBe(true);
      expect(names(drain(buffer))).toEqual(['logs one', 'logs three']);
    });

    test('keeps every kind of record as it is', () => {
      const buffer = create(BOUND);
      for (const [recordClass, one] of KINDS) expect(buffer.append(recordClass, one)).toBe('kept');
      const got = drain(buffer).map((entry) =>
        entry.type === 'record' ? [entry.class, entry.record] : entry,
      );
      expect(got).toEqual(KINDS);
    });

    test.each(KINDS)('cuts a record of class %s that is too large, and says so', (recordClass, one) => {
      const buffer = create(BOUND);
      expect(buffer.append(recordClass, swollen(one))).toBe('cut');
      const [entry] = drain(buffer);
      if (entry?.type !== 'record') throw new Error('no record');
      expect(entry.bytes).toBeLessThanOrEqual(MAX_RECORD_BYTES);
      expect(
        JSON.stringify(entry.record, (_, value) => (typeof value === 'bigint' ? `${value}` : value)),
      ).toMatch(/…\[cut \d+ bytes\]|"cutItems":[1-9]|cut_fields/);
    });

    test('puts a gap in the place of a record that is given up, and forgets a gap that is', () => {
      const buffer = create(BOUND);
      for (const message of ['one', 'two', 'three']) buffer.append('audit', record(message));
      const first = buffer.nextBatch({ maxEntries: 1, maxBytes: BOUND });
      if (first === undefined) throw new Error('no batch');
      expect(buffer.giveUp(first, 'refused')).toBe(true);
      expect(buffer.giveUp(first, 'refused')).toBe(false);
      expect(buffer.stats().classes.audit).toEqual({ records: 2, entries: 3, lost: 1 });
      const gap = buffer.nextBatch({ maxEntries: 1, maxBytes: BOUND });
      if (gap === undefined) throw new Error('no batch');
      expect(gap.entries).toMatchObject([{ type: 'gap', first: 1, last: 1, count: 1, reason: 'refused' }]);
      expect(buffer.giveUp(gap, 'refused')).toBe(true);
      expect(names(drain(buffer))).toEqual(['audit two', 'audit three']);
    });

    test('makes one gap of neighbours that were given up for the same reason, and two for two reasons', () => {
      const buffer = create(BOUND);
      for (let index = 0; index < 8; index += 1) buffer.append('logs', large(String(index)));
      for (let round = 0; round < 2; round += 1) {
        const taken = buffer.nextBatch({ maxEntries: 3, maxBytes: BOUND });
        const records = taken?.entries.filter((entry) => entry.type === 'record') ?? [];
        const only = buffer.nextBatch({ maxEntries: taken?.entries.length ?? 0, maxBytes: BOUND });
        if (only === undefined || records.length === 0) throw new Error('no records');
        buffer.giveUp(only, 'refused');
      }
      const gaps = drain(buffer).filter((entry) => entry.type === 'gap');
      expect(gaps.map(({ reason }) => reason)).toEqual([...new Set(gaps.map(({ reason }) => reason))]);
      expect(gaps.length).toBeGreaterThan(0);
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
        fc.record({ do: fc.constant('give up' as const) }),
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
            } else if (step.do === 'give up' && out !== undefined) {
              // What a gap told is told by nobody then, so the records of it count as delivered here.
              if (buffer.giveUp(out, 'refused')) delivered.push(...out.entries.filter(isGap));
              out = undefined;
            } else if (out !== undefined) {
              if (buffer.ack(out)) delivered.push(...out.entries);
              out = undefined;
            }
            expect(buffer.stats().bytes).toBeLessThanOrEqual(BOUND);
          }
          delivered.push(...drain(buffer));
          for (const name of RECORD_CLASSES) {
            const sequences = delivered.flatMap((entry) =>
              entry.type === 'record' && entry.class === name ? [entry.sequence] : [],
            );
            expect(sequences).toEqual(sequences.toSorted((a, b) => a - b));
            expect(covered(delivered, name).toSorted((a, b) => a - b)).toEqual(
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
