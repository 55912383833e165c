import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { cached } from './paths.ts';

const WAIT_MS = 10 * 60_000;

const take = (path: string): boolean => {
  try {
    writeFileSync(path, `${process.pid}`, { flag: 'wx' });
    return true;
  } catch {
    return false;
  }
};

const dropWhenStale = (path: string): void => {
  try {
    const owner = readFileSync(path, 'utf8');
    if (owner !== '' && !existsSync(`/proc/${owner}`)) rmSync(path, { force: true });
  } catch {
    // Its owner has just let it go.
  }
};

/**
 * Runs `work` while no other process of this machine runs work under the same name. Waits at most
 * ten minutes for the others, then rejects. A dead owner's lock is taken over.
 */
export const withLock = async <T>(name: string, work: () => Promise<T>): Promise<T> => {
  const path = cached(`${name}.lock`);
  const deadline = Date.now() + WAIT_MS;
  while (!take(path)) {
    dropWhenStale(path);
    if (Date.now() > deadline) throw new Error(`another process holds ${path} for more than ten minutes`);
    await pause(100);
  }
  const release = (): void => rmSync(path, { force: true });
  process.once('exit', release);
  try {
    return await work();
  } finally {
    process.removeListener('exit', release);
    release();
  }
};
