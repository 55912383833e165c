import { existsSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';

// Synchronous on purpose: proc answers from memory, and a thread-pool round trip for each of hundreds of
// links costs far more than the reads.

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
export function readProcess(proc: string, pid: number): ProcessFacts | undefined {
  try {
    const stat = parseStat(readFileSync(`${proc}/${pid}/stat`, 'latin1'));
    const target = readlinkSync(`${proc}/${pid}/exe`);
    if (stat === undefined) return undefined;
    // A file may really be called so; only when there is none is it the kernel's remark (proc_pid_exe(5)).
    const remarked = target.endsWith(DELETED) && !existsSync(target);
    const executable = remarked ? target.slice(0, -DELETED.length) : target;
    return { pid, parent: stat.parent, startTime: stat.startTime, executable };
  } catch {
    return undefined;
  }
}

/** Executables of the parent chain, nearest first, up to `root` (included) or pid 1. */
export function readAncestors(proc: string, of: ProcessFacts, root: number): readonly string[] {
  const ancestors: string[] = [];
  let pid = of.pid === root ? 0 : of.parent;
  for (let level = 0; level < MAX_ANCESTORS && pid > 1; level++) {
    const facts = readProcess(proc, pid);
    if (facts === undefined) break;
    ancestors.push(facts.executable);
    if (pid === root) break;
    pid = facts.parent;
  }
  return ancestors;
}

/** The command line, for logs: at most 32 words of 256 characters. */
export function readCommandLine(proc: string, pid: number): readonly string[] {
  try {
    return readFileSync(`${proc}/${pid}/cmdline`, 'utf8')
      .split('\0')
      .slice(0, 32)
      .filter((word) => word !== '')
      .map((word) => word.slice(0, 256));
  } catch {
    return [];
  }
}

/** The real user id of a process, which its /proc directory's owner does not tell when it hides itself. */
export function realUser(proc: string, pid: number): number | undefined {
  try {
    const line = /^Uid:\s+(\d+)/m.exec(readFileSync(`${proc}/${pid}/status`, 'latin1'));
    return line === null ? undefined : Number(line[1]);
  } catch {
    return undefined;
  }
}

/** Every process of this pid namespace, the highest pid first: callers tend to be young. */
export function listProcesses(proc: string): readonly number[] {
  return readdirSync(proc)
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .sort((a, b) => b - a);
}

/** What the descriptors of a process say about sockets that are asked for. */
export interface HeldSockets {
  /** Inodes of those that it has open. */
  readonly held: ReadonlySet<number>;
  /** Whether it may have others of them: it is there, may have descriptors and hides some. */
  readonly hidden: boolean;
}

/**
 * Which of the sockets a process has open; `wanted` leads from what a descriptor's link says to the inode. Threads made
 * without CLONE_FILES have descriptors of their own, so those of every thread are read, until all are found. Nothing is
 * hidden by a process that has ended, is a zombie or belongs to the kernel.
 */
export function heldSockets(proc: string, pid: number, wanted: ReadonlyMap<string, number>): HeldSockets {
  const held = new Set<number>();
  let threads: readonly string[];
  try {
    threads = readdirSync(`${proc}/${pid}/task`);
  } catch (error) {
    return { held, hidden: !isGone(error) };
  }
  let hidden = false;
  for (const thread of threads) {
    const folder = `${proc}/${pid}/task/${thread}/fd`;
    try {
      for (const fd of readdirSync(folder)) {
        try {
          const inode = wanted.get(readlinkSync(`${folder}/${fd}`));
          if (inode === undefined) continue;
          held.add(inode);
          if (held.size === wanted.size) return { held, hidden: false };
        } catch (error) {
          // ENOENT: closed meanwhile. Anything else: the process stopped being readable under our hands.
          if (!isGone(error)) hidden = true;
        }
      }
    } catch (error) {
      if (!isGone(error) && mayHoldDescriptors(proc, `${pid}/task/${thread}`)) hidden = true;
    }
  }
  return { held, hidden };
}

const isGone = (error: unknown): boolean =>
  error instanceof Error && 'code' in error && (error.code === 'ENOENT' || error.code === 'ESRCH');

/** PF_KTHREAD of linux/sched.h, in field 9 of proc_pid_stat(5). */
const KERNEL_THREAD = 0x0020_0000;

/** Ended threads (states Z, X) have given their descriptors back; kernel threads have none of ours. */
function mayHoldDescriptors(proc: string, task: string): boolean {
  try {
    const text = readFileSync(`${proc}/${task}/stat`, 'latin1');
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
    const ended = fields[0] === 'Z' || fields[0] === 'X';
    return !ended && (Number(fields[6]) & KERNEL_THREAD) === 0;
  } catch (error) {
    return !isGone(error);
  }
}
