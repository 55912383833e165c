import { spawnSync } from 'node:child_process';

/** Why containers cannot be run here; undefined when they can. */
export function missing(...commands: readonly string[]): string | undefined {
  if (process.getuid?.() !== 0) return 'needs root, for network namespaces and container runtimes';
  const absent = commands.find(
    (command) => spawnSync('sh', ['-c', `PATH=$PATH:/usr/sbin:/sbin command -v ${command}`]).status !== 0,
  );
  return absent === undefined ? undefined : `${absent} is not installed`;
}
