import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** Where a container finds the tools of tools.ts, and this machine's own /usr for compilers. */
export const TOOLS = '/run/bench';
export const MACHINE = '/run/machine';

export const READ_ONLY = [
  '/usr',
  '/bin',
  '/lib',
  '/lib64',
  '/etc',
  '/proc',
  '/dev/urandom',
  '/dev/zero',
  TOOLS,
  MACHINE,
] as const;
export const READ_WRITE = ['/tmp', '/dev/null', '/sandbox'] as const;

/** The policy of every workload that is measured, in YAML. */
export const POLICY = `version: 1
filesystem_policy:
  include_workdir: true
  read_only: [${READ_ONLY.join(', ')}]
  read_write: [${READ_WRITE.join(', ')}]
network_policies:
  api:
    endpoints: [{ host: api.allowed.test, ports: [80] }]
    binaries: [{ path: /usr/bin/python3.11 }]
`;

/** The policy as a file in `directory`. */
export function policyFile(directory: string): string {
  const path = join(directory, 'policy.yaml');
  writeFileSync(path, POLICY, { mode: 0o644 });
  return path;
}
