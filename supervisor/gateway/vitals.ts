import { readdirSync, readFileSync } from 'node:fs';
import type { Vitals } from '../../proto/generated/openshell/v1/openshell.ts';

/** What waits for the gateway, and what was given up. */
export interface Backlog {
  readonly entries: number;
  readonly bytes: number;
  readonly classes: Readonly<Record<string, { readonly lost: number }>>;
}

/** How the supervisor fares, for the hello and the beats. What /proc does not tell is 0. */
export function vitalsOf(buffer: Backlog, proc = '/proc/self'): Vitals {
  const lost = Object.entries(buffer.classes).flatMap(([name, stats]): [string, bigint][] =>
    stats.lost > 0 ? [[name, BigInt(stats.lost)]] : [],
  );
  return {
    bufferedRecords: BigInt(buffer.entries),
    bufferedBytes: BigInt(buffer.bytes),
    lostRecords: Object.fromEntries(lost),
    privateBytes: BigInt(privateBytes(proc)),
    openDescriptors: openDescriptors(proc),
  };
}

/** RssAnon: memory that no other process shares (proc_pid_status(5)). */
function privateBytes(proc: string): number {
  try {
    return 1024 * Number(/^RssAnon:\s+(\d+)/m.exec(readFileSync(`${proc}/status`, 'latin1'))?.[1] ?? 0);
  } catch {
    return 0;
  }
}

function openDescriptors(proc: string): number {
  try {
    return readdirSync(`${proc}/fd`).length;
  } catch {
    return 0;
  }
}
