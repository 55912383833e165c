import { Fault } from '../fault.ts';
import { err, ok, type Result } from '../result.ts';
import { loopbackPorts, settledRules } from './landlock.ts';
import { type LimitsInput, planLimits, type ResourceLimits } from './limits.ts';
import type { Probe, ProbeOutcome } from './probe.ts';
import { type Enforcement, stateEnforcement } from './statement.ts';

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
export type NetworkFence =
  | { readonly kind: 'socket' }
  | {
      readonly kind: 'namespace';
      /** Whether a user namespace lies around the others; a privileged container needs none. */
      readonly user: boolean;
      readonly ipc: boolean;
      /** Whether mounts work there: hidden paths, a resolv.conf of its own. */
      readonly mounts: boolean;
      /** Whether there is a pid namespace with a proc file system of its own. */
      readonly pid: boolean;
    };

export type FileConfinement =
  | {
      readonly kind: 'landlock';
      readonly abi: number;
      readonly rules: FileRules;
      /** The only TCP ports that may be connected to; empty where that is not asked for or not needed. */
      readonly connectPorts: readonly number[];
      /** What a private root of binds is to hold, where it makes up for what an old ABI leaves open. */
      readonly view: FileRules | undefined;
    }
  /** A private root that holds only the paths of the policy. */
  | { readonly kind: 'view'; readonly rules: FileRules; readonly noLandlock: string }
  | { readonly kind: 'none'; readonly reason: string };

/** Everything that the shim is told, and what may be said about it. */
export interface ConfinementPlan {
  readonly fence: NetworkFence;
  readonly files: FileConfinement;
  readonly identity: WorkloadIdentity | undefined;
  /** Absolute paths that the workload must not see where mounts work: token, keys, state. */
  readonly hidden: readonly string[];
  readonly limits: ResourceLimits;
  /** What the container's control group bounds the number of processes to. */
  readonly pidsMax: LimitsInput['pidsMax'];
  readonly statement: readonly Enforcement[];
}

export interface PlanInput {
  readonly probe: Probe;
  readonly files: FileRules;
  /** Whom the workload runs as; needed when the container runs as root. */
  readonly identity: WorkloadIdentity | undefined;
  readonly limits: LimitsInput;
  /** The supervisor's own files and directories. */
  readonly hidden?: readonly string[];
  /** Upper bound for Landlock's ABI, for tests of older kernels. */
  readonly landlockAbiMax?: number | undefined;
  /** The ports of the supervisor, where --strict-loopback asks that no other be reachable. */
  readonly strictLoopback?: readonly number[] | undefined;
  /** Follows the links of a path as far as it exists; by default there are none. */
  readonly canonical?: (path: string) => string;
}

/** The first ABI that restricts truncating by path (Linux 6.2). */
const TRUNCATE_ABI = 3;

const CAP_SETGID = 6;
const CAP_SETUID = 7;

const refusedWith = (outcome: ProbeOutcome): string => (outcome.ok ? '' : outcome.errno);

const has = ({ capabilities }: Probe, capability: number): boolean =>
  ((BigInt(`0x${capabilities}`) >> BigInt(capability)) & 1n) === 1n;

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
  const fence = planFence(probe);
  if (!fence.ok) return fence;
  const files = planFiles(input, fence.value);
  if (!files.ok) return files;
  const limits = planLimits(input.limits, fence.value);
  if (!limits.ok) return limits;
  const decisions = {
    limits: limits.value,
    pidsMax: input.limits.pidsMax,
    fence: fence.value,
    files: files.value,
    identity: identity.value,
    hidden: input.hidden ?? [],
  };
  return ok({ ...decisions, statement: stateEnforcement(decisions, probe) });
}

/** The namespace fence where it works: private loopback and UDP. Else the socket fence. Else nothing starts. */
function planFence(probe: Probe): Result<NetworkFence, Fault> {
  if (!probe.seccomp_filter.ok)
    return err(noFence(`the container forbids seccomp filters (${refusedWith(probe.seccomp_filter)})`));
  if (probe.network_namespace.ok)
    return ok({
      kind: 'namespace',
      user: !probe.privileged,
      ipc: probe.ipc_namespace.ok,
      mounts: probe.mounts.ok,
      pid: probe.pid_namespace.ok,
    });
  if (probe.socket_fence.ok) return ok({ kind: 'socket' });
  return err(
    noFence(
      `neither namespaces (${refusedWith(probe.network_namespace)}) nor the socket fence (seccomp user notification with injected sockets, Linux 5.9 or newer: ${refusedWith(probe.socket_fence)}) work here`,
    ),
  );
}

function noFence(why: string): Fault {
  return new Fault(
    'confinement',
    `the network cannot be fenced, so the workload is not started: ${why}; use a seccompProfile of type RuntimeDefault on a kernel of 5.9 or newer, or a runtimeClassName of gVisor or Kata`,
  );
}

function planIdentity({ probe, identity }: PlanInput): Result<WorkloadIdentity | undefined, Fault> {
  if (probe.uid !== 0) return ok(undefined); // without root there is nothing to change, and nothing to drop
  if (identity === undefined)
    return err(
      new Fault(
        'confinement',
        'the container runs as root and no identity for the workload is known: set OPENSHELL_SANDBOX_UID and OPENSHELL_SANDBOX_GID, or runAsUser in the pod',
      ),
    );
  if (has(probe, CAP_SETUID) && has(probe, CAP_SETGID)) return ok(identity);
  return err(
    new Fault(
      'confinement',
      'the container runs as root without the capabilities SETUID and SETGID, so the workload cannot be given another user: set runAsUser in the pod, or add both capabilities',
    ),
  );
}

function planFiles(input: PlanInput, fence: NetworkFence): Result<FileConfinement, Fault> {
  const { probe, files, landlockAbiMax } = input;
  const abi = probe.landlock.ok ? Math.min(probe.landlock.abi, landlockAbiMax ?? probe.landlock.abi) : 0;
  const connectPorts = loopbackPorts(abi, fence.kind, input.strictLoopback);
  if (!connectPorts.ok) return connectPorts;
  const canView = fence.kind === 'namespace' && fence.mounts && probe.private_view.ok;
  if (abi > 0) {
    const rules = settledRules(files, input.hidden ?? [], input.canonical ?? ((path) => path));
    // Before ABI 3 truncate(2) passes Landlock (measured: it emptied a file outside the policy); no mount lets it.
    const view = abi < TRUNCATE_ABI && canView ? files : undefined;
    return ok({ kind: 'landlock', abi, rules, connectPorts: connectPorts.value, view });
  }
  const why = probe.landlock.ok ? '--landlock-abi-max 0' : probe.landlock.errno;
  if (canView) return ok({ kind: 'view', rules: files, noLandlock: why });
  const reason = `Landlock is not available (${why}), and neither are mounts (${
    fence.kind === 'namespace' ? refusedWith(probe.private_view) : 'no namespaces'
  })`;
  if (files.compatibility === 'best_effort') return ok({ kind: 'none', reason });
  return err(
    new Fault(
      'confinement',
      `files cannot be confined: ${reason}; use a kernel with Landlock in its lsm= list, or set landlock.compatibility to best_effort`,
    ),
  );
}
