import { existsSync, renameSync } from 'node:fs';
import { DatabaseSync } from 'node:sqlite';
import { DamagedFile, type Database, type OpenDatabase, type Row, type Value } from './database.ts';
import { LAYOUT, SCHEMA } from './disk-queue.ts';
import { moveDatabase, removeDatabase } from './private-files.ts';
import { ENTRY_OVERHEAD_BYTES, LOSS_REASONS, RECORD_CLASSES, type RecordClass } from './record.ts';
import { checksum } from './record-codec.ts';

export interface Salvaged {
  /** Entries that were read out of the damaged file. */
  readonly recovered: number;
  /** Records that are known to have been in it and could not be read; more may have been at its end. */
  readonly lost: number;
}

/** Failed reads after which the rest of a table is left alone: the start must not hang on a disk of faults. */
const MAX_FAILURES = 2_000;
/** No count of appends gets there: a row behind it is a damaged one. */
export const MAX_PLACE = 2 ** 50;
const COLUMNS = ['boot', 'first', 'last', 'count', 'bytes', 'kind', 'sum', 'body'] as const;
const CORRUPT = 1 + LOSS_REASONS.indexOf('corrupt');

/**
 * Puts a whole database in the place of a damaged one, with all rows that can still be read; the damaged one
 * stays as `aside`. Records that are missing between two that were found become gaps. Throws what the disk
 * says when even a new file cannot be written; the damaged one is then still where it was.
 */
export function salvage(
  file: string,
  aside: string,
  sandboxId: string,
  open: OpenDatabase,
  prepare: (file: string) => void,
): Salvaged {
  const fresh = `${file}.new`;
  removeDatabase(fresh);
  prepare(fresh);
  const into = open(fresh);
  let result: Salvaged;
  try {
    layOut(into, sandboxId);
    into.exec('BEGIN');
    result = copy(file, into, sandboxId);
    into.exec('COMMIT');
    into.checkpoint();
  } finally {
    into.close();
  }
  moveDatabase(file, aside);
  moveDatabase(fresh, file);
  return result;
}

/** After a crash in the middle of {@link salvage}: the new file takes the place that is still empty. */
export function finishSalvage(file: string): void {
  if (!existsSync(file) && existsSync(`${file}.new`)) renameSync(`${file}.new`, file);
}

/** The tables of an empty database, and whose records they hold. */
export function layOut(db: Database, sandboxId: string): void {
  db.exec('BEGIN');
  db.exec(SCHEMA);
  db.exec('CREATE TABLE IF NOT EXISTS owner (id INTEGER PRIMARY KEY, sandbox TEXT NOT NULL) STRICT');
  db.prepare('INSERT OR IGNORE INTO owner VALUES (1, ?)').run(sandboxId);
  db.exec(`PRAGMA user_version = ${LAYOUT}`);
  db.exec('COMMIT');
}

/** The sandbox whose records these are; undefined for an empty database. Throws for another layout. */
export function ownerOf(db: { prepare(sql: string): { get(): Row | undefined } }): string | undefined {
  const version = db.prepare('PRAGMA user_version').get()?.['user_version'];
  if (version === 0) return undefined;
  if (version !== LAYOUT) throw new DamagedFile(`the file has layout ${version}, not ${LAYOUT}`);
  return String(db.prepare('SELECT sandbox FROM owner WHERE id = 1').get()?.['sandbox']);
}

function copy(file: string, into: Database, sandboxId: string): Salvaged {
  let from: DatabaseSync | undefined;
  try {
    from = new DatabaseSync(file, { timeout: 0, defensive: false });
    // A file that is shorter than its head says is refused as a whole unless the schema counts as writable.
    from.exec('PRAGMA locking_mode = EXCLUSIVE; PRAGMA writable_schema = ON; PRAGMA trusted_schema = OFF');
    if (ownerOf(from) !== sandboxId) return { recovered: 0, lost: 0 };
    const boots = copyBoots(from, into);
    let [recovered, lost] = [0, 0];
    for (const name of RECORD_CLASSES) {
      const one = copyTable(from, into, name, boots);
      recovered += one.recovered;
      lost += one.lost;
    }
    return { recovered, lost };
  } catch {
    return { recovered: 0, lost: 0 }; // not even its head can be read
  } finally {
    closeQuietly(from);
  }
}

function copyBoots(from: DatabaseSync, into: Database): ReadonlyMap<number, string> {
  const boots = new Map<number, string>();
  const insert = into.prepare('INSERT OR IGNORE INTO boots VALUES (?, ?)');
  for (const row of readable(from, 'boots', 'id')) {
    boots.set(Number(row['id']), String(row['boot']));
    insert.run(Number(row['id']), String(row['boot']));
  }
  return boots;
}

function copyTable(
  from: DatabaseSync,
  into: Database,
  name: RecordClass,
  boots: ReadonlyMap<number, string>,
): Salvaged {
  const insert = into.prepare(`INSERT OR IGNORE INTO ${name} VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`);
  let [recovered, lost] = [0, 0];
  let before: { readonly place: number; readonly boot: number; readonly last: number } | undefined;
  for (const row of readable(from, name, 'place')) {
    const [place, boot, first, last] = ['place', 'boot', 'first', 'last'].map((key) => Number(row[key]));
    if (place === undefined || boot === undefined || first === undefined || last === undefined) continue;
    if (place > MAX_PLACE) continue;
    if (before?.boot === boot && first > before.last + 1 && place > before.place + 1) {
      const missing = { first: before.last + 1, last: first - 1, count: first - before.last - 1 };
      const cells = [boots.get(boot) ?? '', name, missing.first, missing.last, missing.count, 0, CORRUPT];
      const { first: a, last: b, count } = missing;
      insert.run(before.place + 1, boot, a, b, count, 0, CORRUPT, checksum(cells, ''), '');
      lost += count;
    }
    insert.run(place, ...COLUMNS.map((key): Value => cellOf(row[key])));
    recovered += 1;
    before = { place, boot, last };
  }
  return { recovered, lost };
}

/** All rows that a seek can reach, by their key; pages that cannot be read are stepped over. */
function* readable(db: DatabaseSync, table: string, key: string): Generator<Row> {
  const seek = db.prepare(`SELECT * FROM ${table} WHERE ${key} >= ? ORDER BY ${key} LIMIT 1`);
  const next = (from: number): Row | undefined | 'unreadable' => {
    try {
      return seek.get(from);
    } catch {
      return 'unreadable';
    }
  };
  let failures = 0;
  let from = 1;
  while (failures < MAX_FAILURES) {
    const row = next(from);
    if (row === undefined) return;
    const found = row === 'unreadable' ? Number.NaN : Number(row[key]);
    if (row !== 'unreadable' && found >= from) {
      yield row;
      from = found + 1;
      continue;
    }
    failures += 1;
    // Wider and wider steps until a page answers, then halves back to where it begins.
    let [bad, good] = [from, from];
    for (let step = 1; step < Number.MAX_SAFE_INTEGER / 4; step *= 2) {
      good = from + step;
      if (next(good) !== 'unreadable') break;
      bad = good;
      failures += 1;
    }
    if (bad === good) return;
    while (good - bad > 1) {
      const middle = Math.floor((good + bad) / 2);
      if (next(middle) === 'unreadable') bad = middle;
      else good = middle;
    }
    from = good;
  }
}

function cellOf(value: unknown): Value {
  if (typeof value === 'number' || typeof value === 'string') return value;
  return ENTRY_OVERHEAD_BYTES; // a cell of another type: its checksum will not fit
}

function closeQuietly(db: DatabaseSync | undefined): void {
  try {
    db?.close();
  } catch {
    // a database this broken may fail to close; it is not used again
  }
}
