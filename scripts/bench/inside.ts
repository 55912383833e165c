/**
 * Stands in for the supervisor inside a container: confines as the supervisor does, with its parts, and times
 * confined and unconfined processes in turn. The launcher starts it, so init's broker is there.
 */
import { spawn } from 'node:child_process';
import { existsSync, writeSync } from 'node:fs';
import { startAnchor } from '../../supervisor/confinement/anchor.ts';
import { type ConfinementPlan, planConfinement } from '../../supervisor/confinement/plan.ts';
import { unchanged } from '../../supervisor/confinement/privileges.ts';
import { runProbe } from '../../supervisor/confinement/probe.ts';
import { type ShimOptions, startConfined } from '../../supervisor/confinement/shim.ts';
import { takeHandover } from '../../supervisor/handover.ts';
import type { Result } from '../../supervisor/result.ts';
import { workloadEnvironment } from '../../supervisor/workload/environment.ts';
import { type Job, MARK, type Side, type Step } from './job.ts';

const need = <T>(result: Result<T, { readonly message: string }>): T => {
  if (result.ok) return result.value;
  throw new Error(result.error.message);
};

interface Confinement {
  readonly options: ShimOptions;
  readonly plan: ConfinementPlan;
  readonly environment: ReadonlyMap<string, string>;
}

async function confine(job: Job): Promise<Confinement> {
  const handover = need(takeHandover());
  const launcher = process.env['OPENSHELL_INIT_LAUNCHER'] ?? '/opt/openshell/bin/openshell-sandbox';
  const probe = need(await runProbe(launcher));
  const plan = need(
    planConfinement({
      probe,
      files: {
        readOnly: job.readOnly.filter(existsSync),
        readWrite: job.readWrite.filter(existsSync),
        compatibility: 'best_effort',
      },
      identity: undefined,
      limits: { openFiles: undefined, processes: undefined, pidsMax: 'unknown', requirePidsMax: false },
    }),
  );
  const { fenceFd } = handover;
  const privileges = unchanged;
  const anchor =
    plan.fence.kind === 'namespace'
      ? need(await startAnchor({ launcher, fenceFd, privileges }, plan, plan.fence))
      : undefined;
  const environment = workloadEnvironment({
    inherited: handover.environment,
    user: new Map(),
    proxy: '127.0.0.1:3128',
    provider: new Map(),
    trust: {},
    withheld: new Set(),
    javaTrustStore: undefined,
    home: '/sandbox',
    tty: false,
  });
  return {
    options: {
      launcher,
      fenceFd,
      privileges,
      limits: plan.limits,
      ...(anchor === undefined ? {} : { helperPids: anchor.pids }),
    },
    plan,
    environment,
  };
}

/** Runs a step to its end and returns milliseconds; throws when it fails or takes longer than `limitMs`. */
async function timed(
  { options, plan, environment }: Confinement,
  side: Side,
  step: Step,
  limitMs: number,
): Promise<number> {
  const [program = '', ...args] = step.argv;
  const merged = new Map([...environment, ...Object.entries(step.environment ?? {})]);
  const begun = performance.now();
  let kill: () => void;
  let ended: Promise<string>;
  if (side === 'confined') {
    const confined = startConfined(options, plan, { argv: step.argv, cwd: '/sandbox', environment: merged });
    kill = () => confined.signal('SIGKILL');
    ended = confined.exited.then(async (exit) => {
      if (exit.kind === 'code' && exit.code === 0) return '';
      const started = await confined.started;
      return started.ok ? JSON.stringify(exit) : started.error.message;
    });
  } else {
    const child = spawn(program, args, {
      cwd: '/sandbox',
      env: Object.fromEntries(merged),
      stdio: 'inherit',
      detached: true,
    });
    kill = () => void child.kill('SIGKILL');
    ended = new Promise((resolve) => {
      child.once('error', (error) => resolve(error.message));
      child.once('exit', (code, signal) => resolve(code === 0 ? '' : `ended with ${signal ?? code}`));
    });
  }
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    kill();
  }, limitMs);
  const failure = await ended;
  const took = performance.now() - begun;
  clearTimeout(timer);
  if (late) throw new Error(`${step.name}, ${side}: no end after ${limitMs / 1000} s`);
  if (failure !== '') throw new Error(`${step.name}, ${side}: ${failure}`);
  return took;
}

/** Synchronous, because the steps write to the same descriptor. */
const say = (text: string): void => void writeSync(1, `${MARK}${text}\n`);

async function work(job: Job): Promise<void> {
  const confinement = await confine(job);
  const { fence, files } = confinement.plan;
  const more =
    fence.kind === 'namespace'
      ? ['ipc', 'mounts', 'pid'].filter((name) => name in fence && fence[name as 'pid'])
      : [];
  say(`mechanism ${[`${fence.kind} fence`, ...more].join(', ')}; files: ${files.kind}`);
  let deadline = Number.POSITIVE_INFINITY;
  for (let round = -job.warmUp; round < job.rounds; round++) {
    if (round === 0) deadline = performance.now() + job.budgetMs;
    if (round >= 2 && performance.now() > deadline) break;
    // Who comes first changes, so that neither profits from a warm cache or a full one.
    const sides: readonly Side[] = round % 2 === 0 ? ['unconfined', 'confined'] : ['confined', 'unconfined'];
    for (const side of sides) {
      say(`side ${side} ${round < 0 ? 'warm-up' : 'counted'}`);
      for (const step of job.steps) {
        const took = await timed(confinement, side, step, job.limitMs);
        if (step.quiet !== true) say(`time ${took} ${step.name}`);
      }
    }
  }
  say('done');
}

work(JSON.parse(process.argv[2] ?? '') as Job).then(
  () => process.exit(0),
  (error: unknown) => {
    process.stderr.write(`bench: ${error instanceof Error ? error.message : String(error)}\n`);
    process.exit(1);
  },
);
