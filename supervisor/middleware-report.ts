import type { EgressEvent } from './egress/events.ts';
import type { ObservedFinding } from './egress/middleware/evaluation.ts';
import type { Metrics } from './observability/metrics.ts';
import type { OcsfEvent, Severity } from './observability/ocsf.ts';

const RANK: Readonly<Record<ObservedFinding['severity'], number>> = { low: 0, medium: 1, high: 2 };

/** Turns one evaluation into metrics and security events; the request itself is told of by its own event. */
export function reportEvaluation(
  { intent, evaluation }: Extract<EgressEvent, { readonly kind: 'middleware' }>,
  metrics: Metrics,
  tell: (event: OcsfEvent, key: string) => void,
): void {
  const { middleware, operation, outcome, code, findings, method, path } = evaluation;
  metrics.middlewareEvaluations.inc({ operation, outcome });
  const where = `${method} ${intent.host}:${intent.port}${path}`;
  const about = (what: string, severity: Severity, type: string): void =>
    tell(
      { class: 'finding', severity, title: `the middleware ${middleware} ${what}: ${where}`, type },
      `middleware ${middleware} ${type} ${where}`,
    );
  const [worst] = [...findings].sort((a, b) => RANK[b.severity] - RANK[a.severity]);
  if (worst !== undefined) {
    const count = findings.reduce((sum, finding) => sum + finding.count, 0);
    about(`has ${count} findings`, worst.severity, worst.type);
  }
  if (outcome === 'passed-over')
    about(`failed (${code}) and was passed over`, 'medium', 'middleware-bypassed');
  if (outcome === 'failed') about(`failed (${code})`, 'medium', 'middleware-failed');
  if (outcome === 'denied')
    about(`denied it${code === undefined ? '' : ` (${code})`}`, 'low', 'middleware-denied');
  if (outcome === 'not-covered') about(`does not look at this (${code})`, 'info', 'middleware-coverage');
}
