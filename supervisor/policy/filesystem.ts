import type { LandlockCompatibility, PolicyDocument } from './document.ts';

/** The paths that a workload may use: absolute, without `.`, empty parts or a slash at the end. */
export interface FilesystemRules {
  readonly readOnly: readonly string[];
  readonly readWrite: readonly string[];
  readonly compatibility: LandlockCompatibility;
}

/** What programs with network access need anyway; added where it exists (contract.md, 7.3). */
const BASELINE_READ_ONLY = ['/usr', '/lib', '/etc', '/app', '/var/log', '/proc', '/dev/urandom'] as const;
const BASELINE_READ_WRITE = ['/tmp'] as const;

/** Either of them tells that the container was given a GPU: natively, or under WSL2. */
const GPU_SIGNS = ['/dev/nvidiactl', '/dev/dxg'] as const;
const GPU_READ_ONLY = ['/run/nvidia-persistenced', '/usr/lib/wsl'] as const;
const GPU_READ_WRITE = [
  '/dev/nvidiactl',
  '/dev/nvidia-uvm',
  '/dev/nvidia-uvm-tools',
  '/dev/nvidia-modeset',
  '/dev/dxg',
] as const;
/** Minor numbers of the driver; 255 is nvidiactl. */
const GPU_MAX = 255;

/**
 * The file rules of a policy. `exists` tells which paths the sandbox has; what we add of our own is added
 * for those only: the baseline when the policy has network rules, a GPU's when one is there.
 * `include_workdir` is true when the section is absent, false when it stands without it (contract.md, 7.1);
 * a workdir of `/` is not added, as a policy that makes `/` writable is refused (7.2).
 */
export function filesystemRules(
  document: PolicyDocument,
  workdir: string | undefined,
  exists: (path: string) => boolean,
): FilesystemRules {
  const readOnly = new Set(document.filesystem?.readOnly.map(normalizePath));
  const readWrite = new Set(document.filesystem?.readWrite.map(normalizePath));
  if (workdir !== undefined && (document.filesystem?.includeWorkdir ?? true)) {
    const path = normalizePath(workdir);
    if (path !== '/') readWrite.add(path);
  }
  // What the policy says of a path stands: a baseline path never changes lists.
  const add = (list: Set<string>, paths: readonly string[]) => {
    for (const path of paths) if (!readOnly.has(path) && !readWrite.has(path) && exists(path)) list.add(path);
  };
  if (GPU_SIGNS.some(exists)) {
    const cards = Array.from({ length: GPU_MAX }, (_, index) => `/dev/nvidia${index}`);
    add(readOnly, GPU_READ_ONLY);
    add(readWrite, [...GPU_READ_WRITE, ...cards]);
    // CUDA names its threads by /proc/<pid>/task/<tid>/comm and fails when it cannot.
    if (exists('/proc')) {
      readOnly.delete('/proc');
      readWrite.add('/proc');
    }
  }
  if (Object.keys(document.networkPolicies).length > 0) {
    add(readOnly, BASELINE_READ_ONLY);
    add(readWrite, BASELINE_READ_WRITE);
  }
  return { readOnly: [...readOnly], readWrite: [...readWrite], compatibility: document.landlock };
}

/** Collapses slashes and dots as text; follows nothing and keeps `..`, which validation refuses. */
function normalizePath(path: string): string {
  return `/${path
    .split('/')
    .filter((part) => part !== '' && part !== '.')
    .join('/')}`;
}
