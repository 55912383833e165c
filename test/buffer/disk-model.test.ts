import { copyFileSync, existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, expect, test } from 'vitest';
import { type DurableBuffer, openDiskBuffer } from '../../supervisor/buffer/disk-buffer.ts';
import { type Entry, RECORD_CLASSES, type RecordClass } from '../../supervisor/buffer/record.ts';
import type { Batch } from '../../supervisor/buffer/record-buffer.ts';
import { VirtualClock } from '../gateway/virtual-clock.ts';
import { type Faults, noFaults, openFaulty } from './faulty-database.ts';
import { record } from './suite.ts';

const root = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'buffer-model-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));

const command = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      do: fc.constant('append' as const),
      class: fc.constantFrom(...RECORD_CLASSES),
      size: fc.integer({ min: 0, max: 30_000 }),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant('batch' as const),
      maxEntries: fc.integer({ min: 1, max: 20 }),
      classes: fc.option(fc.uniqueArray(fc.constantFrom(...RECORD_CLASSES), { minLength: 1 }), {
        nil: undefined,
      }),
    }),
  },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('ack' as const) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('give up' as const) }) },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constantFrom('full' as const, 'broken' as const, 'well' as const) }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constant('wait' as const), ms: fc.integer({ min: 1, max: 20_000 }) }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constantFrom('killed' as const, 'restarted' as const) }) },
);
type Command = typeof command extends fc.Arbitrary<infer C> ? C : never;

interface Appended {
  readonly name: string;
  /** Whether it was on the disk, as far as was said. */
  safe: boolean;
}

/** The simple model: what was appended, in order, and what may be missing or come twice because of a kill. */
class World {
  readonly faults: Faults = noFaults();
  readonly clock = new VirtualClock();
  readonly appended: Record<RecordClass, Appended[]> = { audit: [], status: [], logs: [], samples: [] };
  readonly mayBeLost = new Set<string>();
  readonly mayComeTwice = new Set<string>();
  readonly delivered: Entry[] = [];
  readonly #acked = new Set<string>();
  readonly #home: string;
  #boot = 0;
  #directory: string;
  #sequences: Record<RecordClass, number> = { audit: 0, status: 0, logs: 0, samples: 0 };
  buffer: DurableBuffer;
  out: Batch | undefined;

  constructor(home: string) {
    this.#home = home;
    mkdirSync(home);
    this.#directory = join(home, '0');
    this.buffer = this.#open();
  }

  step(one: Command): void {
    switch (one.do) {
      case 'append':
        this.buffer.append(one.class, record('x'.repeat(one.size)));
        this.#sequences[one.class] += 1;
        this.appended[one.class].push({
          name: `${this.#boot}:${one.class}:${this.#sequences[one.class]}`,
          safe: false,
        });
        break;
      case 'batch': {
        const { maxEntries, classes } = one;
        this.out = this.buffer.nextBatch({
          maxEntries,
          maxBytes: 100_000,
          ...(classes === undefined ? {} : { classes }),
        });
        if (classes !== undefined)
          for (const entry of this.out?.entries ?? []) expect(classes).toContain(entry.class);
        break;
      }
      case 'ack':
        if (this.out !== undefined && this.buffer.ack(this.out)) this.#deliver(this.out.entries);
        this.out = undefined;
        break;
      case 'give up':
        // A gap that is given up counts as told; its records must not come again.
        if (this.out !== undefined && this.buffer.giveUp(this.out, 'refused')) {
          this.#deliver(this.out.entries.filter(({ type }) => type === 'gap'));
          // The gap that stands in for them is in memory while the disk takes nothing.
          const names = new Set(this.out.entries.flatMap(namesOf));
          for (const name of RECORD_CLASSES)
            for (const each of this.appended[name]) if (names.has(each.name)) each.safe = false;
        }
        this.out = undefined;
        break;
      case 'full':
        this.faults.full = true;
        break;
      case 'broken':
        this.faults.broken = true;
        break;
      case 'well':
        this.faults.full = false;
        this.faults.broken = false;
        break;
      case 'wait':
        this.clock.run(one.ms);
        break;
      case 'killed':
      case 'restarted':
        this.#begin(one.do);
        break;
    }
    if (this.buffer.stats().degraded === undefined)
      for (const name of RECORD_CLASSES) for (const each of this.appended[name]) each.safe = true;
    const { bytes, maxBytes } = this.buffer.stats();
    expect(bytes).toBeLessThanOrEqual(maxBytes);
  }

  #deliver(entries: readonly Entry[]): void {
    this.delivered.push(...entries);
    for (const entry of entries) for (const name of namesOf(entry)) this.#acked.add(name);
  }

  /** The next start, on what the kernel has of the files. */
  #begin(how: 'killed' | 'restarted'): void {
    if (how === 'restarted') {
      this.faults.full = false;
      this.faults.broken = false;
      // A file that cannot be closed in order is like a kill; here the disk is well.
      this.buffer.close();
      this.clock.run(120_000);
    } else {
      // Of what memory alone held, and of acknowledgements that the disk did not take, nothing is known any more.
      if (this.buffer.stats().degraded !== undefined || this.faults.full || this.faults.broken) {
        for (const name of RECORD_CLASSES)
          for (const each of this.appended[name]) if (!each.safe) this.mayBeLost.add(each.name);
        for (const name of this.#acked) this.mayComeTwice.add(name);
        for (const name of RECORD_CLASSES)
          for (const each of this.appended[name]) this.mayComeTwice.add(each.name);
      }
      const next = join(this.#home, `${this.#boot + 1}`);
      mkdirSync(next, { mode: 0o700 });
      for (const file of ['records.db', 'records.db-wal', 'records.db.new', 'records.db.new-wal'])
        if (existsSync(join(this.#directory, file)))
          copyFileSync(join(this.#directory, file), join(next, file));
      this.buffer.close();
      this.#directory = next;
    }
    this.out = undefined;
    this.#boot += 1;
    this.#sequences = { audit: 0, status: 0, logs: 0, samples: 0 };
    this.buffer = this.#open();
  }

  #open(): DurableBuffer {
    return openDiskBuffer({
      directory: this.#directory,
      boot: `${this.#boot}`,
      sandboxId: 'sb-1',
      clock: this.clock,
      maxBytes: 300_000,
      memoryBytes: 200_000,
      open: openFaulty(this.faults),
      report: () => undefined,
    });
  }
}

function namesOf(entry: Entry): readonly string[] {
  const [first, last] = entry.type === 'gap' ? [entry.first, entry.last] : [entry.sequence, entry.sequence];
  return Array.from(
    { length: last - first + 1 },
    (_, index) => `${entry.boot}:${entry.class}:${first + index}`,
  );
}

test('whatever happens to disk and process, everything is delivered or told of, in order', () => {
  let worlds = 0;
  fc.assert(
    fc.property(fc.array(command, { maxLength: 100, size: 'max' }), (commands) => {
      const world = new World(join(root, `${worlds++}`));
      for (const one of commands) world.step(one);
      world.step({ do: 'ack' });
      world.step({ do: 'well' });
      world.step({ do: 'wait', ms: 20_000 });
      world.clock.run(120_000);
      expect(world.buffer.stats().degraded).toBeUndefined();
      for (let guard = 0; world.buffer.stats().entries > 0 && guard < 1_000; guard += 1) {
        world.step({ do: 'batch', maxEntries: 20, classes: undefined });
        world.step({ do: 'ack' });
      }
      expect(world.buffer.stats()).toMatchObject({ entries: 0, bytes: 0 });
      world.buffer.close();
      for (const name of RECORD_CLASSES) {
        const told = world.delivered.filter((entry) => entry.class === name).flatMap(namesOf);
        const once = new Set(told);
        const twice = told.filter((each, index) => told.indexOf(each) !== index);
        expect(twice.filter((each) => !world.mayComeTwice.has(each))).toEqual([]);
        const missing = world.appended[name].map((each) => each.name).filter((each) => !once.has(each));
        expect(missing.filter((each) => !world.mayBeLost.has(each))).toEqual([]);
        // In order of arrival, leaving out what a kill let come again.
        const order = new Map(world.appended[name].map((each, index) => [each.name, index]));
        const places = world.delivered
          .filter((entry) => entry.class === name && entry.type === 'record')
          .flatMap(namesOf)
          .filter((each) => !world.mayComeTwice.has(each))
          .map((each) => order.get(each) ?? -1);
        expect(places).toEqual(places.toSorted((a, b) => a - b));
        expect(places).not.toContain(-1);
      }
      rmSync(join(root, `${worlds - 1}`), { recursive: true, force: true });
    }),
    { numRuns: 300 },
  );
}, 180_000);
