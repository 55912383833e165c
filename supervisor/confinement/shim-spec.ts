import type { ResourceLimits } from './limits.ts';
import type { ConfinementPlan, FileConfinement, FileRules, NetworkFence } from './plan.ts';

type NamespaceFence = Extract<NetworkFence, { kind: 'namespace' }>;

/** What the private resolv.conf names: the supervisor's own resolver. */
const NAMESERVER = '127.0.0.1';

/** What to run inside the confinement. */
export interface Launch {
  readonly argv: readonly string[];
  /** Serve files over stdin and stdout (init/sftp.h) and execute nothing, `argv` neither. */
  readonly builtin?: 'sftp' | undefined;
  readonly cwd: string | undefined;
  readonly environment: ReadonlyMap<string, string>;
  /** Whether it may signal what other sessions run; the processes of the supervisor it may not signal in any case. */
  readonly signalsOthers?: boolean;
  /** Whether paths of the policy, or `cwd`, may have gone since the main process started: that is warned of then. */
  readonly toleratesChanges?: boolean;
  /** Whether its stdin is a terminal, which becomes its controlling one. */
  readonly terminal?: boolean;
}

function viewOf(files: FileConfinement): FileRules | undefined {
  if (files.kind === 'view') return files.rules;
  return files.kind === 'landlock' ? files.view : undefined;
}

/** Encodes what `openshell-sandbox anchor` reads (init/spec.h): the namespaces that sessions share. */
export function encodeAnchorSpec(plan: ConfinementPlan, fence: NamespaceFence): Buffer {
  const records = ['namespace network'];
  if (fence.user) records.push('namespace user');
  if (fence.ipc) records.push('namespace ipc');
  if (fence.mounts) {
    records.push('namespace mount', `nameserver ${NAMESERVER}`);
    for (const path of plan.hidden) records.push(`hide ${path}`);
    if (fence.pid) records.push('namespace pid');
    const view = viewOf(plan.files);
    if (view !== undefined) {
      records.push('view private', `landlock ${view.compatibility}`);
      for (const path of view.readOnly) records.push(`read-only ${path}`);
      for (const path of view.readWrite) records.push(`read-write ${path}`);
    }
  }
  if (plan.identity !== undefined) records.push(`uid ${plan.identity.uid}`, `gid ${plan.identity.gid}`);
  return encode(records);
}

/**
 * Encodes the specification that `openshell-sandbox exec` and `join` read (init/spec.h): NUL-terminated records
 * of "word value". A NUL inside a value cannot be expressed to execve(2) either, so it throws.
 */
export function encodeShimSpec(
  plan: ConfinementPlan,
  launch: Launch,
  limits: ResourceLimits,
  protectedPids: readonly number[],
): Buffer {
  const records: string[] = [`fence ${plan.fence.kind}`];
  if (plan.files.kind === 'landlock') {
    const { rules, abi } = plan.files;
    records.push(`landlock ${rules.compatibility}`, `landlock-abi-max ${abi}`);
    for (const path of rules.readOnly) records.push(`read-only ${path}`);
    for (const path of rules.readWrite) records.push(`read-write ${path}`);
    for (const port of plan.files.connectPorts) records.push(`connect-port ${port}`);
    for (const path of plan.hidden) records.push(`secret ${path}`);
    if (launch.signalsOthers === true) records.push('signals unscoped');
  } else {
    records.push('landlock off');
  }
  if (launch.toleratesChanges === true) records.push('changes tolerated');
  if (plan.identity !== undefined) {
    records.push(`uid ${plan.identity.uid}`, `gid ${plan.identity.gid}`);
    for (const group of plan.identity.groups) records.push(`group ${group}`);
  }
  for (const pid of protectedPids) records.push(`protect ${pid}`);
  if (limits.openFiles !== undefined) records.push(`nofile ${limits.openFiles}`);
  if (limits.processes !== undefined) records.push(`nproc ${limits.processes}`);
  records.push(`oom-score-adj ${limits.oomScoreAdj}`);
  if (launch.terminal === true) records.push('terminal controlling');
  if (launch.cwd !== undefined) records.push(`cwd ${launch.cwd}`);
  for (const [name, value] of launch.environment) records.push(`env ${name}=${value}`);
  if (launch.builtin !== undefined) records.push(`builtin ${launch.builtin}`);
  else for (const argument of launch.argv) records.push(`arg ${argument}`);
  return encode(records);
}

function encode(records: readonly string[]): Buffer {
  for (const record of records)
    if (record.includes('\0'))
      throw new RangeError(`a NUL byte in the workload's ${record.split(' ', 1)[0]}`);
  return Buffer.from(`${[...records, 'end'].join('\0')}\0`, 'utf8');
}
