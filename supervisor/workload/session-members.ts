import { readdirSync, readFileSync } from 'node:fs';

/** A process of a session, as it stands in /proc. */
export interface SessionMember {
  readonly pid: number;
  readonly group: number;
  /** It was started with nohup(1), or asked for the same. */
  readonly ignoresHangup: boolean;
}

/** The fields that follow the name in /proc/<pid>/stat: state, ppid, pgrp, session. The name may hold anything. */
export function parseSession(stat: string): { readonly group: number; readonly session: number } | undefined {
  const [state, , group, session] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  if (state === undefined || group === undefined || session === undefined || state === 'Z') return undefined;
  return { group: Number(group), session: Number(session) };
}

/**
 * The living processes of sessions. /proc is read once for all that ask in the same turn of the event loop: when a
 * connection with many sessions closes, each of them asks, and a workload may have thousands of processes.
 */
export class SessionMembers {
  readonly #proc: string;
  #bySession: ReadonlyMap<number, readonly Found[]> | undefined;

  constructor(proc = '/proc') {
    this.#proc = proc;
  }

  /** Every process whose session `leader` has made. Unreadable ones have ended meanwhile, or are none of ours. */
  of(leader: number): readonly SessionMember[] {
    this.#bySession ??= this.#read();
    return (this.#bySession.get(leader) ?? []).map(({ pid, group }) => {
      const status = read(`${this.#proc}/${pid}/status`);
      const ignored = /^SigIgn:\s+[0-9a-f]*([0-9a-f])$/m.exec(status)?.[1] ?? '0';
      return { pid, group, ignoresHangup: (Number.parseInt(ignored, 16) & 1) === 1 };
    });
  }

  #read(): ReadonlyMap<number, readonly Found[]> {
    setImmediate(() => {
      this.#bySession = undefined;
    });
    const found = readdirSync(this.#proc)
      .filter((name) => /^\d+$/.test(name))
      .flatMap((name) => {
        const parsed = parseSession(read(`${this.#proc}/${name}/stat`));
        return parsed === undefined ? [] : [{ pid: Number(name), ...parsed }];
      });
    return Map.groupBy(found, ({ session }) => session);
  }
}

interface Found {
  readonly pid: number;
  readonly group: number;
  readonly session: number;
}

function read(path: string): string {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return '';
  }
}
