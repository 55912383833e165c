import { landlockNote } from './landlock.ts';
import type { ConfinementPlan } from './plan.ts';
import type { Probe } from './probe.ts';

/** The parts of a confinement that the statement speaks of, in the order in which it is told. */
export const ASPECTS = [
  'network',
  'loopback',
  'files',
  'supervisor-files',
  'processes',
  'supervisor-process',
  'syscalls',
  'identity',
  'resources',
] as const;
export type Aspect = (typeof ASPECTS)[number];

/** How much of an aspect is enforced. `partial` names what is left open in its note. */
export type Level = 'full' | 'partial' | 'none';

/** One line of the statement: what is enforced, by what, how far; and what is not, and why. */
export interface Enforcement {
  readonly aspect: Aspect;
  readonly level: Level;
  /** The mechanism in the field's terms; `none` where there is none. */
  readonly mechanism: string;
  readonly note: string;
}

/** What the statement is made of. */
export type Decisions = Omit<ConfinementPlan, 'statement'>;

/**
 * Says what a plan enforces and what it does not. The one source of `doctor`, the log lines, the OCSF
 * events, the metrics and the hello of the session; nothing else may claim anything about enforcement.
 */
export function stateEnforcement(plan: Decisions, probe: Probe): readonly Enforcement[] {
  return [
    network(plan),
    loopback(plan),
    files(plan, probe),
    supervisorFiles(plan),
    processes(plan),
    supervisorProcess(plan, probe),
    {
      aspect: 'syscalls',
      level: 'full',
      mechanism: 'seccomp',
      note: 'deny list; no new namespaces, no foreign ABIs, no io_uring',
    },
    {
      aspect: 'identity',
      level: 'full',
      mechanism: plan.identity === undefined ? 'container' : 'setresuid',
      note: `user ${plan.identity?.uid ?? probe.uid}, no capability, no new privileges`,
    },
    resources(plan),
  ];
}

function network({ fence }: Decisions): Enforcement {
  return fence.kind === 'socket'
    ? {
        aspect: 'network',
        level: 'full',
        mechanism: 'socket fence',
        note: 'every TCP socket is bound to lo by PID 1; UDP and other families are refused',
      }
    : {
        aspect: 'network',
        level: 'full',
        mechanism: 'namespace fence',
        note: 'a network namespace with nothing but lo',
      };
}

function loopback({ fence, files: confinement }: Decisions): Enforcement {
  if (confinement.kind === 'landlock' && confinement.connectPorts.length > 0)
    return {
      aspect: 'loopback',
      level: 'full',
      mechanism: `Landlock ABI ${confinement.abi}`,
      note: `TCP connections only to port ${confinement.connectPorts.join(', ')}`,
    };
  return fence.kind === 'socket'
    ? {
        aspect: 'loopback',
        level: 'none',
        mechanism: 'none',
        note: "what else listens on the pod's own addresses can be reached",
      }
    : { aspect: 'loopback', level: 'full', mechanism: 'network namespace', note: 'lo is the workload’s own' };
}

function files({ files: confinement }: Decisions, probe: Probe): Enforcement {
  switch (confinement.kind) {
    case 'landlock':
      return {
        aspect: 'files',
        level: confinement.abi >= 3 || confinement.view !== undefined ? 'full' : 'partial',
        mechanism: `Landlock ABI ${confinement.abi}${confinement.view === undefined ? '' : ' and a mount view'}`,
        note: landlockNote(
          confinement.abi,
          probe.landlock.ok ? probe.landlock.abi : 0,
          confinement.rules,
          confinement.view !== undefined,
        ),
      };
    case 'view':
      return {
        aspect: 'files',
        level: 'full',
        mechanism: 'mount view',
        note: `filesystem_policy by a private root of binds; Landlock is not available (${confinement.noLandlock})`,
      };
    case 'none':
      return { aspect: 'files', level: 'none', mechanism: 'none', note: confinement.reason };
  }
}

function supervisorFiles({ fence, files: confinement }: Decisions): Enforcement {
  const aspect = 'supervisor-files';
  if (fence.kind === 'namespace' && fence.mounts)
    return { aspect, level: 'full', mechanism: 'mounts', note: 'token, keys and state are covered' };
  if (confinement.kind === 'landlock')
    return {
      aspect,
      level: 'full',
      mechanism: `Landlock ABI ${confinement.abi}`,
      note: 'token, keys and state are reachable only if the policy names their directories',
    };
  return {
    aspect,
    level: 'none',
    mechanism: 'none',
    note: 'the token file is readable by the workload’s user id: neither Landlock nor mounts work here',
  };
}

function resources({ limits, pidsMax }: Decisions): Enforcement {
  const aspect = 'resources';
  const files = `${limits.openFiles ?? 'the container’s'} open files a process`;
  const mechanisms = ['rlimits', ...(typeof pidsMax === 'number' ? ['pids cgroup'] : [])];
  const processes = [
    ...(limits.processes === undefined ? [] : [`${limits.processes} processes of its user`]),
    ...(typeof pidsMax === 'number' ? [`${pidsMax} in the container`] : []),
  ];
  const bounded = processes.length > 0;
  return {
    aspect,
    level: bounded ? 'full' : 'partial',
    mechanism: mechanisms.join(', '),
    note: bounded
      ? `${files}; ${processes.join(', ')}`
      : `${files}; processes are not bounded: set podPidsLimit of the kubelet, or --max-processes`,
  };
}

function processes({ fence }: Decisions): Enforcement {
  const aspect = 'processes';
  if (fence.kind === 'namespace' && fence.pid)
    return { aspect, level: 'full', mechanism: 'pid namespace', note: 'a proc file system of its own' };
  return {
    aspect,
    level: 'none',
    mechanism: 'none',
    note: 'the workload sees that the supervisor’s processes exist',
  };
}

function supervisorProcess({ fence, files: confinement }: Decisions, probe: Probe): Enforcement {
  const aspect = 'supervisor-process';
  const mechanisms = ['seccomp'];
  if (confinement.kind === 'landlock' && confinement.abi >= 6) mechanisms.push('Landlock scopes');
  if (fence.kind === 'namespace') {
    if (fence.pid) mechanisms.push('pid namespace');
    if (fence.user) mechanisms.push('user namespace');
  }
  const mechanism = mechanisms.join(', ');
  const acts = `supervisor and init${probe.uid === 0 ? '' : ', although of the same user id,'} cannot be signalled, traced, reniced or re-limited`;
  // In the socket fence the loader that cannot be read keeps the supervisor's /proc closed on any kernel that has it.
  const seen = fence.kind === 'namespace' && fence.user && !fence.pid && !probe.process_isolation.ok;
  // Nothing but being hidden keeps the workload from what starts its next session (init/hidden.h).
  const exposed =
    fence.kind === 'socket' && confinement.kind !== 'landlock' && probe.uid !== 0 && !probe.hidden;
  if (exposed)
    return {
      aspect,
      level: 'partial',
      mechanism,
      note: `${acts}, but what starts a session can be: lib/openshell-shim must be mode 0111, or Landlock must work`,
    };
  return seen
    ? {
        aspect,
        level: 'partial',
        mechanism,
        note: `${acts}, nor their memory read; their maps and lists of descriptors can be seen, and hold no secret`,
      }
    : { aspect, level: 'full', mechanism, note: acts.replace('traced,', 'traced, read,') };
}
