import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';

/** Clock ticks since boot at which a process started (proc(5), stat field 22): with the pid it names one process. */
const startTime = (pid: number): string | undefined => {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
  } catch {
    return undefined;
  }
};

/** A name for something that must not outlive this process, at most 40 characters of `[a-z0-9-]`. */
export const ownedName = (prefix: string): string =>
  `${prefix}-${process.pid}-${startTime(process.pid) ?? '0'}-${randomBytes(3).toString('hex')}`;

/** Whether the process that made an owned name has ended; false for any other name. */
export const isOrphan = (prefix: string, name: string): boolean => {
  const [pid, started] = name.startsWith(`${prefix}-`) ? name.slice(prefix.length + 1).split('-') : [];
  return pid !== undefined && started !== undefined && startTime(Number(pid)) !== started;
};
