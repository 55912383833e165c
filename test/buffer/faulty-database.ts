import { type Database, type OpenDatabase, openDatabase } from '../../supervisor/buffer/database.ts';

/** What is wrong with the disk now. */
export interface Faults {
  /** Writes fail as on a full disk. */
  full: boolean;
  /** Nothing can be opened, and what is open fails to write as a disk with a fault does. */
  broken: boolean;
  /** Syncs that were asked for and have ended. */
  readonly syncs: (() => void)[];
}

export const noFaults = (): Faults => ({ full: false, broken: false, syncs: [] });

const sqliteError = (errcode: number, errstr: string): Error =>
  Object.assign(new Error(errstr), { code: 'ERR_SQLITE_ERROR', errcode, errstr });

/** The real database on a disk whose faults the test decides. Each sync runs `syncs` when it has ended. */
export function openFaulty(faults: Faults): OpenDatabase {
  return (file) => {
    if (faults.broken) throw sqliteError(14, 'unable to open database file');
    // Making and laying out a file writes as well.
    if (faults.full) throw sqliteError(13, 'database or disk is full');
    const db = openDatabase(file);
    const check = (sql: string): void => {
      if (!/^\s*(INSERT|UPDATE|DELETE|CREATE)/i.test(sql)) return;
      if (faults.full) throw sqliteError(13, 'database or disk is full');
      if (faults.broken) throw sqliteError(778, 'disk I/O error');
    };
    return {
      ...db,
      exec(sql) {
        check(sql);
        db.exec(sql);
      },
      prepare(sql) {
        const statement = db.prepare(sql);
        return {
          run(...values) {
            check(sql);
            statement.run(...values);
          },
          get(...values) {
            check(sql);
            return statement.get(...values);
          },
          all: (...values) => statement.all(...values),
        };
      },
      sync(done) {
        // At once: the tests own the time.
        for (const synced of faults.syncs) synced();
        done(faults.broken ? new Error('EIO: i/o error, fdatasync') : undefined);
      },
      checkpoint() {
        if (faults.full || faults.broken) throw sqliteError(13, 'database or disk is full');
        db.checkpoint();
      },
    } satisfies Database;
  };
}
