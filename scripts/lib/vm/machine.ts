import { mkdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Bind } from '../bundle.ts';
import { run } from '../command.ts';
import { NODE, ROOT } from '../paths.ts';
import { accelerator, CPU, CPUS } from './accelerator.ts';
import { ensureBootFiles } from './initramfs.ts';

export interface MachineOptions {
  /** A private directory of this run. */
  readonly directory: string;
  readonly rootfs: string;
  readonly binds: readonly Bind[];
  /** Its `eth0`, with its addresses and routes, becomes the guest's: use each namespace once. */
  readonly netns?: string;
  /** More words of the guest kernel's command line; of two for the same thing the later counts. */
  readonly kernelArguments: readonly string[];
}

interface Place {
  readonly outside: string;
  readonly inside: string;
  readonly source: string;
}

/** Where a machine shows the root file system and the binds of its bundle. */
export const guestPaths = (
  binds: readonly Bind[],
): { readonly rootfs: string; readonly binds: readonly Bind[] } => ({
  rootfs: '/share/rootfs',
  binds: binds.map((bind, index) => ({
    ...bind,
    source: `/${bind.writable === true ? 'writable' : 'share'}/${index}`,
  })),
});

const quote = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;

const isDirectory = (path: string): boolean => statSync(path).isDirectory();

const places = (options: MachineOptions): readonly Place[] => {
  const guest = guestPaths(options.binds);
  const all = [
    { source: options.rootfs, inside: guest.rootfs },
    ...options.binds.map((bind, index) => ({
      source: bind.source,
      inside: guest.binds[index]?.source ?? '',
    })),
  ];
  return all.map((place) => ({ ...place, outside: join(options.directory, place.inside) }));
};

interface Interface {
  readonly addresses: readonly string[];
  readonly mtu: number;
  /** Arguments of `ip route add`; those to a whole link come first, others need them. */
  readonly routes: readonly string[];
}

const readInterface = async (netns: string): Promise<Interface> => {
  const ip = (...args: readonly string[]) => run('nsenter', [`--net=${netns}`, '--', 'ip', '-4', ...args]);
  const text = await ip('address', 'show', 'dev', 'eth0');
  const addresses = [...text.matchAll(/inet (\S+)/g)].map(([, address]) => address ?? '');
  const mtu = Number(/ mtu (\d+)/.exec(text)?.[1] ?? 1500);
  const routes = (await ip('route', 'show', 'dev', 'eth0'))
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line.includes(' via '));
  return { addresses, mtu, routes };
};

/** For the guest: gives its eth0 what the namespace's had. */
const guestNetwork = ({ addresses, mtu, routes }: Interface): string =>
  [
    `ip link set eth0 mtu ${mtu} up`,
    ...addresses.map((address) => `ip address add ${address} dev eth0`),
    ...routes.map((route) => `ip route add ${/^\S+ via \S+/.exec(route)?.[0] ?? ''} dev eth0`),
  ].join('\n');

/** For the namespace: a bridge between its eth0, which loses its addresses, and the guest's device. */
const BRIDGE = [
  'ip address flush dev eth0',
  'ip link add oshbridge type bridge',
  'ip tuntap add oshtap mode tap',
  'ip link set eth0 master oshbridge',
  'ip link set oshtap master oshbridge',
  'ip link set oshtap up',
  'ip link set oshbridge up',
];

const disk = (tag: string, path: string, readOnly: boolean): readonly string[] => [
  '-fsdev',
  `local,id=${tag},path=${path},security_model=passthrough,multidevs=remap${readOnly ? ',readonly=on' : ''}`,
  '-device',
  `virtio-9p-pci,fsdev=${tag},mount_tag=${tag}`,
];

const port = (name: string, number: number, directory: string): readonly string[] => [
  '-chardev',
  `socket,id=${name},path=${join(directory, name)}`,
  '-device',
  `virtserialport,chardev=${name},nr=${number}`,
];

/**
 * The command that runs the bundle `config` in a virtual machine, in the foreground (scripts/vm/run.ts). The
 * bundle's paths are those of `guestPaths`. Rejects when the kernel cannot be had.
 */
export const machineCommand = async (
  options: MachineOptions,
  config: unknown,
): Promise<{ readonly command: string; readonly args: readonly string[] }> => {
  const { directory } = options;
  const share = join(directory, 'share');
  const { kernel, initramfs } = await ensureBootFiles();
  const how = await accelerator(kernel);
  const all = places(options);
  mkdirSync(share);
  mkdirSync(join(directory, 'writable'));
  for (const { source, outside } of all) {
    if (isDirectory(source)) mkdirSync(outside);
    else writeFileSync(outside, '');
  }
  const network = options.netns === undefined ? undefined : await readInterface(options.netns);
  writeFileSync(join(share, 'network.sh'), network === undefined ? '' : `${guestNetwork(network)}\n`);
  writeFileSync(join(share, 'config.json'), JSON.stringify(config, null, 1));
  const nic =
    network === undefined
      ? []
      : [
          '-netdev',
          'tap,id=net,ifname=oshtap,script=no,downscript=no',
          '-device',
          'virtio-net-pci,netdev=net',
        ];
  const words = ['console=ttyS0', 'quiet', 'panic=-1', 'random.trust_cpu=on'];
  // Kata's guests have Landlock since 3.32.
  const append = [...words, 'lsm=landlock,yama,bpf', ...options.kernelArguments].join(' ');
  const qemu = [
    'qemu-system-x86_64',
    ...['-M', `q35,accel=${how}`, '-cpu', CPU[how], '-smp', CPUS[how], '-m', '1024'],
    ...['-display', 'none', '-nodefaults', '-no-user-config', '-no-reboot'],
    ...['-serial', `file:${join(directory, 'console')}`],
    ...['-kernel', kernel, '-initrd', initramfs, '-append', append],
    ...['-device', 'virtio-serial-pci', ...port('stream', 1, directory), ...port('input', 2, directory)],
    ...disk('share', share, true),
    ...disk('writable', join(directory, 'writable'), false),
    ...nic,
  ];
  const script = [
    'set -e',
    ...all.map(({ source, outside }) => `mount --bind ${quote(source)} ${quote(outside)}`),
    ...(network === undefined ? [] : BRIDGE),
    `exec ${qemu.map(quote).join(' ')}`,
  ];
  const file = join(directory, 'machine.sh');
  writeFileSync(file, `${script.join('\n')}\n`);
  const enter = options.netns === undefined ? [] : ['nsenter', `--net=${options.netns}`, '--'];
  const machine = [...enter, 'unshare', '--mount', '--', 'sh', file];
  const runner = [NODE, join(ROOT, 'scripts/vm/run.ts'), directory, ...machine];
  return { command: 'setpriv', args: ['--pdeathsig', 'KILL', '--', ...runner] };
};
