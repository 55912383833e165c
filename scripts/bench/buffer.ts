import { closeSync, fdatasyncSync, mkdirSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { type Database, type OpenDatabase, openDatabase } from '../../supervisor/buffer/database.ts';
import { type DurableBuffer, openDiskBuffer } from '../../supervisor/buffer/disk-buffer.ts';
import { createMemoryBuffer } from '../../supervisor/buffer/memory-buffer.ts';
import type { BufferRecord } from '../../supervisor/buffer/record.ts';
import type { RecordBuffer } from '../../supervisor/buffer/record-buffer.ts';
import { encodeRecord } from '../../supervisor/buffer/record-codec.ts';
import { systemClock } from '../../supervisor/clock.ts';
import { figure, heading, quantile, row } from './report.ts';
import type { Bench } from './subject.ts';

const COUNT = 30_000;
const SYNCED = 300;
const BATCH = 100;
/** Room for timers: an append storm that never yields would keep the syncs from happening. */
const TURN = 50;
const FULL_BYTES = 4 * 1024 * 1024;

/** Appends and replay of the offline buffer, beside a plain file that is appended to, with and without fsync. */
export async function buffer(bench: Bench): Promise<void> {
  const directory = join(bench.directory, 'buffer');
  mkdirSync(directory);
  try {
    await appends(directory);
    await replay(directory);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

async function appends(directory: string): Promise<void> {
  heading(`Offline buffer: appends of ${encodeRecord(recordOf(0)).length} bytes`);
  row('', 'a second', 'p50 µs', 'p99 µs', 'longest ms');
  const memory = createMemoryBuffer({ boot: 'bench' });
  report('memory buffer, one by one', await timed(COUNT, (index) => memory.append('logs', recordOf(index))));

  const syncs: number[] = [];
  const checkpoints: number[] = [];
  const disk = open(join(directory, 'one'), watched(syncs, checkpoints));
  report('disk buffer, one by one', await timed(COUNT, (index) => disk.append('audit', recordOf(index))));
  disk.close();
  const many = open(join(directory, 'many'));
  const hundred = Array.from({ length: BATCH }, (_, index) => recordOf(index));
  report(
    `disk buffer, ${BATCH} at a time`,
    await timed(COUNT / BATCH, () => many.appendAll('audit', hundred)),
    BATCH,
  );
  many.close();
  const full = open(join(directory, 'full'), openDatabase, FULL_BYTES);
  while (full.stats().classes.logs.lost === 0) full.appendAll('logs', hundred);
  report(
    'disk buffer, full: the oldest goes each time',
    await timed(COUNT / 3, (index) => full.append('logs', recordOf(index))),
  );
  full.close();

  const plain = openSync(join(directory, 'plain'), 'a');
  const line = (index: number): string => `${encodeRecord(recordOf(index))}\n`;
  report('plain file, one write each', await timed(COUNT, (index) => writeSync(plain, line(index))));
  const synced = await timed(SYNCED, (index) => {
    writeSync(plain, line(index));
    fdatasyncSync(plain);
  });
  report('plain file, write and fdatasync each', synced);
  const batches = await timed(SYNCED, () => {
    writeSync(plain, hundred.map((record) => `${encodeRecord(record)}\n`).join(''));
    fdatasyncSync(plain);
  });
  report(`plain file, ${BATCH} and one fdatasync`, batches, BATCH);
  closeSync(plain);
  row(
    'disk buffer: a sync in the background, ms',
    figure(quantile(syncs, 0.5)),
    figure(quantile(syncs, 0.99)),
  );
  row(
    'disk buffer: a checkpoint blocks, ms',
    figure(quantile(checkpoints, 0.5)),
    figure(quantile(checkpoints, 1)),
  );
}

async function replay(directory: string): Promise<void> {
  heading('Offline buffer: replay, batches of 50 taken and acknowledged');
  const memory = createMemoryBuffer({ boot: 'bench', maxBytes: 64 * 1024 * 1024 });
  const disk = open(join(directory, 'replay'));
  for (const one of [memory, disk])
    for (let index = 0; index < COUNT; index += 1) one.append('logs', recordOf(index));
  disk.close();
  const begun = performance.now();
  const again = open(join(directory, 'replay'));
  row(`opening a file of ${COUNT} records, ms`, figure(performance.now() - begun));
  row('memory buffer, records a second', figure(await drained(memory)));
  row('disk buffer, records a second', figure(await drained(again)));
  again.close();
  const text = readFileSync(join(directory, 'plain'), 'utf8').split('\n');
  const reading = performance.now();
  let read = 0;
  for (const line of text) if (line !== '' && Array.isArray(JSON.parse(line))) read += 1;
  row('plain file, lines parsed a second', figure((read / (performance.now() - reading)) * 1000));
}

async function drained(one: RecordBuffer): Promise<number> {
  const begun = performance.now();
  let records = 0;
  for (;;) {
    const batch = one.nextBatch({ maxEntries: 50, maxBytes: 256 * 1024 });
    if (batch === undefined) break;
    records += batch.entries.length;
    one.ack(batch);
    if (records % 1_000 === 0) await turn();
  }
  return (records / (performance.now() - begun)) * 1000;
}

/** Milliseconds of each act. */
async function timed(count: number, act: (index: number) => void): Promise<readonly number[]> {
  const times: number[] = [];
  for (let index = 0; index < count; index += 1) {
    const begun = performance.now();
    act(index);
    times.push(performance.now() - begun);
    if (index % TURN === TURN - 1) await turn();
  }
  return times;
}

function report(what: string, times: readonly number[], each = 1): void {
  const total = times.reduce((sum, ms) => sum + ms, 0);
  const micros = (share: number): string => figure((quantile(times, share) * 1000) / each);
  row(
    what,
    figure(((times.length * each) / total) * 1000),
    micros(0.5),
    micros(0.99),
    figure(quantile(times, 1)),
  );
}

function open(directory: string, how: OpenDatabase = openDatabase, maxBytes?: number): DurableBuffer {
  return openDiskBuffer({
    directory,
    boot: 'bench',
    sandboxId: 'bench',
    clock: systemClock,
    open: how,
    ...(maxBytes === undefined ? {} : { maxBytes }),
    report(event) {
      if (event.kind === 'degraded') throw new Error(event.reason);
    },
  });
}

/** The real database, which also notes what its syncs and checkpoints take. */
function watched(syncs: number[], checkpoints: number[]): OpenDatabase {
  return (file): Database => {
    const db = openDatabase(file);
    return {
      ...db,
      sync(done) {
        const begun = performance.now();
        db.sync((error) => {
          syncs.push(performance.now() - begun);
          done(error);
        });
      },
      checkpoint() {
        const begun = performance.now();
        db.checkpoint();
        checkpoints.push(performance.now() - begun);
      },
    };
  };
}

const recordOf = (index: number): BufferRecord => ({
  kind: 'log',
  at: 1_763_880_000_000 + index,
  level: 'INFO',
  target: 'egress',
  message: `allowed GET https://api.example.com/v1/items/${index} by /usr/bin/curl under policy web`,
  fields: { host: 'api.example.com', port: '443', binary: '/usr/bin/curl', bytes: '1234', ms: '17' },
});

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
