import { compare } from './compare.ts';
import { TOOLS } from './policy.ts';
import type { Bench } from './subject.ts';
import { makeCalls } from './tools.ts';

const ROUNDS = 11;

/** What the filter adds to calls that it lets through. */
export async function syscalls(bench: Bench): Promise<void> {
  await makeCalls(bench.directory);
  await compare(
    bench,
    () => ({
      steps: [{ name: 'calls', argv: [`${TOOLS}/calls`, 'getppid', 'read'] }],
      rounds: ROUNDS,
      warmUp: 1,
      budgetMs: 6_000,
      limitMs: 20_000,
    }),
    [
      ['getppid', 'getppid'],
      ['read', 'read of one byte of /dev/zero'],
    ],
    1,
    'System calls, ns, medians of interleaved rounds',
  );
}
