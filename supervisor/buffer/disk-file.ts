import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { BoundedBuffer, type Numbering } from './bounded-buffer.ts';
import type { Totals } from './class-queue.ts';
import { DamagedFile, type Database, type OpenDatabase } from './database.ts';
import { Boots, DiskQueue } from './disk-queue.ts';
import { moveDatabase, preparePrivateFile, removeDatabase } from './private-files.ts';
import { RECORD_CLASSES, type RecordClass } from './record.ts';
import { finishSalvage, layOut, MAX_PLACE, ownerOf, type Salvaged, salvage } from './salvage.ts';

const FILE = 'records.db';

export interface DiskFileOptions {
  /** The supervisor's own directory; made when it is missing. */
  readonly directory: string;
  readonly sandboxId: string;
  readonly maxBytes: number;
  readonly open: OpenDatabase;
}

/** What the opening found beside a usable file. */
export interface Found {
  /** Records of earlier starts. */
  readonly records: number;
  /** Why the file was set aside, under which name, and what could be read of it. */
  readonly damage: (Salvaged & { readonly reason: string; readonly aside: string }) | undefined;
}

/** An open file of records: a bounded buffer whose changes are transactions. */
export class DiskFile {
  readonly bounded: BoundedBuffer;
  readonly #db: Database;
  readonly #boots: Boots;
  readonly #queues: Readonly<Record<RecordClass, DiskQueue>>;

  private constructor(db: Database, options: DiskFileOptions, numbering: Numbering, floors: Floors) {
    this.#db = db;
    this.#boots = new Boots(db);
    const queue = (name: RecordClass) => new DiskQueue(db, name, this.#boots, floors[name]);
    this.#queues = {
      audit: queue('audit'),
      status: queue('status'),
      logs: queue('logs'),
      samples: queue('samples'),
    };
    for (const name of RECORD_CLASSES) {
      const top = Number(db.prepare(`SELECT ifnull(max(place), 0) AS top FROM ${name}`).get()?.['top']);
      if (top > MAX_PLACE) throw new DamagedFile('a row is at a place that is none');
      numbering.skipTo(top);
    }
    for (const name of RECORD_CLASSES) numbering.skipTo(floors[name]);
    this.bounded = new BoundedBuffer(numbering, options.maxBytes, this.#queues);
    if (this.bounded.stats().entries === 0) {
      // Nothing names the boots of earlier starts any more.
      for (const name of RECORD_CLASSES) db.exec(`DELETE FROM ${name}`);
      db.exec('DELETE FROM boots');
      this.#boots.forgetNumbers();
    }
    this.#boots.id(numbering.boot);
  }

  /**
   * Opens the file or makes it. One that is torn, of another layout or of another sandbox is set aside, and what
   * can be read of our own goes into a new one; so does one of which `damage` is known already. Throws what the disk says when there is no writing at all.
   */
  static open(
    options: DiskFileOptions,
    numbering: Numbering,
    floors: Floors = NO_FLOORS,
    damage?: unknown,
  ): { readonly file: DiskFile; readonly found: Found } {
    const path = join(options.directory, FILE);
    const aside = `${path}.damaged`;
    if (existsSync(options.directory)) finishSalvage(path);
    preparePrivateFile(options.directory, path);
    const prepare = (file: string): void => preparePrivateFile(options.directory, file);
    const open = (): DiskFile => {
      const db = options.open(path);
      try {
        checkTrees(db);
        const owner = ownerOf(db);
        if (owner === undefined) layOut(db, options.sandboxId);
        else if (owner !== options.sandboxId) throw new DamagedFile('the file is another sandbox’s');
        return new DiskFile(db, options, numbering, floors);
      } catch (error) {
        closeQuietly(db);
        throw error;
      }
    };
    try {
      if (damage !== undefined) throw damage;
      const file = open();
      removeDatabase(aside);
      return { file, found: { records: recordsOf(file), damage: undefined } };
    } catch (error) {
      if (!isDamage(error)) throw error;
      const saved = salvage(path, aside, options.sandboxId, options.open, prepare);
      let file: DiskFile;
      try {
        file = open();
      } catch (again) {
        // What was read of it is no good either: an empty file is better than none.
        if (!isDamage(again)) throw again;
        moveDatabase(path, aside);
        prepare(path);
        file = open();
      }
      const damage = { ...saved, reason: reasonOf(error), aside };
      return { file, found: { records: recordsOf(file), damage } };
    }
  }

  /** Up to where entries are delivered, whatever the rows say. */
  get floors(): Floors {
    const { audit, status, logs, samples } = this.#queues;
    return { audit: audit.floor, status: status.floor, logs: logs.floor, samples: samples.floor };
  }

  /** Rows that were not what had been written. */
  get corrupt(): number {
    return RECORD_CLASSES.reduce((sum, name) => sum + this.#queues[name].corrupt, 0);
  }

  get database(): Database {
    return this.#db;
  }

  /** Runs `act` as one change: all of it or, with what it throws, nothing. */
  transaction<T>(act: () => T): T {
    const before = RECORD_CLASSES.map((name): [RecordClass, Totals] => [name, this.#queues[name].totals]);
    try {
      this.#db.exec('BEGIN');
      const value = act();
      this.#db.exec('COMMIT');
      return value;
    } catch (error) {
      for (const [name, totals] of before) this.#queues[name].restore(totals);
      this.#boots.forgetNumbers();
      this.#rollBack();
      throw error;
    }
  }

  /** Runs `act`, which drops what was delivered. That stays dropped; returns what the disk had against it. */
  dropping(act: () => void): unknown {
    try {
      this.#db.exec('BEGIN');
      act();
      for (const name of RECORD_CLASSES) {
        const failure = this.#queues[name].dropFailure;
        if (failure !== undefined) throw failure;
      }
      this.#db.exec('COMMIT');
      return undefined;
    } catch (error) {
      this.#rollBack();
      return error;
    }
  }

  /** Deletes what is delivered and could not be deleted then. Writes in any case, so it shows whether that works. */
  sweep(): void {
    for (const name of RECORD_CLASSES) this.#queues[name].sweep();
    this.#db.exec('UPDATE checkpoints SET count = count + 1');
  }

  /** Whether the oldest of each class can be had. */
  readable(): boolean {
    try {
      for (const name of RECORD_CLASSES) this.#queues[name].after(0);
      return true;
    } catch {
      return false;
    }
  }

  close(): void {
    closeQuietly(this.#db);
  }

  #rollBack(): void {
    try {
      this.#db.exec('ROLLBACK');
    } catch {
      // SQLite has done so itself, as it does for a full disk
    }
  }
}

export type Floors = Readonly<Record<RecordClass, number>>;
const NO_FLOORS: Floors = { audit: 0, status: 0, logs: 0, samples: 0 };

const ERROR = 1;
const FULL = 13;
const CORRUPT = 11;
const NOT_A_DATABASE = 26;

/** Whether the file's content is at fault, and not the disk or its rights. */
export function isDamage(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  const code = sqliteCode(error);
  // A number in a row that no JavaScript number holds is a RangeError.
  if (code === undefined) return error instanceof DamagedFile || error instanceof RangeError;
  return code === CORRUPT || code === NOT_A_DATABASE || code === ERROR;
}

/** A full disk leaves the file usable; after any other failure it is opened anew. */
export const isFull = (error: unknown): boolean => sqliteCode(error) === FULL;

export function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return 'errstr' in error && error.errstr !== error.message
    ? `${error.errstr}: ${error.message}`
    : error.message;
}

/** SQLite's primary result code. */
function sqliteCode(error: unknown): number | undefined {
  if (!(error instanceof Error && 'errcode' in error && typeof error.errcode === 'number')) return undefined;
  return error.errcode & 0xff;
}

const recordsOf = (file: DiskFile): number =>
  RECORD_CLASSES.reduce((sum, name) => sum + file.bounded.stats().classes[name].records, 0);

/**
 * SQLite trusts the order of a tree's rows, and where damage has broken it a row that was just written may not be
 * found again. Reads the whole file once: some 0.1 s for 64 MiB.
 */
function checkTrees(db: Database): void {
  const found = db.prepare('PRAGMA quick_check(1)').get()?.['quick_check'];
  if (found !== 'ok') throw new DamagedFile(`the file is damaged: ${String(found).slice(0, 200)}`);
}

function closeQuietly(db: Database): void {
  try {
    db.close();
  } catch {
    // it is not used again
  }
}
