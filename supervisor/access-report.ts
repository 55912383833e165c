import type { AccessObserver } from './access/events.ts';
import type { Logging } from './observability/log.ts';
import type { Metrics } from './observability/metrics.ts';
import type { RepeatLimiter } from './observability/repeat-limiter.ts';

export interface AccessReportOptions {
  readonly logging: Logging;
  readonly metrics: Metrics;
  readonly limiter: RepeatLimiter;
}

/**
 * Tells of who comes in, as OCSF SSH activity and in the log. A client can cause as many refusals as it likes, so what repeats
 * itself is counted.
 */
export function reportAccess({ logging, metrics, limiter }: AccessReportOptions): AccessObserver {
  const log = logging.logger('access');
  return (event) => {
    switch (event.kind) {
      case 'opened':
        logging.ocsf({ ...SSH, activity: 'OPEN', peer: peerOf(event.user), auth: event.auth });
        return;
      case 'closed': {
        const { user, reason } = event;
        if (reason !== undefined) log.info(`an SSH connection was ended: ${reason}`);
        logging.ocsf({ ...SSH, activity: 'CLOSE', peer: peerOf(user), reason });
        return;
      }
      case 'refused':
      case 'forward-refused': {
        const { kind, reason } = event;
        const denied = { ...SSH, activity: 'FAIL', severity: 'low', action: 'DENIED', reason } as const;
        const admitted = limiter.admit(`ssh ${kind} ${reason}`, (suppressed) => {
          metrics.suppressedEvents.inc(suppressed);
          logging.ocsf(denied, suppressed);
        });
        if (!admitted) return;
        logging.ocsf(denied);
        const what = kind === 'refused' ? 'an SSH client' : 'a forwarded connection';
        log.warn(`${what} was refused: ${reason}`);
      }
    }
  };
}

const SSH = { class: 'ssh', severity: 'info', action: 'ALLOWED', peer: 'relay', auth: undefined } as const;
/** Whoever it is came through the gateway, which alone knows the address. */
const peerOf = (user: string): string => `relay/${user.slice(0, 64)}`;
