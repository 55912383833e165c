import { describe } from 'vitest';

/** A group of tests, skipped where there is a reason to; its name tells the reason. */
export function describeUnless(
  why: string | undefined,
  name: string,
  ...group: [() => void] | [{ readonly timeout: number }, () => void]
): void {
  const title = why === undefined ? name : `${name} (skipped: ${why})`;
  const [options, body] = group.length === 2 ? group : [{}, group[0]];
  describe.skipIf(why !== undefined)(title, options, body);
}
