import type { SecureContext } from 'node:tls';
import type { Clock, Random } from './clock.ts';
import type { Config } from './config.ts';
import type { DenialLines } from './egress/policy-local/denial-lines.ts';
import { type EgressPlane, type EgressPlaneOptions, startEgressPlane } from './egress-plane.ts';
import { reportEgress } from './egress-report.ts';
import type { GatewayPlane } from './gateway-plane.ts';
import { createInference, type Inference } from './inference.ts';
import type { Logging } from './observability/log.ts';
import type { Metrics } from './observability/metrics.ts';
import type { RepeatLimiter } from './observability/repeat-limiter.ts';
import { createPolicyLocal } from './proposals.ts';
import { readSandboxFacts } from './sandbox-facts.ts';
import type { Need } from './start-step.ts';
import { siteProxy } from './upstream-settings.ts';

/** What is made here is left out of what the plane takes. */
type Made = 'config' | 'credentialed' | 'upstreamProxy' | 'services' | 'observe' | 'log';

export interface SandboxEgressOptions extends Omit<EgressPlaneOptions, Made> {
  readonly config: Config;
  readonly clock: Clock;
  readonly random: Random;
  readonly gateway: GatewayPlane | undefined;
  readonly denialLines: DenialLines;
  readonly logging: Logging;
  readonly metrics: Metrics;
  readonly limiter: RepeatLimiter;
  readonly need: Need;
  /** What upstream servers are verified against. */
  readonly trust: () => SecureContext;
  /** Reads a file as root, where we can be that. */
  readonly readSecret: (path: string) => string;
  /** The container's variables. */
  readonly variable: (name: string) => string | undefined;
  /** Takes what undoes a step, as soon as that is done. */
  readonly undo: (step: () => Promise<void> | void) => void;
}

/**
 * Opens every way out of the sandbox, with what is served there by the supervisor itself: policy.local and inference.local.
 * Throws the Fault of the step that failed.
 */
export async function openSandboxEgress(
  options: SandboxEgressOptions,
): Promise<{ readonly plane: EgressPlane; readonly inference: Inference }> {
  const { config, gateway, logging, need, policy, metrics, limiter, undo } = options;
  const log = logging.logger('egress');
  const upstreamProxy = need(
    'read the upstream proxy',
    siteProxy(config.upstreamProxy, (file) => options.readSecret(file)),
  );
  const policyLocal = createPolicyLocal({
    clock: options.clock,
    logging,
    policy,
    denials: options.denialLines,
    link: gateway?.link,
    sandboxName: config.sandboxName,
    workspace: options.workspace,
    enabled: () => options.proposals() !== undefined,
  });
  const inference = need(
    'serve inference.local',
    createInference({
      ...options,
      link: gateway?.link,
      upstreamProxy,
      facts: readSandboxFacts(),
      log: logging.logger('inference'),
    }),
  );
  undo(() => inference.stop());
  inference.start();
  const plane = need(
    'start the ways out',
    await startEgressPlane({
      ...options,
      credentialed: gateway !== undefined,
      upstreamProxy,
      services: [policyLocal, inference.service],
      observe: reportEgress({ logging, log, metrics, limiter, denials: gateway?.denials }),
      log,
    }),
  );
  undo(() => plane.stop());
  return { plane, inference };
}
