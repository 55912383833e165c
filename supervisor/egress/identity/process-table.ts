import { readdir, readFile, readlink } from 'node:fs/promises';

/** What the kernel says about one process. */
export interface ProcessFacts {
  readonly pid: number;
  readonly parent: number;
  /** Field 22 of /proc/<pid>/stat, in clock ticks since boot: tells a reused pid from the one we saw. */
  readonly startTime: string;
  readonly executable: string;
}

const MAX_ANCESTORS = 64;
const DELETED = ' (deleted)';

/** Parent and start time out of /proc/<pid>/stat; the name in parentheses may hold anything. */
export function parseStat(text: string): { readonly parent: number; readonly startTime: string } | undefined {
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  const parent = Number(fields[1]);
  const startTime = fields[19];
  return Number.isInteger(parent) && startTime !== undefined ? { parent, startTime } : undefined;
}

/** Reads a process, or says that it is gone or hides itself (a non-dumpable process does). */
export async function readProcess(proc: string, pid: number): Promise<ProcessFacts | undefined> {
  try {
    const stat = parseStat(await readFile(`${proc}/${pid}/stat`, 'latin1'));
    const target = await readlink(`${proc}/${pid}/exe`);
    if (stat === undefined) return undefined;
    // A name that really ends so is indistinguishable; such a path then matches no rule, which is safe.
    const executable = target.endsWith(DELETED) ? target.slice(0, -DELETED.length) : target;
    return { pid, parent: stat.parent, startTime: stat.startTime, executable };
  } catch {
    return undefined;
  }
}

/** Executables of the parent chain, nearest first, up to `root` (included) or pid 1. */
export async function readAncestors(
  proc: string,
  of: ProcessFacts,
  root: number,
): Promise<readonly string[]> {
  const ancestors: string[] = [];
  let pid = of.pid === root ? 0 : of.parent;
  for (let level = 0; level < MAX_ANCESTORS && pid > 1; level++) {
    const facts = await readProcess(proc, pid);
    if (facts === undefined) break;
    ancestors.push(facts.executable);
    if (pid === root) break;
    pid = facts.parent;
  }
  return ancestors;
}

/** The command line, for logs: at most 32 words of 256 characters. */
export async function readCommandLine(proc: string, pid: number): Promise<readonly string[]> {
  const text = await readFile(`${proc}/${pid}/cmdline`, 'utf8').catch(() => '');
  return text
    .split('\0')
    .slice(0, 32)
    .filter((word) => word !== '')
    .map((word) => word.slice(0, 256));
}

/** Every process, newest first: the one that just connected is most likely young. */
export async function listProcesses(proc: string): Promise<readonly number[]> {
  const names = await readdir(proc).catch(() => []);
  return names
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .sort((a, b) => b - a);
}

/** Whether a process has the socket open. `undefined` when its descriptors cannot be read. */
export async function holdsSocket(proc: string, pid: number, inode: number): Promise<boolean | undefined> {
  const wanted = `socket:[${inode}]`;
  try {
    for (const fd of await readdir(`${proc}/${pid}/fd`)) {
      const target = await readlink(`${proc}/${pid}/fd/${fd}`).catch(() => '');
      if (target === wanted) return true;
    }
    return false;
  } catch {
    return undefined;
  }
}
