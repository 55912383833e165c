import { chownSync, lstatSync, mkdirSync } from 'node:fs';
import { Fault } from '../fault.ts';
import { err, ok, type Result } from '../result.ts';

/** Where nothing of the workload's is made (contract.md, 4.5). */
const RESERVED = [
  '/opt/openshell',
  '/etc/openshell',
  '/etc/openshell-tls',
  '/run/openshell',
  '/run/openshell-sidecar',
  '/run/netns',
  '/var/run/netns',
  '/proc',
  '/sys',
  '/dev',
];

/**
 * As root, before anything untrusted runs: makes the read-write paths that are missing and gives those it made
 * to the workload. What exists keeps its owner. A read-write path that is a symlink is refused, for
 * the image could aim it at what root alone may give away. Returns what could not be made.
 */
export function makeMissingPaths(
  readWrite: readonly string[],
  owner: { readonly uid: number; readonly gid: number },
): Result<readonly string[], Fault> {
  const warnings: string[] = [];
  for (const path of readWrite) {
    try {
      const there = lstatSync(path, { throwIfNoEntry: false });
      if (there?.isSymbolicLink())
        return err(
          new Fault(
            'confinement',
            `the read_write path ${path} is a symlink: name the directory it leads to`,
          ),
        );
      if (there !== undefined) continue;
      if (RESERVED.some((root) => path === root || path.startsWith(`${root}/`))) {
        warnings.push(`the read_write path ${path} does not exist and is not made there`);
        continue;
      }
      mkdirSync(path, { recursive: true });
      chownSync(path, owner.uid, owner.gid);
    } catch (cause) {
      const code = cause instanceof Error && 'code' in cause ? String(cause.code) : String(cause);
      warnings.push(`the read_write path ${path} does not exist and cannot be made: ${code}`);
    }
  }
  return ok(warnings);
}
