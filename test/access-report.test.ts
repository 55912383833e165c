import { expect, test } from 'vitest';
import type { AccessEvent } from '../supervisor/access/events.ts';
import { reportAccess } from '../supervisor/access-report.ts';
import { createMetrics } from '../supervisor/observability/metrics.ts';
import { type OcsfEvent, shorthand } from '../supervisor/observability/ocsf.ts';
import { RepeatLimiter } from '../supervisor/observability/repeat-limiter.ts';
import { VirtualClock } from './gateway/virtual-clock.ts';

function fixture() {
  const clock = new VirtualClock();
  const told: { readonly event: OcsfEvent; readonly suppressed: number | undefined }[] = [];
  const lines: string[] = [];
  const log = { info: (line: string) => lines.push(line), warn: (line: string) => lines.push(line) };
  const metrics = createMetrics('test');
  const report = reportAccess({
    logging: {
      logger: () => log,
      ocsf: (event: OcsfEvent, suppressed?: number) => told.push({ event, suppressed }),
    } as unknown as Parameters<typeof reportAccess>[0]['logging'],
    metrics,
    limiter: new RepeatLimiter({ clock, onOverflow: () => undefined }),
  });
  return { clock, told, lines, metrics, report };
}

test.each<readonly [AccessEvent, string, readonly string[]]>([
  [
    { kind: 'opened', auth: 'none', user: 'sandbox' },
    'SSH:OPEN [INFO] ALLOWED relay/sandbox [auth:none]',
    [],
  ],
  [{ kind: 'closed', user: 'sandbox', reason: undefined }, 'SSH:CLOSE [INFO] ALLOWED relay/sandbox', []],
  [
    { kind: 'closed', user: 'sandbox', reason: 'it sends more than it may' },
    'SSH:CLOSE [INFO] ALLOWED relay/sandbox',
    ['an SSH connection was ended: it sends more than it may'],
  ],
  [
    { kind: 'refused', reason: 'a client did not log in within 10 s' },
    'SSH:FAIL [LOW] DENIED relay',
    ['an SSH client was refused: a client did not log in within 10 s'],
  ],
  [
    { kind: 'forward-refused', reason: 'port 3128 is the supervisor’s own' },
    'SSH:FAIL [LOW] DENIED relay',
    ['a forwarded connection was refused: port 3128 is the supervisor’s own'],
  ],
])('%o is told', (event, line, logged) => {
  const { report, told, lines } = fixture();
  report(event);
  expect([told.map((one) => shorthand(one.event)), lines]).toEqual([[line], logged]);
});

test('a client that is refused over and over is told of ten times, and then counted', async () => {
  const { report, told, lines, clock, metrics } = fixture();
  for (let n = 0; n < 50; n += 1) report({ kind: 'forward-refused', reason: 'no' });
  expect([told.length, lines.length]).toEqual([10, 10]);
  clock.run(60_000);
  expect(told.at(-1)).toMatchObject({ event: { action: 'DENIED', reason: 'no' }, suppressed: 40 });
  expect(await metrics.text()).toMatch(/events_suppressed_total\S* 40/);
});
