import { expect, test } from 'vitest';
import type { EgressEvent } from '../supervisor/egress/events.ts';
import type { Evaluation } from '../supervisor/egress/middleware/evaluation.ts';
import { reportEvaluation } from '../supervisor/middleware-report.ts';
import { createMetrics } from '../supervisor/observability/metrics.ts';
import { type OcsfEvent, shorthand } from '../supervisor/observability/ocsf.ts';

const event = (more: Partial<Evaluation>): Extract<EgressEvent, { kind: 'middleware' }> => ({
  kind: 'middleware',
  intent: { host: 'a.test', port: 443, via: 'connect' },
  identity: { pid: 1, binary: '/bin/x', ancestors: [], cmdline: [] },
  policy: 'p',
  evaluation: {
    middleware: 'scan',
    service: 'scanner',
    operation: 'http',
    outcome: 'allowed',
    code: undefined,
    findings: [],
    method: 'POST',
    path: '/v1',
    ...more,
  },
});
const finding = (severity: 'low' | 'high', count: number) => ({
  type: 'scanner.finding',
  label: 'finding of a middleware',
  count,
  severity,
});

test.each([
  [{}, []],
  [{ outcome: 'changed' }, []],
  [
    { findings: [finding('low', 1), finding('high', 2)] },
    [/FINDING:.*\[HIGH\].*the middleware scan has 3 findings: POST a\.test:443\/v1/],
  ],
  [
    { outcome: 'passed-over', code: 'middleware_timeout' },
    [/\[MED\].*failed \(middleware_timeout\) and was passed over/],
  ],
  [{ outcome: 'failed', code: 'middleware_timeout' }, [/\[MED\].*failed \(middleware_timeout\)/]],
  [{ outcome: 'denied', code: 'pii' }, [/\[LOW\].*denied it \(pii\)/]],
  [{ outcome: 'not-covered', code: 'unsupported_message_type' }, [/\[INFO\].*does not look at this/]],
] satisfies [Partial<Evaluation>, RegExp[]][])(
  'an evaluation %o is counted and told',
  async (more, expected) => {
    const metrics = createMetrics('test');
    const told: OcsfEvent[] = [];
    reportEvaluation(event(more), metrics, (one) => told.push(one));
    expect(told.map(shorthand)).toEqual(expected.map((one) => expect.stringMatching(one)));
    const { outcome = 'allowed' }: Partial<Evaluation> = more;
    expect(await metrics.text()).toContain(
      `egress_middleware_evaluations_total{operation="http",outcome="${outcome}"} 1`,
    );
  },
);
