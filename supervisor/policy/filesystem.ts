import type { LandlockCompatibility, PolicyDocument } from './document.ts';

/** The paths that a workload may use. */
export interface FilesystemRules {
  readonly readOnly: readonly string[];
  readonly readWrite: readonly string[];
  readonly compatibility: LandlockCompatibility;
}

/** What programs with network access need anyway; added where it exists (contract.md, 7.3). */
const BASELINE_READ_ONLY = ['/usr', '/lib', '/etc', '/app', '/var/log', '/proc', '/dev/urandom'] as const;
const BASELINE_READ_WRITE = ['/tmp'] as const;

/**
 * The file rules of a policy. `exists` tells which paths the sandbox has; the baseline is added for those
 * only, and only when the policy has network rules. `include_workdir` is true when the section is
 * absent, false when the section stands without it (contract.md, 7.1).
 */
export function filesystemRules(
  document: PolicyDocument,
  workdir: string | undefined,
  exists: (path: string) => boolean,
): FilesystemRules {
  const readOnly = new Set(document.filesystem?.readOnly ?? []);
  const readWrite = new Set(document.filesystem?.readWrite ?? []);
  if (workdir !== undefined && (document.filesystem?.includeWorkdir ?? true)) readWrite.add(workdir);
  if (Object.keys(document.networkPolicies).length > 0) {
    for (const path of BASELINE_READ_ONLY) if (!readWrite.has(path) && exists(path)) readOnly.add(path);
    for (const path of BASELINE_READ_WRITE) if (exists(path)) readWrite.add(path);
  }
  return { readOnly: [...readOnly], readWrite: [...readWrite], compatibility: document.landlock };
}
