import { type Measured, measure, type Work } from './container.ts';
import { figure, heading, median, row } from './report.ts';
import type { Bench, Place } from './subject.ts';

/** A line of a comparison: the name of its samples, and what a reader is told. */
export type Line = readonly [name: string, what: string];

/**
 * Does the same work in each place, and prints for each line and place the medians of unconfined and
 * confined, and the median of the rounds' ratios. `scale` divides the samples; `about` tells how the work differs
 * from place to place.
 */
export async function compare(
  bench: Bench,
  work: (place: Place) => Work,
  lines: readonly Line[],
  scale: number,
  title: string,
  about: readonly (readonly [what: string, cell: (place: Place) => string])[] = [],
): Promise<void> {
  const measured: (readonly [Place, Measured])[] = [];
  for (const place of bench.places) measured.push([place, await measure(place, bench, work(place))]);
  heading(title);
  row('', ...measured.map(([{ name }]) => name));
  for (const [what, cell] of about) row(what, ...measured.map(([place]) => cell(place)));
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
