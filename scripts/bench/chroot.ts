import { type ChildProcess, spawn } from 'node:child_process';
import { namespacePath } from '../lib/network.ts';
import type { Network } from '../lib/world.ts';
import { until } from './bounded.ts';

const START_MS = 60_000;
/** Where a server finds the bench's directory. */
export const MOUNTED = '/run/bench';

export interface ServerOptions {
  readonly rootfs: string;
  /** Of the bench; `resolv.conf` is in it. */
  readonly directory: string;
  readonly namespace: string;
  readonly command: readonly string[];
  /** Where it listens when it has started. */
  readonly port: number;
  readonly exec: Network['exec'];
}

/** Starts a server in a root file system and a network of its own; it ends with us. Resolves when it listens. */
export async function startServer(options: ServerOptions): Promise<ChildProcess> {
  const { rootfs, directory, namespace, command, port, exec } = options;
  // Never the machine's own /dev: a server that removes its pid file at the end would take a device with it.
  const devices = ['null 1 3', 'zero 1 5', 'random 1 8', 'urandom 1 9', 'tty 5 0']
    .map((device) => device.split(' '))
    .map(([name, major, minor]) => `mknod -m 666 ${rootfs}/dev/${name} c ${major} ${minor}`)
    .join(' && ');
  const mounts = `mount -t tmpfs dev ${rootfs}/dev && mkdir -m 1777 ${rootfs}/dev/shm && ${devices} && mount -t proc proc ${rootfs}/proc && mount -t tmpfs run ${rootfs}/run && mkdir ${rootfs}${MOUNTED} && mount --bind ${directory} ${rootfs}${MOUNTED} && mount --bind ${directory}/resolv.conf ${rootfs}/etc/resolv.conf`;
  // Each becomes the next one, so that the server is our child, and the mounts go with it.
  const child = spawn(
    'nsenter',
    [
      ...[`--net=${namespacePath(namespace)}`, '--', 'setpriv', '--pdeathsig', 'KILL'],
      ...['unshare', '--mount', 'sh', '-c', `ulimit -n 8192; ${mounts} && exec chroot "$@"`, 'sh', rootfs],
      ...command,
    ],
    { stdio: ['ignore', 'pipe', 'pipe'] },
  );
  let words = '';
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (part: Buffer) => {
      words = (words + part.toString()).slice(-4096);
    });
  await until(START_MS, `${command[0]} does not listen`, async () => {
    if (child.exitCode !== null) throw new Error(`${command[0]} ended with ${child.exitCode}: ${words}`);
    const { stdout } = await exec(['ss', '-Hltn', `sport = :${port}`]);
    return stdout.trim() === '' ? undefined : true;
  });
  return child;
}
