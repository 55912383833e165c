import type { SecureContext } from 'node:tls';
import type { Clock, Random } from './clock.ts';
import type { Config } from './config.ts';
import { BodyBudget } from './egress/http/connection-context.ts';
import { Backends } from './egress/inference/backends.ts';
import { type InferenceEvent, InferenceService } from './egress/inference/inference-service.ts';
import { readRouteFile } from './egress/inference/route-file.ts';
import { RouteTable } from './egress/inference/route-table.ts';
import type { LocalService } from './egress/local-services.ts';
import type { Resolve } from './egress/resolver.ts';
import type { UpstreamProxy } from './egress/upstream-proxy.ts';
import { Fault } from './fault.ts';
import type { GatewayLink } from './gateway/link.ts';
import type { Logger, Logging } from './observability/log.ts';
import type { Metrics } from './observability/metrics.ts';
import type { OcsfEvent } from './observability/ocsf.ts';
import type { RepeatLimiter } from './observability/repeat-limiter.ts';
import { err, ok, type Result } from './result.ts';
import type { SandboxFacts } from './sandbox-facts.ts';

export interface InferenceOptions {
  readonly config: Pick<Config, 'inferenceRoutes'>;
  readonly link: GatewayLink | undefined;
  readonly clock: Clock;
  readonly random: Random;
  readonly resolve: Resolve;
  readonly trust: () => SecureContext;
  readonly upstreamProxy: UpstreamProxy | undefined;
  readonly facts: SandboxFacts;
  readonly logging: Logging;
  readonly log: Logger;
  readonly metrics: Metrics;
  readonly limiter: RepeatLimiter;
  /** Reads the file of routes, which holds keys. */
  readonly readSecret: (path: string) => string;
  /** The container's variables, for `api_key_env`. */
  readonly variable: (name: string) => string | undefined;
}

/** inference.local, and what keeps its routes. */
export interface Inference {
  readonly service: LocalService;
  /** Variables that hold keys: no process of the workload may inherit them. */
  readonly withheld: ReadonlySet<string>;
  start(): void;
  stop(): void;
}

/** What all requests together may hold in memory, in bytes. */
const BODY_BYTES = 64 << 20;

/** Makes inference.local: with the routes of a file where one is given, else with the gateway's. Fails with a faulty file. */
export function createInference(options: InferenceOptions): Result<Inference, Fault> {
  const { config, link, clock, random, log } = options;
  const { resolve, trust, upstreamProxy, facts } = options;
  const hostGateways = facts.hostGateways ?? new Map<string, string>();
  const backends = new Backends({ resolve, trust, upstreamProxy, hostGateways });
  const withheld = new Set<string>();
  const file = config.inferenceRoutes;
  const routes = new RouteTable({
    clock,
    random,
    fetch: file === undefined && link !== undefined ? () => link.inferenceBundle() : undefined,
    onChange: (all) => {
      backends.keep(all.map(({ base }) => base));
      log.info(all.length === 0 ? 'inference.local has no routes' : 'inference.local has routes', {
        routes: all.length,
      });
    },
    onFault: (message) => log.warn(`inference: ${message}`),
  });
  if (file !== undefined) {
    const read = readFile(file, options, withheld);
    if (!read.ok) return read;
    routes.set(read.value);
  }
  const service = new InferenceService({
    routes,
    backends,
    now: () => clock.monotonic(),
    bodies: new BodyBudget(BODY_BYTES),
    observe: (event) => report(event, options),
  });
  return ok({
    service,
    withheld,
    start: () => void routes.start(),
    stop() {
      routes.stop();
      backends.close();
    },
  });
}

function readFile(file: string, { readSecret, variable }: InferenceOptions, withheld: Set<string>) {
  let text: string;
  try {
    text = readSecret(file);
  } catch (cause) {
    return err(new Fault('config', `cannot read ${file}, which --inference-routes names`, { cause }));
  }
  const read = readRouteFile(text, (name) => {
    withheld.add(name);
    return variable(name);
  });
  return read.ok ? read : err(new Fault('config', `${file}, which --inference-routes names: ${read.error}`));
}

/** A workload can call as often as it likes, so what repeats itself is counted. */
function report(event: InferenceEvent, { logging, log, metrics, limiter }: InferenceOptions): void {
  const { status, model, provider, operation, durationMs, fault } = event;
  metrics.inferenceCalls.inc({ outcome: fault === undefined ? 'success' : 'failure' });
  const told: OcsfEvent = {
    class: 'api',
    severity: fault === undefined ? 'info' : 'low',
    // A stream may break long after its status.
    status: fault !== undefined && status < 400 ? 502 : status,
    model: model === '' ? '-' : model,
    provider: provider === '' ? '-' : provider,
    durationMs,
    operation,
  };
  const admitted = limiter.admit(`inference ${operation} ${status} ${fault ?? ''}`, (suppressed) => {
    metrics.suppressedEvents.inc(suppressed);
    logging.ocsf(told, suppressed);
  });
  if (!admitted) return;
  logging.ocsf(told);
  if (fault !== undefined)
    log.warn(`a call of inference.local failed: ${fault}`, { operation, provider, status });
}
