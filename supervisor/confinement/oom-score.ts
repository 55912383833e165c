import { writeFileSync } from 'node:fs';

/**
 * Lets the kernel take a process of the workload before the supervisor. A shim that hides itself cannot do that
 * (init/session.c, raise_oom_score), and what it executes shows itself. What the workload forks before this has the old
 * score, which it may take back anyway. `pid` must be a child that has not been waited for. Returns what to warn of.
 */
export function raiseOomScore(pid: number, score: number): string | undefined {
  try {
    writeFileSync(`/proc/${pid}/oom_score_adj`, String(score));
    return undefined;
  } catch (error) {
    // A short program has ended by now: a zombie has no memory, and no such file to write (ESRCH).
    const code = error instanceof Error && 'code' in error ? String(error.code) : '';
    if (code === 'ENOENT' || code === 'ESRCH') return undefined;
    return `oom_score_adj stays as it was: ${code}`;
  }
}
