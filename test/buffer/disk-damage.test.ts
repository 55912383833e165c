/**
 * A disk gives back what it likes: a file that ends anywhere, pages of noise, a bit that has turned. Whatever it
 * is, the buffer opens, hands out what is whole in its order, counts what it can tell is missing, and goes on.
 */
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type BufferEvent, type DurableBuffer, openDiskBuffer } from '../../supervisor/buffer/disk-buffer.ts';
import type { Entry } from '../../supervisor/buffer/record.ts';
import { VirtualClock } from '../gateway/virtual-clock.ts';
import { messageOf, record } from './suite.ts';

const ALL = { maxEntries: 1e9, maxBytes: 1e9 };
const PAGE = 4_096;
// Thousands of files are made: in memory where there is a place for that.
const root = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'buffer-damage-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));

let made = 0;
function open(
  directory: string,
  boot = 'boot-2',
): { readonly buffer: DurableBuffer; readonly events: BufferEvent[] } {
  const events: BufferEvent[] = [];
  const clock = new VirtualClock();
  const report = (event: BufferEvent): void => void events.push(event);
  return { buffer: openDiskBuffer({ directory, boot, sandboxId: 'sb-1', clock, report }), events };
}

function readAll(buffer: DurableBuffer): readonly Entry[] {
  const entries: Entry[] = [];
  for (let batch = buffer.nextBatch(ALL); batch !== undefined; batch = buffer.nextBatch(ALL)) {
    entries.push(...batch.entries);
    buffer.ack(batch);
  }
  return entries;
}

/** A directory with these bytes as its database. */
function place(db: Buffer, wal?: Buffer): string {
  const directory = join(root, `d${made++}`);
  mkdirSync(directory, { mode: 0o700 });
  writeFileSync(join(directory, 'records.db'), db, { mode: 0o600 });
  if (wal !== undefined) writeFileSync(join(directory, 'records.db-wal'), wal, { mode: 0o600 });
  return directory;
}

/** What holds for every damage; returns the old records that came through. */
async function survives(
  directory: string,
): Promise<{ readonly old: readonly Entry[]; readonly events: BufferEvent[] }> {
  const { buffer, events } = open(directory);
  expect(buffer.append('audit', record('new'))).toBe('kept');
  expect(buffer.stats().degraded).toBeUndefined();
  const entries = readAll(buffer);
  expect(buffer.stats()).toMatchObject({ entries: 0, bytes: 0, degraded: undefined });
  buffer.close();
  await undefined;
  rmSync(directory, { recursive: true, force: true });
  const fresh = entries.filter((entry) => entry.boot === 'boot-2');
  expect(fresh.map((entry) => (entry.type === 'record' ? messageOf(entry) : 'gap'))).toEqual(['new']);
  const old = entries.filter((entry) => entry.boot !== 'boot-2');
  for (const name of ['audit', 'logs'] as const) {
    let last = 0;
    for (const entry of old) {
      if (entry.class !== name) continue;
      if (entry.type === 'gap') {
        expect(entry.reason).toBe('corrupt');
        continue;
      }
      // What is handed out is what was written, and in its order.
      expect(entry.boot).toBe('boot-1');
      expect(messageOf(entry)).toBe(text(entry.sequence));
      expect(entry.sequence).toBeGreaterThan(last);
      last = entry.sequence;
    }
  }
  return { old: old.filter(({ type }) => type === 'record'), events };
}

const text = (sequence: number): string => `record ${sequence} ${'.'.repeat((sequence * 53) % 700)}`;

/** `count` records, alternately audit and logs; the files as they are after a close, or as a kill leaves them. */
function written(count: number, closed: boolean): { readonly db: Buffer; readonly wal: Buffer | undefined } {
  const directory = join(root, `w${made++}`);
  const { buffer } = open(directory, 'boot-1');
  for (let index = 0; index < count; index += 1)
    buffer.append(index % 2 === 0 ? 'audit' : 'logs', record(text(1 + Math.floor(index / 2))));
  if (closed) buffer.close();
  const file = join(directory, 'records.db');
  const copy = join(directory, 'copy');
  copyFileSync(file, copy);
  const wal = existsSync(`${file}-wal`) ? readFileSync(`${file}-wal`) : undefined;
  const db = readFileSync(copy);
  buffer.close();
  rmSync(directory, { recursive: true, force: true });
  return { db, wal };
}

let small: { readonly db: Buffer; readonly wal: Buffer | undefined };
let large: typeof small;
let live: typeof small;
beforeAll(() => {
  small = written(40, true);
  large = written(2_000, true);
  live = written(40, false);
});

test('a database file cut at every byte of its head and its last page, and at every 61st between', async () => {
  const { db } = small;
  expect(db.length).toBeGreaterThan(6 * PAGE);
  let salvaged = 0;
  const cuts = new Set<number>();
  for (let at = 0; at < db.length; at += at < 128 || at >= db.length - PAGE ? 1 : 61) cuts.add(at);
  for (const at of cuts) salvaged += (await survives(place(db.subarray(0, at)))).old.length;
  expect(salvaged).toBeGreaterThan(0);
}, 240_000);

test('a large database file cut at every page boundary, and one byte to either side', async () => {
  const { db } = large;
  let best = 0;
  for (let page = 0; page * PAGE < db.length; page += 4)
    for (const at of [page * PAGE - 1, page * PAGE, page * PAGE + 1]) {
      const { old } = await survives(place(db.subarray(0, Math.max(0, at))));
      best = Math.max(best, old.length);
    }
  expect(best).toBeGreaterThan(1_500);
}, 240_000);

test('a write-ahead log cut anywhere gives back whole commits, up to the cut and no further', async () => {
  const { db, wal } = live;
  if (wal === undefined) throw new Error('there is no log');
  let before = 0;
  for (let at = 0; at <= wal.length; at += 509) {
    const { old, events } = await survives(place(db, wal.subarray(0, at)));
    expect(events.filter(({ kind }) => kind === 'damaged')).toEqual([]);
    expect(old.length).toBeGreaterThanOrEqual(before);
    before = old.length;
  }
  expect((await survives(place(db, wal))).old).toHaveLength(40);
}, 120_000);

test('a page of noise costs what was on it, and what is missing between is counted', async () => {
  const { db } = large;
  let counted = 0;
  for (let page = 12; page * PAGE < db.length; page += 37) {
    const noisy = Buffer.from(db);
    noisy.fill(0xa5, page * PAGE, (page + 1) * PAGE);
    const directory = place(noisy);
    const { buffer, events } = open(directory);
    const entries = readAll(buffer);
    const records = entries.filter(({ type }) => type === 'record').length;
    const lost = entries.reduce((sum, entry) => (entry.type === 'gap' ? sum + entry.count : sum), 0);
    await undefined;
    if (records < 2_000) {
      counted += 1;
      // Unless the page was an inner one or the last of its table, nothing is missing without being counted.
      expect(records + lost).toBeGreaterThan(900);
      expect(buffer.stats().corrupt + events.length).toBeGreaterThan(0);
    }
    buffer.close();
    rmSync(directory, { recursive: true, force: true });
  }
  expect(counted).toBeGreaterThan(3);
}, 120_000);

test('a bit that has turned in a record makes a gap of it alone', async () => {
  const { db } = small;
  const turned = Buffer.from(db);
  // Everywhere, because pages that were split keep stale copies: it is record 7 of either class.
  for (let at = db.indexOf('record 7 ..'); at >= 0; at = db.indexOf('record 7 ..', at + 1))
    turned.writeUInt8(turned.readUInt8(at + 2) ^ 1, at + 2);
  const { buffer } = open(place(turned));
  const entries = readAll(buffer);
  const gaps = entries.filter(({ type }) => type === 'gap');
  const gap = { boot: 'boot-1', first: 7, last: 7, count: 1, reason: 'corrupt' };
  expect(gaps).toMatchObject([
    { ...gap, class: 'audit' },
    { ...gap, class: 'logs' },
  ]);
  expect(entries).toHaveLength(40);
  expect(buffer.stats().corrupt).toBe(2);
  buffer.close();
});

test('any bytes anywhere in it: it opens and goes on', async () => {
  const { db } = small;
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(fc.nat({ max: db.length - 1 }), fc.uint8Array({ minLength: 1, maxLength: 64 })), {
        minLength: 1,
        maxLength: 20,
      }),
      async (patches) => {
        const patched = Buffer.from(db);
        for (const [at, bytes] of patches) patched.set(bytes.subarray(0, db.length - at), at);
        const directory = place(patched);
        const { buffer } = open(directory);
        expect(buffer.append('audit', record('new'))).toBe('kept');
        const entries = readAll(buffer);
        expect(entries.filter(({ type, boot }) => type === 'record' && boot === 'boot-2')).toHaveLength(1);
        for (const entry of entries)
          if (entry.type === 'record' && entry.boot === 'boot-1')
            expect(messageOf(entry)).toBe(text(entry.sequence));
        expect(buffer.stats()).toMatchObject({ entries: 0, degraded: undefined });
        buffer.close();
        rmSync(directory, { recursive: true, force: true });
      },
    ),
    {
      numRuns: 150,
      // Breaks the order of a tree's rows: a new record was taken, and not found again.
      examples: [[[[38538, Uint8Array.from([0, 0, 0, 0, 0, 0, 0, 0, 41, 0])]]]],
    },
  );
}, 120_000);

test('a damaged file is kept beside the new one until the next sound start, and told once', async () => {
  const directory = place(small.db.subarray(0, 5 * PAGE + 100));
  const first = open(directory);
  await undefined;
  expect(first.events.map(({ kind }) => kind)).toContain('damaged');
  first.buffer.close();
  expect(existsSync(join(directory, 'records.db.damaged'))).toBe(true);
  const second = open(directory);
  await undefined;
  expect(second.events.map(({ kind }) => kind)).not.toContain('damaged');
  expect(existsSync(join(directory, 'records.db.damaged'))).toBe(false);
  second.buffer.close();
});

test('what a crash in the middle of a rescue left is finished', async () => {
  const directory = place(Buffer.alloc(0));
  rmSync(join(directory, 'records.db'));
  writeFileSync(join(directory, 'records.db.new'), small.db, { mode: 0o600 });
  expect((await survives(directory)).old).toHaveLength(40);
});
