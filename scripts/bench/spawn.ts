import type { Runtime } from '../lib/runtime.ts';
import { type Measured, measure } from './container.ts';
import { figure, heading, median, quantile, row } from './report.ts';
import type { Bench } from './subject.ts';

const COUNT = 300;

/** Starting /bin/true to its end, confined and not, as the supervisor starts it. */
export async function spawn(bench: Bench): Promise<void> {
  const { runtimes } = bench;
  const measured = new Map<Runtime, Measured>();
  for (const runtime of runtimes)
    measured.set(
      runtime,
      await measure(runtime, bench, {
        steps: [{ name: 'spawn', argv: ['/bin/true'] }],
        rounds: COUNT,
        warmUp: 20,
        budgetMs: 12_000,
        limitMs: 20_000,
      }),
    );
  heading('Spawn of /bin/true to its end, as the supervisor does it, interleaved in one container, ms');
  row('', ...runtimes);
  const line = (what: string, value: (one: Measured) => number): void =>
    row(what, ...runtimes.map((name) => figure(of(measured.get(name), value))));
  line('unconfined, median', (one) => median(one.values('unconfined', 'spawn')));
  line('confined, median', (one) => median(one.values('confined', 'spawn')));
  line(
    'confinement costs, difference of medians',
    (one) => median(one.values('confined', 'spawn')) - median(one.values('unconfined', 'spawn')),
  );
  line('unconfined, p99', (one) => quantile(one.values('unconfined', 'spawn'), 0.99));
  line('confined, p99', (one) => quantile(one.values('confined', 'spawn'), 0.99));
  row('pairs', ...runtimes.map((name) => `${measured.get(name)?.rounds ?? 0}`));
  for (const name of runtimes) row(`${name} confines by`, measured.get(name)?.mechanism ?? '');
}

const of = (one: Measured | undefined, value: (one: Measured) => number): number =>
  one === undefined ? Number.NaN : value(one);
