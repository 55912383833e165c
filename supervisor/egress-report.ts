import { basename } from 'node:path';
import type { DenialReporter } from './denials/denial-reporter.ts';
import type { EgressEvent } from './egress/events.ts';
import { reportEvaluation } from './middleware-report.ts';
import type { Logger, Logging } from './observability/log.ts';
import type { Metrics } from './observability/metrics.ts';
import type { OcsfEvent } from './observability/ocsf.ts';
import type { RepeatLimiter } from './observability/repeat-limiter.ts';

export interface EgressReportOptions {
  readonly logging: Logging;
  readonly log: Logger;
  readonly metrics: Metrics;
  readonly limiter: RepeatLimiter;
  /** Undefined without a gateway. */
  readonly denials: DenialReporter | undefined;
}

/** Turns what happens to connections and requests into security events, log lines, metrics and denial summaries. */
export function reportEgress({
  logging,
  log,
  metrics,
  limiter,
  denials,
}: EgressReportOptions): (event: EgressEvent) => void {
  /** Tells it unless it repeats itself; says whether it was told. */
  const tell = (event: OcsfEvent, key: string): boolean => {
    const admitted = limiter.admit(key, (suppressed) => {
      metrics.suppressedEvents.inc(suppressed);
      logging.ocsf(event, suppressed);
    });
    if (admitted) logging.ocsf(event);
    return admitted;
  };
  return (event) => {
    switch (event.kind) {
      case 'denied': {
        metrics.decisions.inc({ decision: 'denied' });
        metrics.denials.inc({ stage: event.stage });
        // Before the call: what has no gateway has no summaries, but events all the same.
        const told = tell(securityEvent(event), keyOf(`denied ${event.stage}`, event));
        denials?.observe(event, !told);
        return;
      }
      case 'opened':
        metrics.decisions.inc({ decision: 'allowed' });
        tell(securityEvent(event), keyOf('opened', event));
        denials?.observe(event, false);
        return;
      case 'request': {
        metrics.requests.inc({ outcome: event.request.outcome });
        const { method, path } = event.request;
        const told = tell(securityEvent(event), `${keyOf(event.request.outcome, event)} ${method} ${path}`);
        denials?.observe(event, !told);
        return;
      }
      case 'middleware':
        reportEvaluation(event, metrics, tell);
        return;
      case 'failed':
        metrics.decisions.inc({ decision: 'failed' });
        log.warn('an allowed connection could not be made', {
          host: event.intent.host,
          port: event.intent.port,
          reason: event.reason,
        });
        return;
      case 'closed':
        metrics.bytes.inc({ direction: 'sent' }, event.sentBytes);
        metrics.bytes.inc({ direction: 'received' }, event.receivedBytes);
        log.debug('connection closed', {
          host: event.intent.host,
          port: event.intent.port,
          sent: event.sentBytes,
          received: event.receivedBytes,
          ms: event.durationMs,
        });
        return;
      case 'name-denied': {
        metrics.denials.inc({ stage: 'dns' });
        // Not by the limiter: made-up names would take its keys. Whoever observes has limited them already.
        const more = event.passedOver === 0 ? '' : `; ${event.passedOver} other names were passed over`;
        logging.ocsf({
          class: 'network',
          activity: 'REFUSE',
          severity: 'low',
          action: 'DENIED',
          process: undefined,
          host: event.name,
          port: 53,
          policy: undefined,
          engine: 'dns',
          reason: `no rule names this host${more}`,
        });
        return;
      }
      case 'name-failed':
        log.warn('a name of the policy got no address', { host: event.name, reason: event.reason });
        return;
      case 'refused':
        metrics.decisions.inc({ decision: 'refused' });
        log.warn('a connection to the proxy was refused', { reason: event.reason });
        return;
    }
  };
}

type Told = Extract<EgressEvent, { readonly kind: 'denied' | 'opened' | 'request' }>;

const keyOf = (what: string, { intent, identity }: Told): string =>
  `${what} ${identity?.binary ?? ''} ${intent.host}:${intent.port}`;

function securityEvent(event: Told): OcsfEvent {
  const { intent, identity } = event;
  const process = identity && { name: basename(identity.binary), pid: identity.pid };
  const { host, port } = intent;
  switch (event.kind) {
    case 'denied': {
      const engine = event.stage === 'ssrf' ? 'ssrf' : 'policy';
      const { policy, reason } = event;
      return {
        class: 'network',
        activity: 'OPEN',
        severity: 'medium',
        action: 'DENIED',
        process,
        host,
        port,
        policy,
        engine,
        reason,
      };
    }
    case 'opened': {
      const { policy } = event;
      return {
        class: 'network',
        activity: 'OPEN',
        severity: 'info',
        action: 'ALLOWED',
        process,
        host,
        port,
        policy,
        engine: 'policy',
        reason: undefined,
      };
    }
    case 'request': {
      const { outcome, method, path, policy, reason } = event.request;
      const denied = outcome === 'denied' || outcome === 'malformed';
      return {
        class: 'http',
        severity: denied ? 'medium' : outcome === 'audited' ? 'low' : 'info',
        action: denied ? 'DENIED' : outcome === 'audited' ? 'OBSERVED' : 'ALLOWED',
        method,
        process: process ?? { name: '-', pid: 0 },
        url: `${host}:${port}${path}`,
        policy,
        reason,
      };
    }
  }
}
