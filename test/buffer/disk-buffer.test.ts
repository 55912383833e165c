import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterAll, expect, test } from 'vitest';
import {
  type BufferEvent,
  type DiskBufferOptions,
  type DurableBuffer,
  openDiskBuffer,
} from '../../supervisor/buffer/disk-buffer.ts';
import type { RecordBuffer } from '../../supervisor/buffer/record-buffer.ts';
import { VirtualClock } from '../gateway/virtual-clock.ts';
import { noFaults, openFaulty } from './faulty-database.ts';
import { describeRecordBuffer, messageOf, record } from './suite.ts';

const root = mkdtempSync(join(tmpdir(), 'disk-buffer-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));

let count = 0;
describeRecordBuffer('the disk buffer', (maxBytes) =>
  openDiskBuffer({
    directory: join(root, `${count++}`),
    boot: 'boot-1',
    sandboxId: 'sb-1',
    clock: new VirtualClock(),
    maxBytes,
    report: (event) => {
      throw new Error(JSON.stringify(event));
    },
  }),
);

const ALL = { maxEntries: 1e9, maxBytes: 1e9 };

class Place {
  readonly directory = join(root, `p${count++}`);
  readonly clock = new VirtualClock();
  readonly faults = noFaults();
  readonly events: BufferEvent[] = [];

  open(boot = 'boot-1', options: Partial<DiskBufferOptions> = {}): DurableBuffer {
    return openDiskBuffer({
      directory: this.directory,
      boot,
      sandboxId: 'sb-1',
      clock: this.clock,
      report: (event) => void this.events.push(event),
      open: openFaulty(this.faults),
      ...options,
    });
  }
}

function texts(buffer: RecordBuffer): readonly string[] {
  const found: string[] = [];
  for (let batch = buffer.nextBatch(ALL); batch !== undefined; batch = buffer.nextBatch(ALL)) {
    found.push(
      ...batch.entries.map((entry) =>
        entry.type === 'record' ? `${entry.boot} ${messageOf(entry)}` : 'gap',
      ),
    );
    buffer.ack(batch);
  }
  return found;
}

const modeOf = (path: string): string => (statSync(path).mode & 0o7777).toString(8);

test('its directory is 0700 and its files 0600, whatever the umask and whatever they were', () => {
  const place = new Place();
  mkdirSync(place.directory, { mode: 0o755 });
  const before = process.umask(0);
  try {
    const buffer = place.open();
    buffer.append('logs', record('one'));
    expect(modeOf(place.directory)).toBe('700');
    expect(readdirSync(place.directory).toSorted()).toEqual(['records.db', 'records.db-wal']);
    for (const name of readdirSync(place.directory)) expect(modeOf(join(place.directory, name))).toBe('600');
    buffer.close();
    chmodSync(join(place.directory, 'records.db'), 0o666);
    place.open('boot-2').close();
    expect(modeOf(join(place.directory, 'records.db'))).toBe('600');
  } finally {
    process.umask(before);
  }
});

test.each([
  ['a directory that is a link', (at: string) => symlinkSync(mkdtempSync(join(root, 'else-')), at)],
  ['a directory that is a file', (at: string) => writeFileSync(at, '')],
  [
    'a file that is a link',
    (at: string) => {
      mkdirSync(at);
      writeFileSync(`${at}-victim`, 'precious');
      symlinkSync(`${at}-victim`, join(at, 'records.db'));
    },
  ],
  [
    'a log that is a link',
    (at: string) => {
      mkdirSync(at);
      writeFileSync(`${at}-victim`, 'precious');
      symlinkSync(`${at}-victim`, join(at, 'records.db-wal'));
    },
  ],
  [
    'a file with another name elsewhere',
    (at: string) => {
      mkdirSync(at);
      writeFileSync(join(at, 'records.db'), '');
      linkSync(join(at, 'records.db'), `${at}-other`);
    },
  ],
])('%s is not used: records stay in memory, and that is told', async (_, make) => {
  const place = new Place();
  make(place.directory);
  const buffer = place.open();
  expect(buffer.append('audit', record('one'))).toBe('kept');
  expect(buffer.stats().degraded).toBeDefined();
  await undefined;
  expect(place.events.map(({ kind }) => kind)).toEqual(['degraded']);
  if (existsSync(`${place.directory}-victim`))
    expect(readFileSync(`${place.directory}-victim`, 'utf8')).toBe('precious');
  expect(texts(buffer)).toEqual(['boot-1 one']);
  buffer.close();
});

test('what a predecessor left comes first, under its own name, and its file is used on', async () => {
  const place = new Place();
  const first = place.open('boot-1');
  for (const message of ['a', 'b', 'c']) first.append('logs', record(message));
  first.append('status', record('exit'));
  const batch = first.nextBatch({ maxEntries: 1, maxBytes: 1e9 });
  if (batch !== undefined) first.ack(batch);
  first.close();
  const second = place.open('boot-2');
  second.append('status', record('own'));
  second.append('logs', record('own'));
  await undefined;
  expect(place.events).toEqual([{ kind: 'predecessor', records: 3 }]);
  const entries = second.nextBatch(ALL)?.entries ?? [];
  expect(
    entries.map((entry) => (entry.type === 'record' ? [entry.boot, entry.class, entry.sequence] : [])),
  ).toEqual([
    ['boot-1', 'logs', 2],
    ['boot-1', 'logs', 3],
    ['boot-1', 'status', 1],
    ['boot-2', 'status', 1],
    ['boot-2', 'logs', 1],
  ]);
  second.close();
});

test('another sandbox’s records on the same volume are not ours to deliver', async () => {
  const place = new Place();
  const other = place.open('boot-0', { sandboxId: 'sb-2' });
  other.append('logs', record('secret of another'));
  other.close();
  const buffer = place.open();
  buffer.append('logs', record('own'));
  expect(texts(buffer)).toEqual(['boot-1 own']);
  await undefined;
  expect(place.events).toMatchObject([{ kind: 'damaged', recovered: 0 }]);
  buffer.close();
});

test('a file of a layout to come is set aside', () => {
  const place = new Place();
  place.open().close();
  const db = new DatabaseSync(join(place.directory, 'records.db'));
  db.exec('PRAGMA user_version = 99');
  db.close();
  const buffer = place.open('boot-2');
  buffer.append('logs', record('one'));
  expect(buffer.stats().degraded).toBeUndefined();
  expect(existsSync(join(place.directory, 'records.db.damaged'))).toBe(true);
  expect(texts(buffer)).toEqual(['boot-2 one']);
  buffer.close();
});

test('a full disk sends records to memory and back, without loss or reorder, and says so', async () => {
  const place = new Place();
  const buffer = place.open();
  buffer.append('logs', record('1'));
  place.faults.full = true;
  buffer.append('logs', record('2'));
  buffer.append('audit', record('3'));
  expect(buffer.stats()).toMatchObject({ degraded: expect.stringContaining('full'), entries: 3 });
  place.clock.run(5_000);
  expect(buffer.stats().degraded).toBeDefined();
  place.faults.full = false;
  place.clock.run(60_000);
  expect(buffer.stats()).toMatchObject({ degraded: undefined, entries: 3 });
  buffer.append('logs', record('4'));
  await undefined;
  expect(place.events.map(({ kind }) => kind)).toEqual(['degraded', 'restored']);
  buffer.close();
  const next = place.open('boot-2');
  expect(texts(next)).toEqual(['1', '2', '3', '4'].map((one) => `boot-1 ${one}`));
  next.close();
});

test('while the disk takes nothing, what is delivered is delivered once, and memory stays within 4 MiB', () => {
  const place = new Place();
  const buffer = place.open();
  buffer.append('logs', record('on disk'));
  place.faults.full = true;
  expect(texts(buffer)).toEqual(['boot-1 on disk']);
  expect(texts(buffer)).toEqual([]);
  for (let index = 0; index < 20_000; index += 1) buffer.append('logs', record('x'.repeat(500)));
  expect(buffer.stats().bytes).toBeLessThanOrEqual(4 * 1024 * 1024);
  expect(buffer.stats().classes.logs.lost).toBeGreaterThan(10_000);
  place.faults.full = false;
  place.clock.run(60_000);
  const rest = texts(buffer);
  expect(rest[0]).toBe('gap');
  expect(rest).not.toContain('boot-1 on disk');
  buffer.close();
});

test('a directory that is missing at first is used as soon as it can be made', () => {
  const place = new Place();
  const parent = join(root, `parent-${count++}`);
  const buffer = place.open('boot-1', { directory: join(parent, 'state') });
  buffer.append('status', record('early'));
  expect(buffer.stats().degraded).toBeDefined();
  mkdirSync(parent);
  place.clock.run(3_000);
  expect(buffer.stats().degraded).toBeUndefined();
  expect(existsSync(join(parent, 'state', 'records.db'))).toBe(true);
  expect(texts(buffer)).toEqual(['boot-1 early']);
  buffer.close();
});

test('a file that is taken away is noticed within a second, and another one is begun', () => {
  const place = new Place();
  const buffer = place.open();
  buffer.append('logs', record('one'));
  rmSync(place.directory, { recursive: true });
  place.clock.run(600);
  expect(buffer.stats().degraded).toMatch(/taken away/);
  expect(texts(buffer)).toEqual(['boot-1 one']);
  buffer.append('logs', record('two'));
  place.clock.run(120_000);
  expect(buffer.stats().degraded).toBeUndefined();
  expect(existsSync(join(place.directory, 'records.db'))).toBe(true);
  expect(texts(buffer)).toEqual(['boot-1 two']);
  buffer.close();
});

test('a second supervisor on the same volume waits in memory until the first is gone', () => {
  const place = new Place();
  const first = place.open('boot-1');
  first.append('logs', record('first'));
  const second = place.open('boot-2');
  second.append('logs', record('second'));
  expect(second.stats().degraded).toMatch(/locked/);
  first.close();
  place.clock.run(5_000);
  expect(second.stats().degraded).toBeUndefined();
  expect(texts(second)).toEqual(['boot-1 first', 'boot-2 second']);
  second.close();
});

test.each([
  ['audit', 100],
  ['status', 100],
  ['logs', 1_000],
  ['samples', 1_000],
] as const)(
  'a record of class %s is written through within %i ms, under a stream of others too',
  (recordClass, ms) => {
    const place = new Place();
    const syncs: number[] = [];
    place.faults.syncs.push(() => syncs.push(place.clock.monotonic()));
    const buffer = place.open();
    buffer.append(recordClass, record('alone'));
    place.clock.run(ms);
    // Half of the promise is left to the disk.
    expect(syncs.filter((at) => at <= ms / 2)).toHaveLength(1);
    const written: number[] = [];
    for (let step = 0; step < 300; step += 1) {
      written.push(place.clock.monotonic());
      buffer.append(step % 3 === 0 ? 'logs' : recordClass, record('stream'));
      place.clock.run(7);
    }
    place.clock.run(1_000);
    for (const [index, at] of written.entries())
      if (index % 3 !== 0) expect(syncs.some((sync) => sync >= at && sync <= at + ms / 2)).toBe(true);
    expect(syncs.length).toBeLessThan(120);
    buffer.close();
  },
);

test('after a power loss everything is there that was appended before the last sync', () => {
  const place = new Place();
  let saved: { readonly db: Buffer; readonly wal: Buffer; readonly appended: number } | undefined;
  let appended = 0;
  const file = join(place.directory, 'records.db');
  place.faults.syncs.push(() => {
    saved = { db: readFileSync(file), wal: readFileSync(`${file}-wal`), appended };
  });
  const buffer = place.open('boot-1', { maxBytes: 512 * 1024 });
  for (let round = 0; round < 60; round += 1) {
    for (let index = 0; index < 50; index += 1) {
      buffer.append('audit', record(`${++appended} ${'.'.repeat(index * 20)}`));
      place.clock.run(3);
    }
    if (saved === undefined) continue;
    const directory = join(root, `power-${count++}`);
    mkdirSync(directory);
    writeFileSync(join(directory, 'records.db'), saved.db);
    writeFileSync(join(directory, 'records.db-wal'), saved.wal);
    const next = new Place().open('boot-2', { directory, maxBytes: 512 * 1024 });
    const entries = next.nextBatch(ALL)?.entries ?? [];
    const names = entries.flatMap((entry) =>
      entry.type === 'gap' ? [entry.first, entry.last] : [entry.sequence],
    );
    expect(names.at(-1)).toBeGreaterThanOrEqual(saved.appended);
    next.close();
    rmSync(directory, { recursive: true });
  }
  buffer.close();
});

test('the order is that of arrival, however the clock jumps', () => {
  const place = new Place();
  const buffer = place.open();
  const instants = [1e12, 0, -5e11, 9e15, 1e12, Number.NaN];
  for (const [index, at] of instants.entries())
    buffer.append('logs', { kind: 'log', at, level: 'INFO', target: 't', message: `${index}`, fields: {} });
  expect(texts(buffer)).toEqual(instants.map((_, index) => `boot-1 ${index}`));
  buffer.close();
});

test('three times the bound leaves files of about the bound, and every loss is told', () => {
  const place = new Place();
  const maxBytes = 4 * 1024 * 1024;
  const buffer = place.open('boot-1', { maxBytes });
  const total = 12_000;
  for (let index = 0; index < total; index += 1) {
    buffer.append('logs', record('y'.repeat(900)));
    if (index % 500 === 0) place.clock.run(1_000);
  }
  place.clock.run(1_000);
  const sizes = readdirSync(place.directory).map((name) => statSync(join(place.directory, name)).size);
  expect(sizes.reduce((a, b) => a + b, 0)).toBeLessThan(maxBytes * 1.2 + 20 * 1024 * 1024);
  expect(statSync(join(place.directory, 'records.db')).size).toBeLessThan(maxBytes * 1.25);
  const { records, lost } = buffer.stats().classes.logs;
  expect(records + lost).toBe(total);
  expect(buffer.nextBatch({ maxEntries: 1, maxBytes: 1 })?.entries).toMatchObject([
    { type: 'gap', first: 1, count: lost },
  ]);
  buffer.close();
});

test('many records as one change are all there', () => {
  const place = new Place();
  const buffer = place.open();
  const many = Array.from({ length: 500 }, (_, index) => record(`${index}`));
  expect(buffer.appendAll('audit', many).every((outcome) => outcome === 'kept')).toBe(true);
  expect(texts(buffer)).toEqual(many.map(({ message }) => `boot-1 ${message}`));
  place.faults.full = true;
  expect(buffer.appendAll('audit', many).every((outcome) => outcome === 'kept')).toBe(true);
  expect(texts(buffer)).toHaveLength(500);
  buffer.close();
});

test('after its close it still takes records, in memory', () => {
  const place = new Place();
  const buffer = place.open();
  buffer.close();
  expect(buffer.append('logs', record('late'))).toBe('kept');
  expect(buffer.stats().degraded).toBe('closed');
  buffer.close();
});

const mayMount = process.getuid?.() === 0 && spawnSync('unshare', ['-m', 'true']).status === 0;
/** Runs a script of this folder on a disk of its own, and reads what it printed. */
function onOwnDisk(script: string): unknown {
  const directory = join(root, `disk-${count++}`);
  mkdirSync(directory);
  const command = `mount -t tmpfs -o size=8m,mode=700 none ${directory} && exec ${process.execPath} ${join(import.meta.dirname, script)} ${directory}`;
  const run = spawnSync('unshare', ['-m', 'sh', '-c', command], { encoding: 'utf8', timeout: 60_000 });
  expect(run.stderr).toBe('');
  return JSON.parse(run.stdout);
}
const skipped = mayMount ? '' : ' (skipped: needs root to mount a tmpfs)';
test.skipIf(!mayMount)(`a real disk of 8 MiB that fills up and is emptied again${skipped}`, () => {
  expect(onOwnDisk('full-disk.ts')).toEqual({
    degraded: true,
    restored: true,
    inOrder: true,
    accounted: true,
  });
});
test.skipIf(!mayMount)(
  `a real disk that is read-only at first keeps nothing from being taken${skipped}`,
  () => {
    expect(onOwnDisk('read-only-disk.ts')).toEqual({
      degraded: expect.stringMatching(/EROFS|read-?only/i),
      restored: true,
      messages: Array.from({ length: 100 }, (_, index) => `${index}`),
    });
  },
);
