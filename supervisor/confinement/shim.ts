import { type ChildProcess, spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { Socket } from 'node:net';
import { err, ok, type Result } from '../result.ts';
import { type ProcessPipes, receivePipes } from './kernel-pipes.ts';
import type { ResourceLimits } from './limits.ts';
import { raiseOomScore } from './oom-score.ts';
import type { ConfinementPlan } from './plan.ts';
import type { Privileges } from './privileges.ts';
import { type ReportRecord, readRecords } from './shim-report.ts';
import { encodeShimSpec, type Launch } from './shim-spec.ts';

/** What a specification takes, less the one that the anchor adds (init/spec.h). */
const MAX_PROTECTED = 127;

/** How a process ended: its exit code, or the signal that killed it. */
export type Exit =
  | { readonly kind: 'code'; readonly code: number }
  | { readonly kind: 'signal'; readonly signal: NodeJS.Signals };

/** What the shim said before it became the workload. */
export interface StartReport {
  /** Landlock's ABI, rules and missing paths in force, when it is used. */
  readonly landlock: { readonly abi: number; readonly rules: number; readonly missing: number } | undefined;
  /** What best_effort could not do. */
  readonly warnings: readonly string[];
}

/** Why the workload did not start; `code` is the exit code the container should end with. */
export interface StartFailure {
  readonly code: number;
  readonly message: string;
}

/** What the workload's stdio is: the supervisor's own, pipes, or one descriptor of a terminal for all three. */
export type ShimStdio = 'inherit' | 'pipe' | { readonly terminal: number };

/** A confined process and its session. */
export interface ConfinedProcess {
  /** With stdio `pipe`, unless the shim ended too early. Settles at once otherwise. */
  readonly pipes: Promise<ProcessPipes | undefined>;
  /** Its pid, as this process counts; undefined until it is known, which is before `started` settles. */
  readonly pid: number | undefined;
  /** Settles when the workload's program runs, or when it is known why it does not. */
  readonly started: Promise<Result<StartReport, StartFailure>>;
  /** Settles when the process has ended. */
  readonly exited: Promise<Exit>;
  /** Signals the whole process group, as soon as there is one. Does nothing when it has gone. */
  signal(signal: NodeJS.Signals): void;
}

export interface ShimOptions {
  /** The launcher, which is also the shim. */
  readonly launcher: string;
  /** The descriptor over which shims reach PID 1. */
  readonly fenceFd: number;
  readonly limits: ResourceLimits;
  readonly privileges: Privileges;
  /** Processes of ours beside the supervisor and init, which it may not touch; the first ones count most. */
  readonly helperPids?: readonly number[];
  /** Takes the process while it is our own program, which hides itself and holds no socket of the workload's. */
  readonly hiding?: Set<number>;
}

const INTERNAL = 70;

/**
 * Starts a process inside the confinement of `plan`. The command and the environment travel over a private socket,
 * so they never stand in the shim's argv or environ. A terminal's descriptor may be closed as soon as this returns.
 */
export function startConfined(
  options: ShimOptions,
  plan: ConfinementPlan,
  launch: Launch,
  stdio: ShimStdio = 'inherit',
): ConfinedProcess {
  const spec = encodeShimSpec(plan, launch, options.limits, protectedPids(plan, options.helperPids ?? []));
  const joins = plan.fence.kind === 'namespace';
  const piped = stdio === 'pipe';
  const owner = plan.identity === undefined ? [] : [String(plan.identity.uid)];
  const one = stdio === 'pipe' ? 'ignore' : stdio === 'inherit' ? stdio : stdio.terminal;
  const child = options.privileges.asRoot(() =>
    spawn(options.launcher, [joins ? 'join' : 'exec', ...(piped ? ['pipes', ...owner] : [])], {
      env: {},
      stdio: [one, one, one, 'pipe', options.fenceFd, ...(piped ? (['ipc'] as const) : [])],
    }),
  );
  const exited = exitOf(child);
  // Where the machine has no descriptor left Node gives a child without streams, and tells of it in `error`.
  const control = child.stdio?.[3];
  const pipes = piped ? receivePipes(child) : Promise.resolve(undefined);
  // The shim becomes the workload; who joins stands in for a process that the anchor has forked.
  let pid = joins ? undefined : child.pid;
  const { hiding } = options;
  let oomScoreLater = false;
  if (child.pid !== undefined) hiding?.add(child.pid);
  const shown = (): void => void (pid !== undefined && hiding?.delete(pid));
  // The end of the stream is execve(2), from where on it may hold anything; a file server never gets there.
  if (launch.builtin === undefined) control?.once('end', shown);
  void exited.then(() => {
    shown();
    if (child.pid !== undefined) hiding?.delete(child.pid);
  });
  const waiting: NodeJS.Signals[] = [];
  const deliver = (signal: NodeJS.Signals): void => {
    if (pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
    try {
      process.kill(-pid, signal);
    } catch {
      // ESRCH: the group ended between the check and the call, or the shim has not made it yet.
      if (!joins) child.kill(signal);
    }
  };
  const onRecord = ([word, value]: ReportRecord): void => {
    if (word === 'later') oomScoreLater = true;
    if (word !== 'pid') return;
    pid = Number(value);
    hiding?.add(pid);
    for (const signal of waiting.splice(0)) deliver(signal);
  };
  const started =
    control instanceof Socket
      ? readRecords(control, spec, exited, onRecord).then((records) => {
          const ended = child.exitCode !== null || child.signalCode !== null;
          const warning =
            oomScoreLater && pid !== undefined && !ended
              ? raiseOomScore(pid, options.limits.oomScoreAdj)
              : undefined;
          return parseShimReport(warning === undefined ? records : [...records, ['warn', warning]]);
        })
      : Promise.resolve(err({ code: INTERNAL, message: `cannot run ${options.launcher}` }));
  return {
    pipes,
    get pid() {
      return pid;
    },
    started,
    exited,
    signal(signal) {
      if (pid === undefined) waiting.push(signal);
      else deliver(signal);
    },
  };
}

/**
 * Whom the workload must not touch: every task id of the supervisor, init, the anchor and the socket finder. kill(2) takes a
 * thread's id for its process, so the main thread's id alone would not protect it where Landlock has no
 * signal scope (before Linux 6.12). In a pid namespace only its PID 1, the anchor, can be named at all.
 */
function protectedPids({ fence }: ConfinementPlan, helperPids: readonly number[]): readonly number[] {
  if (fence.kind === 'namespace' && fence.mounts && fence.pid) return [1];
  const tasks = readdirSync('/proc/self/task').map(Number);
  // In this order: where there are too many, those that go hold only a terminal of somebody else's.
  const pids = new Set([1, process.ppid, process.pid, ...tasks, ...helperPids]);
  return [...pids].filter((pid) => pid > 0).slice(0, MAX_PROTECTED);
}

function exitOf(child: ChildProcess): Promise<Exit> {
  return new Promise((resolve) => {
    child.once('error', () => resolve({ kind: 'code', code: INTERNAL }));
    child.once('exit', (code, signal) =>
      resolve(signal === null ? { kind: 'code', code: code ?? INTERNAL } : { kind: 'signal', signal }),
    );
  });
}

/** Reads the shim's report (init/control.h): "landlock", "warn" and "fail" records. */
export function parseShimReport(records: readonly ReportRecord[]): Result<StartReport, StartFailure> {
  let landlock: StartReport['landlock'];
  const warnings: string[] = [];
  for (const [word, ...rest] of records) {
    if (word === 'landlock') {
      const [abi = 0, rules = 0, missing = 0] = rest.map(Number);
      landlock = { abi, rules, missing };
    } else if (word === 'warn') {
      warnings.push(rest.join(' '));
    } else if (word === 'fail') {
      return err({ code: Number(rest[0]) || INTERNAL, message: rest.slice(1).join(' ') });
    }
  }
  return ok({ landlock, warnings });
}
