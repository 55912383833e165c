import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Bind } from './bundle.ts';

export interface HostOptions {
  /** A private directory of this run. */
  readonly directory: string;
  readonly user: number;
  readonly env: Readonly<Record<string, string>>;
  readonly binds: readonly Bind[];
  readonly args: readonly string[];
  readonly netns?: string;
}

const quote = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;

/** What the sandbox user may write, as a pod's emptyDir volumes: path and mode. */
const WRITABLE = [
  ['/run', '755'],
  ['/run/openshell', '700'],
  ['/sandbox', '755'],
  ['/var/log', '755'],
  ['/etc/openshell-tls', '755'],
] as const;

/**
 * Runs without any container runtime: in a private mount namespace, on an overlay of this machine's own root
 * whose changes live in a tmpfs, as an unprivileged user. No pid namespace: init is a subreaper here.
 */
export const hostCommand = (
  options: HostOptions,
): { readonly command: string; readonly args: readonly string[] } => {
  const root = join(options.directory, 'root');
  const layer = join(options.directory, 'layer');
  mkdirSync(root);
  mkdirSync(layer);
  const owner = `uid=${options.user},gid=${options.user}`;
  const lines = [
    'set -e',
    `mount -t tmpfs -o mode=755 tmpfs ${layer}`,
    `mkdir ${layer}/upper ${layer}/work`,
    `mount -t overlay -o lowerdir=/,upperdir=${layer}/upper,workdir=${layer}/work overlay ${root}`,
    `mount --rbind /proc ${root}/proc`,
    `mount --rbind /dev ${root}/dev`,
    `mount -t tmpfs -o mode=1777 tmpfs ${root}/tmp`,
    ...WRITABLE.flatMap(([path, mode]) => [
      `mkdir -p ${root}${path}`,
      `mount -t tmpfs -o mode=${mode},${owner} tmpfs ${root}${path}`,
    ]),
    // A link would lead out of the new root.
    `rm -f ${root}/etc/resolv.conf && touch ${root}/etc/resolv.conf`,
    ...options.binds.flatMap((bind) => {
      const target = quote(`${root}${bind.destination}`);
      const make = `if [ -d ${quote(bind.source)} ]; then mkdir -p ${target}; else mkdir -p "$(dirname ${target})"; [ -e ${target} ] || touch ${target}; fi`;
      const mount = `mount --bind ${quote(bind.source)} ${target}`;
      return bind.writable === true ? [make, mount] : [make, mount, `mount -o remount,bind,ro ${target}`];
    }),
    `exec chroot ${root} /usr/bin/setpriv --reuid ${options.user} --regid ${options.user} --clear-groups --inh-caps=-all --bounding-set=-all --no-new-privs --pdeathsig KILL -- /usr/bin/env -i "$@"`,
  ];
  const script = join(options.directory, 'host.sh');
  writeFileSync(script, `${lines.join('\n')}\n`);
  const variables = Object.entries(options.env).map(([name, value]) => `${name}=${value}`);
  const inside = ['unshare', '--mount', '--', 'sh', script, ...variables, ...options.args];
  if (options.netns === undefined) return { command: 'unshare', args: ['--net', '--', ...inside] };
  return { command: 'nsenter', args: [`--net=${options.netns}`, '--', ...inside] };
};
