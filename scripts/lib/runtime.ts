import { mkdirSync } from 'node:fs';
import { join } from 'node:path';

/** What can run a sandbox. `host` is no container: user 1000 on this machine's own root file system. */
export const RUNTIMES = ['runc', 'crun', 'runsc', 'host'] as const;
export type Runtime = (typeof RUNTIMES)[number];
export type ContainerRuntime = Exclude<Runtime, 'host'>;

export const isRuntime = (name: string): name is Runtime => RUNTIMES.some((known) => known === name);

interface Command {
  readonly command: string;
  readonly args: readonly string[];
}

/**
 * Flags that let each runtime work on machines of any cgroup layout, and gVisor without KVM. `systrap` is
 * unknown to the gVisor of Debian 12. Without a network namespace of its own gVisor has no stack to copy.
 */
const globals = (runtime: ContainerRuntime, hasNetwork: boolean): readonly string[] => {
  switch (runtime) {
    case 'runc':
      return [];
    case 'crun':
      return ['--cgroup-manager=disabled'];
    case 'runsc':
      return ['--platform=ptrace', '--ignore-cgroups', `--network=${hasNetwork ? 'sandbox' : 'none'}`];
  }
};

const root = (directory: string): string => {
  const path = join(directory, 'state');
  mkdirSync(path, { recursive: true, mode: 0o711 });
  return path;
};

/**
 * crun refuses a machine whose cgroup v1 has v2 controllers beside it (hybrid mode) even when it manages
 * none: so it runs where the v2 part is out of sight.
 */
const WITHOUT_HYBRID =
  'if mountpoint -q /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified; fi; exec "$@"';

/**
 * gVisor takes a network namespace that has /proc/sys/net/core/rmem_default for the machine's own, and
 * refuses it. Newer kernels show that file in every namespace: so it runs where the file is out of sight.
 */
const WITHOUT_CORE_SYSCTLS = 'mount -t tmpfs -o ro tmpfs /proc/sys/net/core; exec "$@"';

const PREPARATION: Readonly<Record<ContainerRuntime, string | undefined>> = {
  runc: undefined,
  crun: WITHOUT_HYBRID,
  runsc: WITHOUT_CORE_SYSCTLS,
};

const wrapped = (runtime: ContainerRuntime, args: readonly string[]): Command => {
  const preparation = PREPARATION[runtime];
  if (preparation === undefined) return { command: runtime, args };
  return { command: 'unshare', args: ['--mount', '--', 'sh', '-c', preparation, 'sh', runtime, ...args] };
};

/** Runs the bundle in `directory` as container `id`, in the foreground. */
export const runCommand = (
  runtime: ContainerRuntime,
  directory: string,
  id: string,
  hasNetwork: boolean,
): Command =>
  wrapped(runtime, [
    '--root',
    root(directory),
    ...globals(runtime, hasNetwork),
    'run',
    '--bundle',
    directory,
    id,
  ]);

/** Deletes container `id` of the bundle in `directory`, killing what runs in it. */
export const deleteCommand = (runtime: ContainerRuntime, directory: string, id: string): Command =>
  wrapped(runtime, ['--root', root(directory), ...globals(runtime, false), 'delete', '--force', id]);

/** Tells the state of container `id` as JSON (runtime-spec, state), its first process's `pid` among it. */
export const stateCommand = (runtime: ContainerRuntime, directory: string, id: string): Command =>
  wrapped(runtime, ['--root', root(directory), ...globals(runtime, false), 'state', id]);
