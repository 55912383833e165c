import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT } from './paths.ts';

export interface Bind {
  readonly source: string;
  readonly destination: string;
  readonly writable?: boolean;
}

export interface BundleOptions {
  readonly rootfs: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly binds: readonly Bind[];
  /** User and group id. */
  readonly user: number;
  /** Path of the network namespace to run in; a new one with only `lo` when absent. */
  readonly netns?: string;
  /** Runs in the network of who runs the bundle, as in a virtual machine of its own. */
  readonly sharedNetwork?: boolean;
  /** Capabilities of a root container, as `CAP_…` names; none by default. */
  readonly capabilities?: readonly string[];
  /** Whether parts of /proc are masked and read-only, as runtimes do by default. */
  readonly maskedProc?: boolean;
  /** containerd's RuntimeDefault profile; runsc ignores it, as it does under Kubernetes. */
  readonly seccomp: boolean;
  /** More calls that the profile refuses with EPERM. */
  readonly refusedCalls?: readonly string[];
}

interface Mount {
  readonly destination: string;
  readonly type: string;
  readonly source: string;
  readonly options: readonly string[];
}

/** containerd's RuntimeDefault as `ctr --seccomp` writes it for a container without capabilities. */
const PROFILE = join(ROOT, 'test/runtime/containerd-runtime-default-no-capabilities.json');

interface Profile {
  readonly syscalls: readonly { readonly names: readonly string[] }[];
}

const profile = (refused: readonly string[]): Profile => {
  const shipped = JSON.parse(readFileSync(PROFILE, 'utf8')) as Profile;
  const left = shipped.syscalls.map((rule) => ({
    ...rule,
    names: rule.names.filter((name) => !refused.includes(name)),
  }));
  return { ...shipped, syscalls: left.filter(({ names }) => names.length > 0) };
};

const tmpfs = (destination: string, ...options: readonly string[]): Mount => ({
  destination,
  type: 'tmpfs',
  source: 'tmpfs',
  options: ['nosuid', 'nodev', ...options],
});

const KERNEL_MOUNTS: readonly Mount[] = [
  { destination: '/proc', type: 'proc', source: 'proc', options: ['nosuid', 'noexec', 'nodev'] },
  {
    destination: '/dev',
    type: 'tmpfs',
    source: 'tmpfs',
    options: ['nosuid', 'strictatime', 'mode=755', 'size=65536k'],
  },
  {
    destination: '/dev/pts',
    type: 'devpts',
    source: 'devpts',
    options: ['nosuid', 'noexec', 'newinstance', 'ptmxmode=0666', 'mode=0620'],
  },
  tmpfs('/dev/shm', 'noexec', 'mode=1777', 'size=65536k'),
  { destination: '/sys', type: 'sysfs', source: 'sysfs', options: ['nosuid', 'noexec', 'nodev', 'ro'] },
];

/** What a pod would have as emptyDir volumes of the sandbox user. */
const emptyDirectories = (user: number): readonly Mount[] => {
  const owner = [`uid=${user}`, `gid=${user}`];
  return [
    tmpfs('/tmp', 'mode=1777', 'size=512m'),
    tmpfs('/run', 'mode=755', 'size=64m', ...owner),
    tmpfs('/run/openshell', 'mode=700', 'size=512m', ...owner),
    tmpfs('/sandbox', 'mode=755', 'size=256m', ...owner),
    tmpfs('/var/log', 'mode=755', 'size=64m', ...owner),
    tmpfs('/etc/openshell-tls', 'mode=755', 'size=16m', ...owner),
  ];
};

const bindMount = (bind: Bind): Mount => ({
  destination: bind.destination,
  type: 'bind',
  source: bind.source,
  options: ['bind', 'nosuid', 'nodev', bind.writable === true ? 'rw' : 'ro'],
});

const MASKED = ['acpi', 'kcore', 'keys', 'latency_stats', 'timer_list', 'timer_stats', 'sched_debug', 'scsi'];
const READ_ONLY = ['bus', 'fs', 'irq', 'sys', 'sysrq-trigger'];

/**
 * The OCI runtime configuration (runtime-spec 1.0.2) of a container as a pod of the security level
 * "restricted" gets it: one user id, no capability, no new privileges, read-only root, RuntimeDefault.
 */
export const bundleConfig = (options: BundleOptions): unknown => ({
  ociVersion: '1.0.2',
  process: {
    terminal: false,
    user: { uid: options.user, gid: options.user },
    args: options.args,
    env: Object.entries(options.env).map(([name, value]) => `${name}=${value}`),
    cwd: '/',
    noNewPrivileges: true,
    capabilities: {
      bounding: options.capabilities ?? [],
      effective: options.capabilities ?? [],
      permitted: options.capabilities ?? [],
      inheritable: [],
      ambient: [],
    },
    rlimits: [{ type: 'RLIMIT_NOFILE', hard: 4096, soft: 4096 }],
  },
  root: { path: options.rootfs, readonly: true },
  hostname: 'sandbox',
  mounts: [...KERNEL_MOUNTS, ...emptyDirectories(options.user), ...options.binds.map(bindMount)],
  linux: {
    namespaces: [
      ...['pid', 'ipc', 'uts', 'mount'].map((type) => ({ type })),
      ...(options.sharedNetwork === true
        ? []
        : [options.netns === undefined ? { type: 'network' } : { type: 'network', path: options.netns }]),
    ],
    ...(options.maskedProc === false
      ? {}
      : {
          maskedPaths: [...MASKED.map((name) => `/proc/${name}`), '/sys/firmware'],
          readonlyPaths: READ_ONLY.map((name) => `/proc/${name}`),
        }),
    ...(options.seccomp ? { seccomp: profile(options.refusedCalls ?? []) } : {}),
  },
});
