import { Fault } from '../fault.ts';

export type Environment = Readonly<Record<string, string | undefined>>;

/** What a flag says, else its variable where it has one; undefined where neither says anything. */
export type Get = (name: string, variable?: string) => string | undefined;

/** A whole number within its bounds. Throws the Fault that names the flag or variable, `what`. */
export function number(
  what: string,
  value: string | undefined,
  fallback: number,
  low: number,
  high: number,
): number {
  if (value === undefined) return fallback;
  const parsed = /^\d{1,10}$/.test(value) ? Number(value) : Number.NaN;
  if (!(parsed >= low && parsed <= high))
    throw new Fault(
      what.startsWith('--') ? 'usage' : 'config',
      `${what} must be a number from ${low} to ${high}, is "${value}"`,
    );
  return parsed;
}
