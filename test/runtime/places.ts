import type { SandboxOptions } from '../../scripts/lib/sandbox.ts';

/** Docker's and containerd's default capabilities. */
const DEFAULT_CAPABILITIES = [
  'CHOWN',
  'DAC_OVERRIDE',
  'FSETID',
  'FOWNER',
  'MKNOD',
  'NET_RAW',
  'SETGID',
  'SETUID',
  'SETFCAP',
  'SETPCAP',
  'NET_BIND_SERVICE',
  'SYS_CHROOT',
  'KILL',
  'AUDIT_WRITE',
].map((name) => `CAP_${name}`);

/** What OpenShell's drivers add to them (contract.md, 4.7 and 4.8). */
const DRIVER_CAPABILITIES = [
  ...DEFAULT_CAPABILITIES,
  'CAP_SYS_ADMIN',
  'CAP_NET_ADMIN',
  'CAP_SYS_PTRACE',
  'CAP_SYSLOG',
];

/** Podman's driver drops some of the defaults. */
const PODMAN_CAPABILITIES = [...DRIVER_CAPABILITIES, 'CAP_DAC_READ_SEARCH'].filter(
  (name) =>
    ![
      'CAP_DAC_OVERRIDE',
      'CAP_FSETID',
      'CAP_KILL',
      'CAP_NET_BIND_SERVICE',
      'CAP_NET_RAW',
      'CAP_SETFCAP',
      'CAP_SYS_CHROOT',
    ].includes(name),
);

/** A kind of container, with what the supervisor must find and use there. */
export interface Place {
  readonly name: string;
  readonly options: Partial<SandboxOptions> & { readonly runtime: 'runc' | 'crun' | 'runsc' | 'vm' };
  readonly fence: 'socket' | 'namespace';
  /** Whether mounts work, so that the workload has a resolv.conf of its own. */
  readonly mounts: boolean;
  /** Whether the workload has a pid namespace. */
  readonly pids: boolean;
}

/** Every kind of container that the confinement is tried in. */
export const PLACES: readonly Place[] = [
  {
    name: 'runc, restricted',
    options: { runtime: 'runc' },
    fence: 'socket',
    mounts: false,
    pids: false,
  },
  {
    name: 'crun, restricted',
    options: { runtime: 'crun' },
    fence: 'socket',
    mounts: false,
    pids: false,
  },
  {
    name: 'gVisor',
    options: { runtime: 'runsc' },
    fence: 'namespace',
    mounts: false,
    pids: false,
  },
  {
    name: 'runc without seccomp',
    options: { runtime: 'runc', seccomp: false },
    fence: 'namespace',
    mounts: true,
    pids: false,
  },
  {
    name: 'runc without seccomp, /proc unmasked',
    options: { runtime: 'runc', seccomp: false, maskedProc: false },
    fence: 'namespace',
    mounts: true,
    pids: true,
  },
  {
    name: 'runc as root with default capabilities',
    options: { runtime: 'runc', user: 0, capabilities: DEFAULT_CAPABILITIES },
    fence: 'socket',
    mounts: false,
    pids: false,
  },
  {
    name: 'runc as root with default capabilities, without seccomp',
    options: { runtime: 'runc', user: 0, capabilities: DEFAULT_CAPABILITIES, seccomp: false },
    fence: 'namespace',
    mounts: true,
    pids: false,
  },
  {
    name: "runc as root with the Kubernetes driver's capabilities",
    options: { runtime: 'runc', user: 0, capabilities: DRIVER_CAPABILITIES, seccomp: false },
    fence: 'namespace',
    mounts: true,
    pids: true,
  },
  {
    name: "runc as root with the Podman driver's capabilities",
    options: { runtime: 'runc', user: 0, capabilities: PODMAN_CAPABILITIES, seccomp: false },
    fence: 'namespace',
    mounts: true,
    pids: false,
  },
  {
    name: 'a virtual machine, as Kata makes it',
    options: { runtime: 'vm' },
    fence: 'namespace',
    mounts: true,
    pids: false,
  },
  {
    name: 'a virtual machine without Landlock',
    options: { runtime: 'vm', kernelArguments: ['lsm=yama'] },
    fence: 'namespace',
    mounts: true,
    pids: false,
  },
];

/** Whether the container's processes are processes of this machine, which can be looked at and killed one by one. */
export const isSeenFromOutside = (place: Place): boolean =>
  place.options.runtime === 'runc' || place.options.runtime === 'crun';

/** Commands that a place needs on this machine. */
export const commandsOf = ({ options: { runtime } }: Place): readonly string[] =>
  runtime === 'vm' ? ['qemu-system-x86_64', 'busybox', 'runc'] : [runtime];
