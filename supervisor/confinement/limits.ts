import { Fault } from '../fault.ts';
import { err, ok, type Result } from '../result.ts';
import type { NetworkFence } from './plan.ts';

/** Bounds on the workload's resources; `undefined` leaves what the container has. */
export interface ResourceLimits {
  /** Open files a process (RLIMIT_NOFILE, hard; the soft one is only lowered). */
  readonly openFiles: number | undefined;
  /** Processes and threads of the workload's user (RLIMIT_NPROC). */
  readonly processes: number | undefined;
  /** 0..1000; above the supervisor's, so that the kernel takes the workload first. */
  readonly oomScoreAdj: number;
}

/** What was asked for, and what the container's own control group says. */
export interface LimitsInput {
  readonly openFiles: number | undefined;
  readonly processes: number | undefined;
  /** pids.max of the container (cgroup-v2.rst): a number, no bound, or not to be read. */
  readonly pidsMax: number | 'unlimited' | 'unknown';
  /** OPENSHELL_REQUIRE_RUNTIME_PID_LIMIT: refuse a container without one. */
  readonly requirePidsMax: boolean;
}

const DEFAULT_OPEN_FILES = 65_536;
const DEFAULT_PROCESSES = 4_096;
const OOM_SCORE_ADJ = 500;

/**
 * The limits in force. RLIMIT_NPROC has a default only inside a user namespace of ours, where the kernel counts
 * the workload alone (getrlimit(2), Linux 5.14): elsewhere it counts every process of that user id on the
 * node, other pods' among them, and pids.max of the container is the right bound.
 */
export function planLimits(input: LimitsInput, fence: NetworkFence): Result<ResourceLimits, Fault> {
  if (input.requirePidsMax && typeof input.pidsMax !== 'number')
    return err(
      new Fault(
        'confinement',
        `OPENSHELL_REQUIRE_RUNTIME_PID_LIMIT is set and the container's pids.max is ${input.pidsMax}: set podPidsLimit of the kubelet, or --pids-limit of the runtime`,
      ),
    );
  const counted = fence.kind === 'namespace' && fence.user;
  return ok({
    openFiles: input.openFiles ?? DEFAULT_OPEN_FILES,
    processes: input.processes ?? (counted ? DEFAULT_PROCESSES : undefined),
    oomScoreAdj: OOM_SCORE_ADJ,
  });
}

/** Reads pids.max as the kernel writes it: "max" or a number. */
export function parsePidsMax(text: string | undefined): LimitsInput['pidsMax'] {
  const value = text?.trim();
  if (value === 'max') return 'unlimited';
  return value !== undefined && /^\d{1,10}$/.test(value) ? Number(value) : 'unknown';
}
