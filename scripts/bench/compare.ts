import type { Runtime } from '../lib/runtime.ts';
import { type Measured, measure, type Work } from './container.ts';
import { figure, median, row } from './report.ts';
import type { Bench } from './subject.ts';

/** A line of a comparison: the name of its samples, and what a reader is told. */
export type Line = readonly [name: string, what: string];

/**
 * Does the same work under each runtime, and prints for each line and runtime the medians of unconfined and
 * confined, and the median of the rounds' ratios. `scale` divides the samples.
 */
export async function compare(
  bench: Bench,
  work: (runtime: Runtime) => Work,
  lines: readonly Line[],
  scale: number,
  title: () => void,
): Promise<void> {
  const measured: (readonly [Runtime, Measured])[] = [];
  for (const runtime of bench.runtimes)
    measured.push([runtime, await measure(runtime, bench, work(runtime))]);
  title();
  row('', ...measured.map(([runtime]) => runtime));
  for (const [name, what] of lines) {
    for (const side of ['unconfined', 'confined'] as const)
      row(`${what}, ${side}`, ...measured.map(([, one]) => figure(median(one.values(side, name)) / scale)));
    const ratios = (one: Measured): readonly number[] =>
      one
        .values('confined', name)
        .map((value, round) => value / (one.values('unconfined', name)[round] ?? 0));
    row('  ratio', ...measured.map(([, one]) => figure(median(ratios(one)))));
  }
  row('rounds', ...measured.map(([, one]) => `${one.rounds}`));
}
