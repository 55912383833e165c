import { basename } from 'node:path';
import type { EgressEvent } from './egress/events.ts';
import type { Logger, Logging } from './observability/log.ts';
import type { Metrics } from './observability/metrics.ts';
import { shorthand } from './observability/ocsf.ts';

/** Turns what happens to connections into security events, log lines and metrics. */
export function reportEgress(logging: Logging, log: Logger, metrics: Metrics): (event: EgressEvent) => void {
  return (event) => {
    switch (event.kind) {
      case 'denied': {
        metrics.decisions.inc({ decision: 'denied' });
        metrics.denials.inc({ stage: event.stage });
        const { identity, intent, policy, reason } = event;
        const process = identity && { name: basename(identity.binary), pid: identity.pid };
        const engine = event.stage === 'ssrf' ? 'ssrf' : 'policy';
        const place = { process, host: intent.host, port: intent.port, policy, engine, reason };
        return logging.ocsf(
          shorthand({ class: 'network', activity: 'OPEN', severity: 'medium', action: 'DENIED', ...place }),
        );
      }
      case 'opened': {
        metrics.decisions.inc({ decision: 'allowed' });
        const { identity, intent, policy } = event;
        const process = { name: basename(identity.binary), pid: identity.pid };
        const place = {
          process,
          host: intent.host,
          port: intent.port,
          policy,
          engine: 'policy',
          reason: undefined,
        };
        return logging.ocsf(
          shorthand({ class: 'network', activity: 'OPEN', severity: 'info', action: 'ALLOWED', ...place }),
        );
      }
      case 'request': {
        const { identity, intent, request } = event;
        metrics.requests.inc({ outcome: request.outcome });
        const { method, path, policy, reason } = request;
        const denied = request.outcome === 'denied' || request.outcome === 'malformed';
        const process = { name: basename(identity.binary), pid: identity.pid };
        return logging.ocsf(
          shorthand({
            class: 'http',
            severity: denied ? 'medium' : request.outcome === 'audited' ? 'low' : 'info',
            action: denied ? 'DENIED' : request.outcome === 'audited' ? 'OBSERVED' : 'ALLOWED',
            method,
            process,
            url: `${intent.host}:${intent.port}${path}`,
            policy,
            reason,
          }),
        );
      }
      case 'failed':
        metrics.decisions.inc({ decision: 'failed' });
        return log.warn('an allowed connection could not be made', {
          host: event.intent.host,
          port: event.intent.port,
          reason: event.reason,
        });
      case 'closed':
        metrics.bytes.inc({ direction: 'sent' }, event.sentBytes);
        metrics.bytes.inc({ direction: 'received' }, event.receivedBytes);
        return log.debug('connection closed', {
          host: event.intent.host,
          port: event.intent.port,
          sent: event.sentBytes,
          received: event.receivedBytes,
          ms: event.durationMs,
        });
      case 'refused':
        metrics.decisions.inc({ decision: 'refused' });
        return log.warn('a connection to the proxy was refused', { reason: event.reason });
    }
  };
}
