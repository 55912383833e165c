import { type ClassQueue, gapOf, joined, type Placed, type Totals } from './class-queue.ts';
import { DamagedFile, type Database, type Row, type Statement, type Value } from './database.ts';
import {
  ENTRY_OVERHEAD_BYTES,
  type Entry,
  type GapEntry,
  LOSS_REASONS,
  type LossReason,
  RECORD_CLASSES,
  type RecordClass,
  type RecordEntry,
} from './record.ts';
import { checksum, decodeRecord, encodeRecord } from './record-codec.ts';

/** Of the layout below; another one is set aside. */
export const LAYOUT = 1;

/**
 * A table a class, in the order of arrival. `kind` is 0 for a record, else 1 + the index of the gap's reason;
 * `bytes` are the accounted ones of the record or of all that a gap stands for. No index: an append touches
 * one page.
 */
export const SCHEMA = [
  'CREATE TABLE IF NOT EXISTS boots (id INTEGER PRIMARY KEY, boot TEXT NOT NULL UNIQUE) STRICT',
  ...RECORD_CLASSES.map(
    (name) => `CREATE TABLE IF NOT EXISTS ${name} (place INTEGER PRIMARY KEY, boot INTEGER NOT NULL,
      first INTEGER NOT NULL, last INTEGER NOT NULL, count INTEGER NOT NULL, bytes INTEGER NOT NULL,
      kind INTEGER NOT NULL, sum INTEGER NOT NULL, body TEXT NOT NULL) STRICT`,
  ),
].join(';');

/** Boots by their number in the file. */
export class Boots {
  readonly #byId = new Map<number, string>();
  readonly #byName = new Map<string, number>();
  readonly #insert: Statement;

  constructor(db: Database) {
    for (const { id, boot } of db.prepare('SELECT id, boot FROM boots').all())
      this.#know(Number(id), String(boot));
    this.#insert = db.prepare(
      'INSERT INTO boots (boot) VALUES (?) ON CONFLICT DO UPDATE SET boot = boot RETURNING id',
    );
  }

  name(id: number): string {
    return this.#byId.get(id) ?? '';
  }

  /** Its number, given to it now if it has none. */
  id(boot: string): number {
    const known = this.#byName.get(boot);
    if (known !== undefined) return known;
    const id = Number(this.#insert.get(boot)?.['id']);
    this.#know(id, boot);
    return id;
  }

  /** After a transaction that failed: who was given a number in it has none. */
  forgetNumbers(): void {
    this.#byName.clear();
  }

  #know(id: number, boot: string): void {
    this.#byId.set(id, boot);
    this.#byName.set(boot, id);
  }
}

/**
 * A {@link ClassQueue} in a table. Whatever SQLite throws goes to the caller, who rolls back and restores the
 * sums by {@link restore}; but what was delivered is forgotten even when the disk will not have it deleted.
 */
export class DiskQueue implements ClassQueue {
  readonly #class: RecordClass;
  readonly #boots: Boots;
  readonly #sql: Readonly<
    Record<'insert' | 'after' | 'victim' | 'losable' | 'before' | 'drop' | 'delete', Statement>
  >;
  #totals: Totals;
  /** Places that are delivered, though rows of them may be left. */
  #floor: number;
  #pinned = 0;
  /** The highest place that was found damaged and is counted as such. */
  #damaged = 0;
  #corrupt = 0;
  #dropFailure: unknown;

  /** Rows up to `floor` are delivered already, though an earlier opening could not delete them. */
  constructor(db: Database, recordClass: RecordClass, boots: Boots, floor: number) {
    this.#floor = floor;
    this.#class = recordClass;
    this.#boots = boots;
    const table = recordClass;
    this.#sql = {
      insert: db.prepare(`INSERT OR REPLACE INTO ${table} VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`),
      after: db.prepare(`SELECT * FROM ${table} WHERE place > ? ORDER BY place LIMIT 1`),
      // Without its text: when the buffer is full this is asked for each append.
      victim: db.prepare(
        `SELECT place, boot, first, last, count, bytes FROM ${table}
         WHERE place > ? AND kind = 0 ORDER BY place LIMIT 1`,
      ),
      losable: db.prepare(`SELECT place FROM ${table} WHERE place > ? AND kind = 0 ORDER BY place LIMIT 1`),
      before: db.prepare(
        `SELECT place, boot, first, last, count, bytes, kind, sum, iif(kind = 0, '', body) AS body FROM ${table}
         WHERE place < ? AND place > ? ORDER BY place DESC LIMIT 1`,
      ),
      drop: db.prepare(`DELETE FROM ${table} WHERE place <= ?`),
      delete: db.prepare(`DELETE FROM ${table} WHERE place = ?`),
    };
    const sums = db
      .prepare(
        `SELECT count(*) AS entries, ifnull(sum(kind = 0), 0) AS records,
         ifnull(sum(iif(kind = 0, bytes, ${ENTRY_OVERHEAD_BYTES})), 0) AS bytes FROM ${table} WHERE place > ?`,
      )
      .get(floor);
    this.#totals = {
      bytes: Number(sums?.['bytes']),
      entries: Number(sums?.['entries']),
      records: Number(sums?.['records']),
      lost: 0,
    };
  }

  get floor(): number {
    return this.#floor;
  }

  get totals(): Totals {
    return this.#totals;
  }

  /** Rows that were not what had been written. */
  get corrupt(): number {
    return this.#corrupt;
  }

  /** The sums as they were before a transaction that failed. */
  restore(totals: Totals): void {
    this.#totals = totals;
  }

  push(place: number, entry: Entry): void {
    this.#insert(place, entry);
    this.#add(
      entry.type === 'record' ? entry.bytes : ENTRY_OVERHEAD_BYTES,
      1,
      entry.type === 'record' ? 1 : 0,
    );
    if (entry.type === 'gap') this.#mergeWithOlder(place, entry);
  }

  pushLost(place: number, entry: RecordEntry): void {
    this.#lose(1);
    this.push(place, gapOf(entry, 'buffer full'));
  }

  after(place: number): Placed | undefined {
    const row = this.#sql.after.get(Math.max(place, this.#floor));
    if (row === undefined) return undefined;
    const placed = this.#placed(row);
    // A page that links to another's must not lead in circles.
    if (!(placed.place > Math.max(place, this.#floor))) throw new DamagedFile('the rows are out of order');
    const wasRecord = row['kind'] === 0;
    // Rows are met in their order, so what lies behind the last damaged one has not been counted yet.
    if (wasRecord && placed.entry.type === 'gap' && placed.place > this.#damaged)
      this.#countDamaged(placed, row);
    return placed;
  }

  oldestLosable(): number | undefined {
    const row = this.#sql.losable.get(Math.max(this.#pinned, this.#floor));
    return row === undefined ? undefined : Number(row['place']);
  }

  loseOldest(): void {
    const row = this.#sql.victim.get(Math.max(this.#pinned, this.#floor));
    if (row === undefined) return;
    const place = Number(row['place']);
    const gap = this.#gapOfRow(row, 'buffer full');
    this.#lose(1);
    const older = this.#gapBefore(place);
    const one = joined(older?.entry, gap);
    let merged: Placed = { place, entry: gap };
    if (older !== undefined && one !== undefined) {
      merged = { place: older.place, entry: one };
      this.#insert(merged.place, one);
      this.#sql.delete.run(place);
      this.#add(-gap.lostBytes, -1, -1);
    } else {
      this.#insert(place, gap);
      this.#add(ENTRY_OVERHEAD_BYTES - gap.lostBytes, 0, -1);
    }
    const next = this.#sql.after.get(merged.place);
    if (next !== undefined && next['kind'] !== 0) this.#merge(merged, this.#placed(next));
  }

  pin(through: number): void {
    this.#pinned = through;
  }

  /** Why the last {@link dropPinned} could not delete the rows; they count as gone all the same. */
  get dropFailure(): unknown {
    return this.#dropFailure;
  }

  unpin(): void {
    const boundary = this.#pinned;
    this.#pinned = 0;
    if (boundary === 0) return;
    const row = this.#sql.after.get(Math.max(boundary, this.#floor));
    if (row === undefined || row['kind'] === 0) return;
    const { place, entry } = this.#placed(row);
    if (entry.type === 'gap') this.#mergeWithOlder(place, entry);
  }

  dropPinned(out: readonly Placed[]): void {
    const last = out.at(-1);
    this.#pinned = 0;
    if (last === undefined) return;
    this.#floor = Math.max(this.#floor, last.place);
    for (const { entry } of out)
      if (entry.type === 'record') this.#add(-entry.bytes, -1, -1);
      else this.#add(-ENTRY_OVERHEAD_BYTES, -1, 0);
    this.#dropFailure = undefined;
    try {
      this.#sql.drop.run(this.#floor);
    } catch (error) {
      this.#dropFailure = error;
    }
  }

  /** Deletes the rows of what is delivered. */
  sweep(): void {
    this.#sql.drop.run(this.#floor);
  }

  losePinned(out: readonly Placed[], reason: LossReason): void {
    this.#pinned = 0;
    for (const { place, entry } of out)
      if (entry.type === 'gap') {
        this.#sql.delete.run(place);
        this.#add(-ENTRY_OVERHEAD_BYTES, -1, 0);
      } else {
        this.#insert(place, gapOf(entry, reason));
        this.#add(ENTRY_OVERHEAD_BYTES - entry.bytes, 0, -1);
        this.#lose(1);
      }
    for (const { place } of out) {
      const row = this.#sql.after.get(place - 1);
      if (row?.['place'] !== place) continue;
      const { entry } = this.#placed(row);
      if (entry.type === 'gap') this.#mergeWithOlder(place, entry);
    }
    const last = out.at(-1);
    const next = last === undefined ? undefined : this.#sql.after.get(last.place);
    if (next === undefined || next['kind'] === 0) return;
    const behind = this.#placed(next);
    if (behind.entry.type === 'gap') this.#mergeWithOlder(behind.place, behind.entry);
  }

  /** Makes one of this gap and the one before it, where that may be. */
  #mergeWithOlder(place: number, gap: GapEntry): void {
    const older = this.#gapBefore(place);
    if (older !== undefined) this.#merge(older, { place, entry: gap });
  }

  #gapBefore(place: number): Placed | undefined {
    const row = this.#sql.before.get(place, Math.max(this.#pinned, this.#floor));
    return row === undefined || row['kind'] === 0 ? undefined : this.#placed(row);
  }

  #merge(older: Placed, newer: Placed): void {
    const one = joined(older.entry, newer.entry);
    if (one === undefined) return;
    this.#insert(older.place, one);
    this.#sql.delete.run(newer.place);
    this.#add(-ENTRY_OVERHEAD_BYTES, -1, 0);
  }

  #insert(place: number, entry: Entry): void {
    const { first, last, count, bytes, kind, body } = columnsOf(entry);
    const sum = checksum([entry.boot, entry.class, first, last, count, bytes, kind], body);
    const values: readonly Value[] = [
      place,
      this.#boots.id(entry.boot),
      first,
      last,
      count,
      bytes,
      kind,
      sum,
      body,
    ];
    this.#sql.insert.run(...values);
  }

  #placed(row: Row): Placed {
    const place = Number(row['place']);
    const { first, last, count, bytes, kind } = row;
    const body = String(row['body']);
    const boot = this.#boots.name(Number(row['boot']));
    const sequence = Number(first);
    const name = [boot, this.#class, sequence, Number(last), Number(count), Number(bytes), Number(kind)];
    const intact = row['sum'] === checksum(name, body);
    const reason = intact ? LOSS_REASONS[Number(kind) - 1] : undefined;
    if (reason !== undefined) return { place, entry: this.#gapOfRow(row, reason) };
    const record = intact ? decodeRecord(body) : undefined;
    if (record === undefined) return { place, entry: this.#gapOfRow(row, 'corrupt') };
    return {
      place,
      entry: { type: 'record', boot, class: this.#class, sequence, record, bytes: Number(row['bytes']) },
    };
  }

  #gapOfRow(row: Row, reason: LossReason): GapEntry {
    return {
      type: 'gap',
      boot: this.#boots.name(Number(row['boot'])),
      class: this.#class,
      first: Number(row['first']),
      last: Number(row['last']),
      count: Number(row['count']),
      lostBytes: Number(row['bytes']),
      reason,
    };
  }

  #countDamaged({ place, entry }: Placed, row: Row): void {
    this.#damaged = place;
    this.#corrupt += 1;
    this.#lose(1);
    this.#add(ENTRY_OVERHEAD_BYTES - Number(row['bytes']), 0, -1);
    try {
      this.#insert(place, entry);
    } catch {
      // A disk that takes nothing: the row reads as damaged again next time, and is not counted again.
    }
  }

  #add(bytes: number, entries: number, records: number): void {
    const now = this.#totals;
    this.#totals = {
      bytes: now.bytes + bytes,
      entries: now.entries + entries,
      records: now.records + records,
      lost: now.lost,
    };
  }

  #lose(count: number): void {
    this.#totals = { ...this.#totals, lost: this.#totals.lost + count };
  }
}

function columnsOf(entry: Entry): {
  readonly first: number;
  readonly last: number;
  readonly count: number;
  readonly bytes: number;
  readonly kind: number;
  readonly body: string;
} {
  if (entry.type === 'gap') {
    const { first, last, count, lostBytes } = entry;
    return { first, last, count, bytes: lostBytes, kind: 1 + LOSS_REASONS.indexOf(entry.reason), body: '' };
  }
  const { sequence, bytes, record } = entry;
  return { first: sequence, last: sequence, count: 1, bytes, kind: 0, body: encodeRecord(record) };
}
