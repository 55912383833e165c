import { Fault } from '../fault.ts';
import { err, ok, type Result } from '../result.ts';
import type { Probe, ProbeOutcome } from './probe.ts';

/** What the policy asks of the file system, with absolute paths. */
export interface FileRules {
  readonly readOnly: readonly string[];
  readonly readWrite: readonly string[];
  readonly compatibility: 'best_effort' | 'hard_requirement';
}

/** The ids that the workload is given; `undefined` leaves those of the container. */
export interface WorkloadIdentity {
  readonly uid: number;
  readonly gid: number;
  readonly groups: readonly number[];
}

/** How the network is fenced. There is no member for "not at all" (design.md, 4). */
export type NetworkFence = { readonly kind: 'socket' };

export type FileConfinement =
  | { readonly kind: 'landlock'; readonly abi: number; readonly rules: FileRules }
  | { readonly kind: 'none'; readonly reason: string };

/** One line of the statement: what is enforced, by what, and what is not and why. */
export interface Enforcement {
  readonly aspect: 'network' | 'files' | 'signals' | 'syscalls' | 'identity';
  readonly enforced: boolean;
  readonly mechanism: string;
  readonly note: string;
}

/** Everything that the shim is told, and what may be said about it. */
export interface ConfinementPlan {
  readonly fence: NetworkFence;
  readonly files: FileConfinement;
  readonly identity: WorkloadIdentity | undefined;
  readonly statement: readonly Enforcement[];
}

export interface PlanInput {
  readonly probe: Probe;
  readonly files: FileRules;
  /** From OPENSHELL_SANDBOX_UID and _GID; needed when the container runs as root. */
  readonly identity: WorkloadIdentity | undefined;
  /** Upper bound for Landlock's ABI, for tests of older kernels. */
  readonly landlockAbiMax?: number;
}

const refusedWith = (outcome: ProbeOutcome): string => (outcome.ok ? '' : outcome.errno);

/**
 * Chooses the mechanisms from what the probe found, never from names or versions. Refuses, with the
 * reason and the remedy, when the network cannot be fenced or a hard requirement cannot be met.
 */
export function planConfinement(input: PlanInput): Result<ConfinementPlan, Fault> {
  const { probe } = input;
  if (!probe.proc)
    return err(
      new Fault('confinement', '/proc is not mounted: callers are identified by it; mount proc at /proc'),
    );
  const identity = planIdentity(input);
  if (!identity.ok) return identity;
  if (!probe.socket_fence.ok) return err(noFence(probe));
  const files = planFiles(input);
  if (!files.ok) return files;
  return ok({
    fence: { kind: 'socket' },
    files: files.value,
    identity: identity.value,
    statement: stateOf(files.value, identity.value, probe),
  });
}

function noFence(probe: Probe): Fault {
  const why = probe.seccomp_filter.ok
    ? `the kernel refuses the socket fence (seccomp user notification with injected sockets, Linux 5.14 or newer: ${refusedWith(probe.socket_fence)})`
    : `the container forbids seccomp filters (${refusedWith(probe.seccomp_filter)})`;
  return new Fault(
    'confinement',
    `the network cannot be fenced, so the workload is not started: ${why}; use a seccompProfile of type RuntimeDefault on a kernel of 5.14 or newer`,
  );
}

function planIdentity({ probe, identity }: PlanInput): Result<WorkloadIdentity | undefined, Fault> {
  if (probe.uid !== 0) return ok(undefined); // without root there is nothing to change, and nothing to drop
  if (identity !== undefined) return ok(identity);
  return err(
    new Fault(
      'confinement',
      'the container runs as root and no identity for the workload is known: set OPENSHELL_SANDBOX_UID and OPENSHELL_SANDBOX_GID, or runAsUser in the pod',
    ),
  );
}

function planFiles({ probe, files, landlockAbiMax }: PlanInput): Result<FileConfinement, Fault> {
  if (probe.landlock.ok) {
    const abi = Math.min(probe.landlock.abi, landlockAbiMax ?? Number.POSITIVE_INFINITY);
    return ok({ kind: 'landlock', abi, rules: files });
  }
  const reason = `Landlock is not available (${probe.landlock.errno})`;
  if (files.compatibility === 'best_effort') return ok({ kind: 'none', reason });
  return err(
    new Fault(
      'confinement',
      `files cannot be confined: ${reason}; use a kernel with Landlock in its lsm= list, or set landlock.compatibility to best_effort`,
    ),
  );
}

function stateOf(
  files: FileConfinement,
  identity: WorkloadIdentity | undefined,
  probe: Probe,
): readonly Enforcement[] {
  const scoped = files.kind === 'landlock' && files.abi >= 6;
  return [
    {
      aspect: 'network',
      enforced: true,
      mechanism: 'socket fence',
      note: 'every TCP socket is bound to lo by PID 1; UDP and other families are refused',
    },
    files.kind === 'landlock'
      ? { aspect: 'files', enforced: true, mechanism: `Landlock ABI ${files.abi}`, note: 'filesystem_policy' }
      : { aspect: 'files', enforced: false, mechanism: 'none', note: files.reason },
    {
      aspect: 'signals',
      enforced: true,
      mechanism: scoped ? 'Landlock scopes and seccomp' : 'seccomp',
      note: 'supervisor and init cannot be signalled, traced, reniced or re-limited',
    },
    { aspect: 'syscalls', enforced: true, mechanism: 'seccomp', note: 'deny list' },
    {
      aspect: 'identity',
      enforced: true,
      mechanism: identity === undefined ? 'container' : 'setresuid',
      note: `user ${identity?.uid ?? probe.uid}, no capability, no new privileges`,
    },
  ];
}
