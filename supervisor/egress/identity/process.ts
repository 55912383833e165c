import { lstatSync, readFileSync, readlinkSync } from 'node:fs';
import { open } from 'node:fs/promises';
import type { Clock } from '../../clock.ts';
import { err, ok, type Result } from '../../result.ts';

/** The fields of /proc/<pid>/stat that identify a process (proc_pid_stat(5)). */
export interface ProcessStat {
  /** The command name, at most 15 bytes; the process chose it. */
  readonly name: string;
  /** Field 3: `R`, `S`, `Z` … */
  readonly state: string;
  /** Field 4; 0 when the parent is outside this pid namespace. */
  readonly parent: number;
  /** Field 22, in clock ticks since boot. A pid together with it names one process. */
  readonly startTime: string;
}

/** Undefined when the process is gone. */
export function readStat(proc: string, pid: number): ProcessStat | undefined {
  let text: string;
  try {
    text = readFileSync(`${proc}/${pid}/stat`, 'latin1');
  } catch {
    return undefined;
  }
  return parseStat(text);
}

/** The name may hold spaces and parentheses, so the fields are counted from the last one. */
export function parseStat(text: string): ProcessStat | undefined {
  const from = text.indexOf('(');
  const to = text.lastIndexOf(')');
  if (from < 0 || to < from) return undefined;
  const fields = text.slice(to + 2).split(' ');
  const [state, parent] = fields;
  const startTime = fields[19];
  if (state === undefined || parent === undefined || startTime === undefined) return undefined;
  return { name: text.slice(from + 1, to), state, parent: Number(parent), startTime };
}

/** A process's executable. */
export interface Executable {
  /** The path that policy is matched against. */
  readonly path: string;
  /** True when that file was unlinked or replaced since it was started. */
  readonly deleted: boolean;
}

const DELETED = ' (deleted)';

/**
 * The target of /proc/<pid>/exe. The kernel appends ` (deleted)` when the file was unlinked; a file
 * may also really be named so, and then the suffix stays (contract.md, 7.5). The error is a reason.
 */
export function readExecutable(proc: string, pid: number): Result<Executable, string> {
  let target: string;
  try {
    target = readlinkSync(`${proc}/${pid}/exe`);
  } catch (error) {
    return err(`cannot read the executable of process ${pid}: ${codeOf(error)}`);
  }
  if (!target.startsWith('/')) return err(`the executable of process ${pid} has no path`);
  if (!target.endsWith(DELETED) || exists(target)) return ok({ path: target, deleted: false });
  return ok({ path: target.slice(0, -DELETED.length), deleted: true });
}

function exists(path: string): boolean {
  try {
    lstatSync(path);
    return true;
  } catch {
    return false;
  }
}

const MAX_CMDLINE_BYTES = 4096;
const MAX_ARGUMENTS = 64;
const CMDLINE_MS = 250;
let cmdlineBusy = false;

/**
 * The argument vector, for logs; empty when it cannot be had quickly. Reading it touches the
 * process's own memory, which that process can make slow (userfaultfd, FUSE): so at most one
 * thread ever waits for it, and never longer than 250 ms on our side.
 */
export async function readCommandLine(proc: string, pid: number, clock: Clock): Promise<readonly string[]> {
  if (cmdlineBusy) return [];
  cmdlineBusy = true;
  const reading = readHead(`${proc}/${pid}/cmdline`).finally(() => {
    cmdlineBusy = false;
  });
  return await new Promise((resolve) => {
    const cancel = clock.after(CMDLINE_MS, () => resolve([]));
    void reading.then((text) => {
      cancel();
      resolve(text.split('\0').slice(0, MAX_ARGUMENTS));
    });
  });
}

async function readHead(path: string): Promise<string> {
  try {
    const file = await open(path, 'r');
    try {
      const { buffer, bytesRead } = await file.read(Buffer.alloc(MAX_CMDLINE_BYTES), 0, MAX_CMDLINE_BYTES);
      return buffer.toString('utf8', 0, bytesRead).replace(/\0$/, '');
    } finally {
      await file.close();
    }
  } catch {
    return '';
  }
}

const codeOf = (error: unknown): string =>
  error instanceof Error && 'code' in error ? String(error.code) : String(error);
