import { type ChildProcess, spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { Socket } from 'node:net';
import { err, ok, type Result } from '../result.ts';
import type { ConfinementPlan } from './plan.ts';
import { encodeShimSpec, type Launch, type ResourceLimits } from './shim-spec.ts';

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

/** A confined process and its session. */
export interface ConfinedProcess {
  readonly pid: number;
  /** Settles when the workload's program runs, or when it is known why it does not. */
  readonly started: Promise<Result<StartReport, StartFailure>>;
  /** Settles when the process has ended. */
  readonly exited: Promise<Exit>;
  /** Signals the whole process group. Does nothing when it has gone. */
  signal(signal: NodeJS.Signals): void;
}

export interface ShimOptions {
  /** The launcher, which is also the shim. */
  readonly launcher: string;
  /** The descriptor over which shims reach the socket broker of PID 1. */
  readonly fenceFd: number;
  readonly limits: ResourceLimits;
}

const INTERNAL = 70;
const MAX_REPORT_BYTES = 64 * 1024;

/**
 * Starts a process inside the confinement of `plan`, with the supervisor's own stdio. The command and
 * the environment travel over a private socket, so they never stand in the shim's argv or environ.
 */
export function startConfined(options: ShimOptions, plan: ConfinementPlan, launch: Launch): ConfinedProcess {
  const spec = encodeShimSpec(plan, launch, options.limits, protectedPids());
  const child = spawn(options.launcher, ['exec'], {
    env: {},
    stdio: ['inherit', 'inherit', 'inherit', 'pipe', options.fenceFd],
  });
  const exited = exitOf(child);
  const control = child.stdio[3];
  const started =
    control instanceof Socket
      ? readReport(control, spec, exited)
      : Promise.resolve(err({ code: INTERNAL, message: `cannot run ${options.launcher}` }));
  return {
    pid: child.pid ?? -1,
    started,
    exited,
    signal(signal) {
      if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
      try {
        process.kill(-child.pid, signal);
      } catch {
        // ESRCH: the group ended between the check and the call, or the shim has not made it yet.
        child.kill(signal);
      }
    },
  };
}

/**
 * Every task id of the supervisor, and init. kill(2) takes a thread's id for its process, so the main
 * thread's id alone would not protect it where Landlock has no signal scope (before Linux 6.12).
 */
function protectedPids(): readonly number[] {
  const pids = new Set([1, process.ppid, process.pid]);
  for (const task of readdirSync('/proc/self/task')) pids.add(Number(task));
  return [...pids].filter((pid) => pid > 0).slice(0, 64);
}

function exitOf(child: ChildProcess): Promise<Exit> {
  return new Promise((resolve) => {
    child.once('error', () => resolve({ kind: 'code', code: INTERNAL }));
    child.once('exit', (code, signal) =>
      resolve(signal === null ? { kind: 'code', code: code ?? INTERNAL } : { kind: 'signal', signal }),
    );
  });
}

async function readReport(
  control: Socket,
  spec: Buffer,
  exited: Promise<Exit>,
): Promise<Result<StartReport, StartFailure>> {
  let text = '';
  control.on('error', () => undefined); // a shim that died early; its exit says so
  control.write(spec);
  await new Promise<void>((resolve) => {
    control.on('data', (chunk: Buffer) => {
      if (text.length < MAX_REPORT_BYTES) text += chunk.toString('utf8');
    });
    control.once('close', () => resolve());
    control.once('end', () => control.end());
    void exited.then(() => control.destroy());
  });
  const parsed = parseShimReport(text);
  if (!parsed.ok) return parsed;
  return parsed;
}

/** Reads the shim's report (init/exec.h): "landlock", "warn" and "fail" lines. */
export function parseShimReport(text: string): Result<StartReport, StartFailure> {
  let landlock: StartReport['landlock'];
  const warnings: string[] = [];
  for (const line of text.split('\n')) {
    const [word, ...rest] = line.split(' ');
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
