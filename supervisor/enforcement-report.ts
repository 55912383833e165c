import type { Enforcement } from './confinement/statement.ts';
import type { Logger, Logging } from './observability/log.ts';
import type { Metrics } from './observability/metrics.ts';

/** A gap is a finding; what is partly enforced weighs less than what is not enforced at all. */
const SEVERITY = { partial: 'low', none: 'medium' } as const;
/** Without these the sandbox is less than what its policy asks for. */
const GRAVE: ReadonlySet<string> = new Set(['files', 'supervisor-files', 'supervisor-process']);

/** Tells the statement: one log line an aspect, an OCSF event for each gap and one for the whole, metrics. */
export function reportEnforcement(
  statement: readonly Enforcement[],
  logging: Logging,
  log: Logger,
  metrics: Metrics,
): void {
  for (const { aspect, level, mechanism, note } of statement) {
    metrics.enforcement.set({ aspect, mechanism, level }, level === 'none' ? 0 : 1);
    if (level === 'full') {
      log.info(`enforced: ${aspect} by ${mechanism}`, { note });
      continue;
    }
    const grave = GRAVE.has(aspect);
    const what = level === 'none' ? 'NOT enforced' : 'partly enforced';
    if (grave) log.warn(`${what}: ${aspect}`, { note });
    else log.info(`${what}: ${aspect}`, { note });
    logging.ocsf({
      class: 'finding',
      severity: grave && level === 'none' ? 'high' : SEVERITY[level],
      title: `${what}: ${aspect}: ${note}`,
      type: `${aspect}-${level === 'none' ? 'unenforced' : 'partly-enforced'}`,
    });
  }
  const summary = statement.map(({ aspect, level }) => `${aspect}=${level}`);
  logging.ocsf({
    class: 'config',
    state: 'ENFORCED',
    severity: 'info',
    message: summary.join(' '),
    version: undefined,
    hash: undefined,
  });
}
