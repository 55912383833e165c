import { type Measured, measure } from './container.ts';
import { figure, heading, median, quantile, row } from './report.ts';
import type { Bench, Place } from './subject.ts';

const COUNT = 300;

/** Starting /bin/true to its end, confined and not, as the supervisor starts it. */
export async function spawn(bench: Bench): Promise<void> {
  const { places } = bench;
  const measured = new Map<Place, Measured>();
  for (const place of places)
    measured.set(
      place,
      await measure(place, bench, {
        steps: [{ name: 'spawn', argv: ['/bin/true'] }],
        rounds: COUNT,
        warmUp: 20,
        budgetMs: 10_000,
        limitMs: 20_000,
      }),
    );
  heading('Spawn of /bin/true to its end, as the supervisor does it, interleaved in one container, ms');
  row('', ...places.map(({ name }) => name));
  const line = (what: string, value: (one: Measured) => number): void =>
    row(what, ...places.map((place) => figure(of(measured.get(place), value))));
  line('unconfined, median', (one) => median(one.values('unconfined', 'spawn')));
  line('confined, median', (one) => median(one.values('confined', 'spawn')));
  line(
    'confinement costs, difference of medians',
    (one) => median(one.values('confined', 'spawn')) - median(one.values('unconfined', 'spawn')),
  );
  line('unconfined, p99', (one) => quantile(one.values('unconfined', 'spawn'), 0.99));
  line('confined, p99', (one) => quantile(one.values('confined', 'spawn'), 0.99));
  row('pairs', ...places.map((place) => `${measured.get(place)?.rounds ?? 0}`));
  for (const place of places) console.log(`  ${place.name} confines by: ${measured.get(place)?.mechanism}`);
}

const of = (one: Measured | undefined, value: (one: Measured) => number): number =>
  one === undefined ? Number.NaN : value(one);
