import { RUNTIMES, type Runtime } from '../lib/runtime.ts';
import { runSandbox } from '../lib/sandbox.ts';
import { policyFile } from './policy.ts';
import type { Place } from './subject.ts';

const START_MS = 90_000;

/**
 * Which of the wanted runtimes start a workload here: each one is tried. Prints why the others are left out.
 */
export async function usableRuntimes(
  directory: string,
  wanted: readonly Runtime[],
): Promise<readonly Runtime[]> {
  const usable: Runtime[] = [];
  for (const runtime of RUNTIMES.filter((one) => wanted.includes(one))) {
    const result = await runSandbox({
      runtime,
      policy: policyFile(directory),
      command: ['/bin/true'],
      timeout: START_MS,
    }).catch((error: unknown) => ({ code: -1, stderr: String(error) }));
    if (result.code === 0) usable.push(runtime);
    else console.log(`left out: ${runtime}, which ends with ${result.code}: ${lastLine(result.stderr)}`);
  }
  return usable;
}

/**
 * The places that these runtimes give. runc comes a second time, without RuntimeDefault: namespaces are allowed
 * there, as in a Kata guest, so the other fence is chosen.
 */
export const placesOf = (runtimes: readonly Runtime[]): readonly Place[] =>
  runtimes.flatMap((runtime) => [
    { name: runtime, runtime, seccomp: true },
    ...(runtime === 'runc' ? [{ name: 'runc, open', runtime, seccomp: false }] : []),
  ]);

const lastLine = (text: string): string => text.trim().split('\n').at(-1) ?? '';
