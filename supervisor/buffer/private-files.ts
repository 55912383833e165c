import {
  closeSync,
  constants,
  existsSync,
  fchmodSync,
  lstatSync,
  mkdirSync,
  openSync,
  renameSync,
  rmSync,
} from 'node:fs';

/** Endings of what SQLite keeps beside a database file. */
const COMPANIONS = ['', '-wal', '-shm', '-journal'] as const;

/**
 * Makes the directory 0700 and the file 0600 where they are missing, and throws where one is not ours alone: a
 * link, another user's, or open to others. What is ours and too open is closed.
 */
export function preparePrivateFile(directory: string, file: string): void {
  const { O_CREAT, O_DIRECTORY, O_NOFOLLOW, O_RDONLY, O_RDWR } = constants;
  if (!existsSync(directory)) mkdirSync(directory, { mode: 0o700 });
  ownOnly(directory, 'directory', 0o700, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  for (const companion of COMPANIONS.slice(1))
    if (lstatSync(file + companion, { throwIfNoEntry: false }) !== undefined)
      ownOnly(file + companion, 'file', 0o600, O_RDWR | O_NOFOLLOW);
  ownOnly(file, 'file', 0o600, O_RDWR | O_CREAT | O_NOFOLLOW);
}

/** Renames a database file with its companions, over what had that name. */
export function moveDatabase(from: string, to: string): void {
  removeDatabase(to);
  for (const companion of COMPANIONS)
    if (existsSync(from + companion)) renameSync(from + companion, to + companion);
}

export function removeDatabase(file: string): void {
  for (const companion of COMPANIONS) rmSync(file + companion, { force: true });
}

function ownOnly(path: string, kind: 'directory' | 'file', mode: number, flags: number): void {
  const fd = openSync(path, flags | constants.O_NONBLOCK, mode);
  try {
    const status = lstatSync(path);
    if (kind === 'file' ? !status.isFile() : !status.isDirectory()) throw new Error(`${path} is no ${kind}`);
    if (status.uid !== process.geteuid?.()) throw new Error(`${path} belongs to user ${status.uid}`);
    if (kind === 'file' && status.nlink > 1) throw new Error(`${path} has another name too`);
    if ((status.mode & 0o7777) !== mode) fchmodSync(fd, mode);
  } finally {
    closeSync(fd);
  }
}
