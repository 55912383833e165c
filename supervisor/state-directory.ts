import { lstatSync, readFileSync, statfsSync } from 'node:fs';
import { dirname, join } from 'node:path';

/** Where the supervisor keeps what outlives it. */
export interface StateDirectory {
  /** To be made 0700 where it is missing; its parent exists. */
  readonly path: string;
  /** Whether it is memory: it lives as long as the pod, and counts as the pod's. */
  readonly memory: boolean;
}

/** Directories that a pod may mount a volume on for us; the first that is a mount is taken. */
const PLACES = ['/var/lib/openshell', '/run/openshell'] as const;
/** Its own directory there: a volume's root is root's, and open to the pod's group. */
const OWN = 'state';
/** statfs(2): the type of a tmpfs. */
const TMPFS = 0x01021994;

/**
 * The configured directory, else the usual one on a volume; undefined when there is none. A directory that comes
 * with the image is not taken: what lies in it would be delivered as a predecessor's records.
 */
export function findStateDirectory(
  configured: string | undefined,
  places: readonly string[] = PLACES,
  isMount: (path: string) => boolean = isMountPoint,
): StateDirectory | undefined {
  if (configured !== undefined) return { path: configured, memory: isMemory(configured) };
  const place = places.find(isMount);
  return place === undefined ? undefined : { path: join(place, OWN), memory: isMemory(place) };
}

/** Whether something is mounted at this very path (proc_pid_mountinfo(5)). */
export function isMountPoint(path: string): boolean {
  try {
    if (!lstatSync(path).isDirectory()) return false;
    // The fifth field is the place (proc_pid_mountinfo(5)); a device of its own would not tell a bind mount.
    const lines = readFileSync('/proc/self/mountinfo', 'utf8').split('\n');
    return lines.some((line) => line.split(' ', 5)[4] === path);
  } catch {
    return false;
  }
}

function isMemory(path: string): boolean {
  for (const one of [path, dirname(path)])
    try {
      return statfsSync(one).type === TMPFS;
    } catch {
      // made later: then it is on its parent's file system
    }
  return false;
}
