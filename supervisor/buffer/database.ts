import { closeSync, constants, fdatasync, fstatSync, fsyncSync, openSync } from 'node:fs';
import { dirname } from 'node:path';
import { DatabaseSync } from 'node:sqlite';

export type Value = string | number | null;
export type Row = Readonly<Record<string, unknown>>;

/** A prepared statement. Every method throws what SQLite says. */
export interface Statement {
  run(...values: readonly Value[]): void;
  get(...values: readonly Value[]): Row | undefined;
  all(...values: readonly Value[]): readonly Row[];
}

/** What the buffer needs of a database and of the file beneath it: the seam for tests. */
export interface Database {
  exec(sql: string): void;
  prepare(sql: string): Statement;
  /** Whether somebody has taken the file away from under us. */
  gone(): boolean;
  /** Writes through to the disk what was committed; `done` says why it could not. Does not wait. */
  sync(done: (error: Error | undefined) => void): void;
  /** Moves the write-ahead log into the database file, both written through. Waits for the disk. */
  checkpoint(): void;
  close(): void;
}

/** The content of a file is not what we write. */
export class DamagedFile extends Error {}

export type OpenDatabase = (file: string) => Database;

/**
 * Opens a database of one writer. The write-ahead log is written, not synced, at each commit: the kernel has it
 * then, so the end of this process loses nothing; `sync` and `checkpoint` are what holds through a power loss.
 */
export const openDatabase: OpenDatabase = (file) => {
  // No -shm file and no lock a commit: nobody else is to use the file as long as we live.
  const db = new DatabaseSync(file, { timeout: 0, allowExtension: false });
  let wal: number | undefined;
  let main: number | undefined;
  try {
    db.exec(
      `PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;
       PRAGMA wal_autocheckpoint = 4096; PRAGMA journal_size_limit = 4194304; PRAGMA cache_size = -512;
       PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON; PRAGMA temp_store = MEMORY`,
    );
    db.exec('CREATE TABLE IF NOT EXISTS checkpoints (id INTEGER PRIMARY KEY, count INTEGER NOT NULL) STRICT');
    db.exec('INSERT INTO checkpoints VALUES (1, 1) ON CONFLICT DO UPDATE SET count = count + 1');
    // POSIX locks of a process go when it closes any descriptor of the file: this one lives as long as `db`.
    main = openSync(file, constants.O_RDONLY | constants.O_NOFOLLOW);
    wal = openSync(`${file}-wal`, constants.O_RDONLY | constants.O_NOFOLLOW);
    syncDirectory(dirname(file));
  } catch (error) {
    db.close();
    for (const fd of [wal, main]) if (fd !== undefined) closeSync(fd);
    throw error;
  }
  const fds = { wal, main };
  const noteCheckpoint = db.prepare('UPDATE checkpoints SET count = count + 1');
  let open = true;
  let syncing = 0;
  const closeFiles = (): void => {
    if (open || syncing > 0) return;
    closeSync(fds.wal);
    closeSync(fds.main);
  };
  return {
    exec: (sql) => db.exec(sql),
    prepare(sql) {
      const statement = db.prepare(sql);
      return {
        run: (...values) => void statement.run(...values),
        get: (...values) => statement.get(...values),
        all: (...values) => statement.all(...values),
      };
    },
    gone: () => fstatSync(fds.wal).nlink === 0 || fstatSync(fds.main).nlink === 0,
    sync(done) {
      syncing += 1;
      fdatasync(fds.wal, (error) => {
        syncing -= 1;
        closeFiles();
        done(error ?? undefined);
      });
    },
    checkpoint() {
      db.exec('PRAGMA wal_checkpoint(RESTART)');
      // The first commit after it begins the log anew and syncs its head: done here, no append waits for it.
      noteCheckpoint.run();
    },
    close() {
      open = false;
      db.close();
      closeFiles();
    },
  };
};

/** Makes the names of files in a directory hold through a power loss. */
export function syncDirectory(directory: string): void {
  const fd = openSync(directory, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
