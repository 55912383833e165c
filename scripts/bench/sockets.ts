import { compare } from './compare.ts';
import { TOOLS } from './policy.ts';
import type { Bench } from './subject.ts';
import { makeCalls } from './tools.ts';

const ROUNDS = 11;

/** socket(2) in the fence and outside, and a whole connection over loopback. */
export async function sockets(bench: Bench): Promise<void> {
  await makeCalls(bench.directory);
  await compare(
    bench,
    () => ({
      steps: [{ name: 'calls', argv: [`${TOOLS}/calls`, 'socket', 'connect'] }],
      rounds: ROUNDS,
      warmUp: 1,
      budgetMs: 6_000,
      limitMs: 20_000,
    }),
    [
      ['socket', 'socket and close'],
      ['connect', 'socket, connect, accept, close both'],
    ],
    1000,
    'Sockets, µs, medians of interleaved rounds',
  );
}
