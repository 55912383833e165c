import type { Runtime } from '../lib/runtime.ts';
import { type Measured, measure, type Work } from './container.ts';
import { figure, median, row } from './report.ts';
import type { Bench } from './subject.ts';

/** A line of a comparison: the name of its samples, and what a reader is told. */
export type Line = readonly [name: string, what: string];

/**
 * Does the same work under each runtime, and prints for each line and runtime the medians of unconfined and
 * confined, and their ratio. `scale` divides the samples.
 */
export async function compare(
  bench: Bench,
  work: Work,
  lines: readonly Line[],
  scale: number,
  title: () => void,
): Promise<void> {
  const measured: (readonly [Runtime, Measured])[] = [];
  for (const runtime of bench.runtimes) measured.push([runtime, await measure(runtime, bench, work)]);
  title();
  row('', ...measured.map(([runtime]) => runtime));
  for (const [name, what] of lines) {
    const sides = measured.map(([, one]) => [
      median(one.values('unconfined', name)),
      median(one.values('confined', name)),
    ]);
    row(`${what}, unconfined`, ...sides.map(([open = Number.NaN]) => figure(open / scale)));
    row(`${what}, confined`, ...sides.map(([, confined = Number.NaN]) => figure(confined / scale)));
    row('  ratio', ...sides.map(([open = 0, confined = 0]) => figure(confined / open)));
  }
  row('rounds', ...measured.map(([, one]) => `${one.rounds}`));
}
