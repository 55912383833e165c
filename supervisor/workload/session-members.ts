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

/** Every living process whose session `leader` has made. Unreadable ones have ended meanwhile, or are none of ours. */
export function sessionMembers(leader: number, proc = '/proc'): readonly SessionMember[] {
  return readdirSync(proc)
    .filter((name) => /^\d+$/.test(name))
    .flatMap((name) => {
      const found = parseSession(read(`${proc}/${name}/stat`));
      if (found?.session !== leader) return [];
      const ignored = /^SigIgn:\s+[0-9a-f]*([0-9a-f])$/m.exec(read(`${proc}/${name}/status`))?.[1] ?? '0';
      return [
        { pid: Number(name), group: found.group, ignoresHangup: (Number.parseInt(ignored, 16) & 1) === 1 },
      ];
    });
}

function read(path: string): string {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return '';
  }
}
