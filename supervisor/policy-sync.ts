import type { GetSandboxConfigResponse } from '../proto/generated/openshell/sandbox/v1/sandbox.ts';
import type { LastGoodConfig } from './last-good-config.ts';
import type { Logger, Logging } from './observability/log.ts';
import type { Metrics } from './observability/metrics.ts';
import type { Outcome, PolicyInForce } from './policy-in-force.ts';

export interface PolicySyncOptions {
  readonly policy: PolicyInForce;
  /** Where a good configuration is kept; undefined where the workload could change it, or nothing outlives us. */
  readonly kept: LastGoodConfig | undefined;
  readonly logging: Logging;
  readonly log: Logger;
  readonly metrics: Metrics;
  /** Tells the gateway what became of a version. */
  readonly report: (
    version: number,
    outcome: { readonly loaded: true } | { readonly loaded: false; readonly error: string },
  ) => void;
  /** The policy in force is another one: connections of older generations are to end. */
  readonly onGeneration: (generation: number) => void;
}

/** Takes the gateway's configurations one by one: applies, reports, keeps them. */
export class PolicySync {
  readonly #options: PolicySyncOptions;
  #keepFailed = false;

  constructor(options: PolicySyncOptions) {
    this.#options = options;
  }

  /** A configuration that came by a poll. */
  received(config: GetSandboxConfigResponse): void {
    const { policy, log } = this.#options;
    const before = policy.document;
    const outcome = policy.apply(config);
    this.taken(config, outcome);
    if (outcome.kind !== 'unchanged') this.#renewed();
    const after = policy.document;
    if (
      JSON.stringify([before.filesystem, before.landlock, before.process]) !==
      JSON.stringify([after.filesystem, after.landlock, after.process])
    )
      log.warn(
        'the files, landlock or process part of the policy changed: it takes effect with the next start',
      );
  }

  /** Tells what became of a configuration, and keeps a good one. */
  taken(config: GetSandboxConfigResponse, outcome: Outcome): void {
    const { logging, metrics, report } = this.#options;
    if (outcome.kind === 'unchanged') {
      report(outcome.version, { loaded: true });
      this.#keep(config);
      return;
    }
    const loaded = outcome.kind === 'loaded';
    metrics.policyLoads.inc({ result: outcome.kind });
    report(outcome.version, loaded ? { loaded } : { loaded, error: outcome.reason });
    const message = loaded ? 'policy loaded' : `policy rejected: ${outcome.reason}`;
    const state = loaded ? 'LOADED' : 'REJECTED';
    const { version, hash } = outcome;
    logging.ocsf({ class: 'config', state, severity: loaded ? 'info' : 'high', message, version, hash });
    if (loaded) this.#keep(config);
  }

  /** The gateway has been away for the whole grace: nothing leaves any more, and the workload lives. */
  quarantine(offlineMs: number): void {
    const { policy, log, logging } = this.#options;
    const hours = (offlineMs / 3_600_000).toFixed(1);
    const reason = `the gateway has been away for ${hours} h, longer than --offline-grace allows: egress is closed until it is back`;
    policy.close('offline', reason);
    this.#renewed();
    log.error(reason);
    logging.ocsf({ class: 'finding', severity: 'high', title: reason, type: 'offline-quarantine' });
  }

  /** The gateway is back. */
  release(): void {
    const { policy, log, logging } = this.#options;
    policy.open('offline');
    this.#renewed();
    const message = 'the gateway is back: the policy decides again';
    log.info(message);
    logging.ocsf({
      class: 'config',
      state: 'ENFORCED',
      severity: 'info',
      message,
      version: policy.version,
      hash: undefined,
    });
  }

  /** Other middlewares are there than before. */
  middlewaresChanged(): void {
    this.#options.policy.renew();
    this.#renewed();
  }

  #renewed(): void {
    const { policy, metrics, onGeneration } = this.#options;
    metrics.policyGeneration.set(policy.generation);
    onGeneration(policy.generation);
  }

  #keep(config: GetSandboxConfigResponse): void {
    const { kept, log } = this.#options;
    if (kept === undefined || config.policy === undefined) return;
    const saved = kept.save(config);
    if (!saved.ok && !this.#keepFailed)
      log.warn(`the configuration cannot be kept for a start without the gateway: ${saved.error}`);
    this.#keepFailed = !saved.ok;
  }
}
