import type { Writable } from 'node:stream';
import type { SandboxLogLine, SandboxStreamEvent } from '../../../proto/generated/openshell/v1/openshell.ts';
import { Fault } from '../../../supervisor/fault.ts';
import { GatewayClient } from './gateway-client.ts';
import type { Place } from './place.ts';

export interface LogsFlags extends Place {
  readonly follow: boolean;
  readonly tail: number;
  /** How far back, as in 30s, 5m, 2h, 1d; empty for all there is. */
  readonly since: string;
  readonly source: readonly string[];
  readonly level: string;
}

/** What `--level` takes: the gateway hides lines of a level that it does not know. */
export const LEVELS = ['error', 'warn', 'info', 'debug', 'trace'] as const;

/** Where the supervisor notes what makes a line unlike any other; nothing that a person reads. */
const OF_DELIVERY = 'openshell.';

const UNITS: Readonly<Record<string, number>> = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** Milliseconds of a duration such as 5m. Throws with the forms that it may have. */
export function durationOf(text: string): number {
  const [, count = '', unit = ''] = /^(\d{1,6})([smhd])$/.exec(text) ?? [];
  const size = UNITS[unit];
  if (size === undefined)
    throw new Fault(
      'usage',
      `--since must be a number with s, m, h or d, as in 5m; is ${JSON.stringify(text)}`,
    );
  return Number(count) * size;
}

/** Prints what a sandbox has logged, and with `follow` what it logs from now on; resolves with an exit code. */
export async function showLogs(flags: LogsFlags, output: Writable, now: number): Promise<number> {
  const since = flags.since === '' ? 0 : now - durationOf(flags.since);
  const client = new GatewayClient(flags.gateway);
  const call = client.watch({
    id: flags.sandbox,
    followLogs: flags.follow,
    logTailLines: flags.tail,
    logSinceMs: BigInt(since),
    logSources: [...flags.source],
    logMinLevel: flags.level,
  });
  let stopped = false;
  const stop = (): void => {
    stopped = true;
    call.cancel();
  };
  process.once('SIGINT', stop);
  try {
    for await (const { payload } of call as AsyncIterable<SandboxStreamEvent>) {
      if (payload?.$case === 'warning') process.stderr.write(`${printable(payload.value.message)}\n`);
      if (payload?.$case !== 'log') continue;
      if (!output.write(`${lineOf(payload.value)}\n`))
        await new Promise((resolve) => output.once('drain', resolve));
    }
    return 0;
  } catch (error) {
    // A gateway that is stopped cancels its calls as well.
    if (stopped) return 130;
    throw error;
  } finally {
    process.off('SIGINT', stop);
    client.close();
  }
}

/** One line of a log for a person: when, how grave, where from, what, and the rest as NAME=value. */
export function lineOf(line: SandboxLogLine): string {
  const fields = Object.entries(line.fields)
    .filter(([name]) => !name.startsWith(OF_DELIVERY))
    .map(([name, value]) => ` ${name}=${value}`);
  const when = new Date(Number(line.timestampMs)).toISOString();
  return printable(`${when} ${line.level.padEnd(5)} ${line.target} ${line.message}${fields.join('')}`);
}

/** Some of a log is the workload's own words: nothing of it may steer the terminal of who reads it. */
const printable = (text: string): string =>
  text.replace(/[\p{Cc}\u2028\u2029\u202a-\u202e\u2066-\u2069]/gu, (one) => {
    const code = one.codePointAt(0) ?? 0;
    return `\\u${code.toString(16).padStart(4, '0')}`;
  });
