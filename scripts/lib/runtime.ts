import { mkdirSync } from 'node:fs';
import { join } from 'node:path';

/**
 * What can run a sandbox. `vm` is a virtual machine with runc in it, as Kata Containers has; `host` is no
 * container: user 1000 on this machine's own root file system.
 */
export const RUNTIMES = ['runc', 'crun', 'runsc', 'vm', 'host'] as const;
export type Runtime = (typeof RUNTIMES)[number];
export type ContainerRuntime = Exclude<Runtime, 'vm' | 'host'>;

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
 * What lies below /proc/sys/net depends on the namespace of who looks, so the mount is made inside.
 */
const WITHOUT_CORE_SYSCTLS = 'mount -t tmpfs -o ro tmpfs /proc/sys/net/core; exec "$@"';

const wrapped = (runtime: ContainerRuntime, args: readonly string[], netns?: string): Command => {
  const within = (script: string): readonly string[] => [
    '--mount',
    '--',
    'sh',
    '-c',
    script,
    'sh',
    runtime,
    ...args,
  ];
  if (runtime === 'crun') return { command: 'unshare', args: within(WITHOUT_HYBRID) };
  if (runtime === 'runsc' && netns !== undefined) {
    return { command: 'nsenter', args: [`--net=${netns}`, '--', 'unshare', ...within(WITHOUT_CORE_SYSCTLS)] };
  }
  return { command: runtime, args };
};

const command = (
  runtime: ContainerRuntime,
  directory: string,
  action: readonly string[],
  netns?: string,
): Command =>
  wrapped(runtime, ['--root', root(directory), ...globals(runtime, netns !== undefined), ...action], netns);

/**
 * Runs the bundle in `directory` as container `id`, in the foreground. `netns` is the path of the network
 * namespace that the bundle names, if it names one.
 */
export const runCommand = (
  runtime: ContainerRuntime,
  directory: string,
  id: string,
  netns?: string,
): Command => command(runtime, directory, ['run', '--bundle', directory, id], netns);

/** Deletes container `id` of the bundle in `directory`, killing what runs in it. */
export const deleteCommand = (runtime: ContainerRuntime, directory: string, id: string): Command =>
  command(runtime, directory, ['delete', '--force', id]);

/** Signals the first process of container `id`: `runsc run` does not pass on what it gets itself. */
export const killCommand = (
  runtime: ContainerRuntime,
  directory: string,
  id: string,
  signal: NodeJS.Signals,
): Command => command(runtime, directory, ['kill', id, signal]);

/** Tells the state of container `id` as JSON (runtime-spec, state), its first process's `pid` among it. */
export const stateCommand = (runtime: ContainerRuntime, directory: string, id: string): Command =>
  command(runtime, directory, ['state', id]);
