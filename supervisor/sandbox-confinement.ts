import type { Config } from './config.ts';
import { makeMissingPaths } from './confinement/missing-paths.ts';
import { type ConfinementPlan, planConfinement } from './confinement/plan.ts';
import { actAs, type EffectiveIds, type Privileges, unchanged } from './confinement/privileges.ts';
import { runProbe } from './confinement/probe.ts';
import { confinementInput } from './confinement-input.ts';
import { reportEnforcement } from './enforcement-report.ts';
import type { Logging } from './observability/log.ts';
import type { Metrics } from './observability/metrics.ts';
import type { PolicyInForce } from './policy-in-force.ts';
import { ok } from './result.ts';
import type { Need } from './start-step.ts';
import { prepareWorkspace } from './workload/workspace.ts';

export interface SandboxConfinementOptions {
  readonly config: Config;
  readonly policy: PolicyInForce;
  /** Directories of ours that the workload reads. */
  readonly readable: readonly string[];
  readonly need: Need;
  readonly logging: Logging;
  readonly metrics: Metrics;
}

/** What this container enforces on everything that runs in it, and as whom the supervisor acts from now on. */
export interface SandboxConfinement {
  readonly plan: ConfinementPlan;
  readonly privileges: Privileges;
}

/** Asks the kernel, plans, makes the places that the workload may write, and tells what is enforced and what is not. */
export async function confineSandbox(options: SandboxConfinementOptions): Promise<SandboxConfinement> {
  const { config, policy, need, logging } = options;
  const log = logging.logger('supervisor');
  const probe = need('probe the kernel', await runProbe(config.launcher));
  const input = need('confine the workload', confinementInput(config, policy.document, options.readable));
  const plan = need('confine the workload', planConfinement({ probe, ...input }));
  const { identity, fence } = plan;
  if (identity !== undefined) {
    for (const warning of prepareWorkspace(config.workdir, identity)) log.warn(warning);
    const made = plan.files.kind === 'none' ? ok([]) : makeMissingPaths(input.files.readWrite, identity);
    for (const warning of need('make the read_write paths', made)) log.warn(warning);
  }
  if (config.spiffeSocket !== undefined && !(fence.kind === 'namespace' && fence.mounts))
    log.warn(
      'the workload can reach the SPIFFE socket too, because this container forbids mounts: give it no identity that the workload must not have',
    );
  reportEnforcement(plan.statement, logging, log, options.metrics);
  // Inside a user namespace of ours only its owner, root, may look at the workload.
  const owned = fence.kind === 'namespace' && fence.user;
  const privileges = identity === undefined || owned ? unchanged : actAs(identity, effectiveIds());
  return { plan, privileges };
}

/** Both exist wherever an id can be 0. */
function effectiveIds(): EffectiveIds {
  const { setegid, seteuid } = process;
  if (setegid === undefined || seteuid === undefined) throw new Error('this platform has no user ids');
  return { setegid: setegid.bind(process), seteuid: seteuid.bind(process) };
}
