import { dirname } from 'node:path';

/** Directories of the contract (contract.md, 4.6) that hold what only the supervisor may see. */
const RESERVED = [
  '/run/openshell',
  '/run/openshell-sidecar',
  '/var/lib/openshell',
  '/etc/openshell/auth',
] as const;

/**
 * What mounts are to cover: the reserved directories, and for each secret file its whole directory, because
 * Kubernetes projects a file as a link to a sibling directory. Where the policy gives the workload something
 * in or above that directory only the file itself can be covered. `canonical` resolves links, and says
 * undefined for what does not exist.
 */
export function hiddenPaths(
  secretFiles: readonly string[],
  granted: readonly string[],
  canonical: (path: string) => string | undefined,
): readonly string[] {
  const hidden = new Set<string>();
  const grants = granted.map((path) => canonical(path) ?? path).filter((path) => path !== '/');
  const add = (path: string): void => {
    const real = canonical(path);
    if (real !== undefined) hidden.add(real);
  };
  for (const path of RESERVED) add(path);
  for (const file of secretFiles) {
    const directory = canonical(dirname(file));
    if (directory === undefined) continue;
    const shared = directory === '/' || grants.some((grant) => `${grant}/`.startsWith(`${directory}/`));
    if (shared) add(file);
    else hidden.add(directory);
  }
  return [...hidden].sort();
}
