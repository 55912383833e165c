import type { SessionState } from './gateway/session.ts';
import type { OfflineState } from './offline-grace.ts';

export interface ReadinessInput {
  /** The main process runs, so its policy is enforced. */
  readonly running: boolean;
  /** The end was asked for. */
  readonly ending: boolean;
  /** Why everything is denied. */
  readonly closed: string | undefined;
  /** Undefined without a gateway. */
  readonly session: SessionState | undefined;
  readonly offline: OfflineState;
}

export interface Readiness {
  readonly ready: boolean;
  /** Why it is not ready, or what is excused. */
  readonly reasons: readonly string[];
}

/**
 * Whether the sandbox counts as ready: the policy is enforced on a running workload, and the session stands or its
 * absence is excused. It is excused while the gateway cannot be reached and the grace lasts, so that an outage of the
 * gateway takes no pod out of service; a gateway that refuses us excuses nothing.
 */
export function readinessOf({ running, ending, closed, session, offline }: ReadinessInput): Readiness {
  const against: string[] = [];
  if (ending) against.push('the sandbox is ending');
  else if (!running) against.push('the main process does not run');
  if (closed !== undefined) against.push(closed);
  const excuses: string[] = [];
  if (session !== undefined && session.kind !== 'established' && session.kind !== 'draining') {
    const why = `the gateway session is ${session.kind}`;
    if (session.kind !== 'refused' && offline.kind === 'grace')
      excuses.push(
        `${why}; the offline grace excuses it, ${Math.round(offline.offlineMs / 1000)} s of it are used`,
      );
    else against.push(why);
  }
  return against.length > 0 ? { ready: false, reasons: against } : { ready: true, reasons: excuses };
}
