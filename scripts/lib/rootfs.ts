import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { run } from './command.ts';
import { withLock } from './lock.ts';
import { cached } from './paths.ts';

export type RootfsKind = 'debian' | 'clients' | 'people' | 'peers' | 'busybox';

const DEBIAN_PACKAGES = ['ca-certificates', 'curl', 'netcat-openbsd', 'procps', 'python3'];

/** What people run: for the tests of names without a proxy, and of whom clients trust. */
const CLIENT_PACKAGES = [
  ...DEBIAN_PACKAGES,
  'git',
  'openssl',
  'postgresql-client',
  'python3-grpcio',
  'python3-pip',
  'python3-requests',
  'python3-websockets',
  'redis-tools',
];

/** What people work with who open a shell: for the tests of terminals and of copying. */
const PEOPLE_PACKAGES = [...DEBIAN_PACKAGES, 'git', 'rsync', 'tmux', 'vim-tiny'];

/** Other proxies that look into TLS, a server that is never the bottleneck, and sshd: for `npm run bench` alone. */
// debootstrap finds no package by another one's name, as apt does: python3-cffi-backend is what mitmproxy needs.
const PEER_PACKAGES = [
  'ca-certificates',
  'mitmproxy',
  'nginx-light',
  'openssh-server',
  'python3-cffi-backend',
  'squid-openssl',
];

const PACKAGES = {
  debian: DEBIAN_PACKAGES,
  clients: CLIENT_PACKAGES,
  people: PEOPLE_PACKAGES,
  peers: PEER_PACKAGES,
} as const;

/** Where the bundle mounts something. They exist beforehand: the root is read-only, and gVisor makes none. */
const MOUNT_POINTS = [
  'dev',
  'etc/openshell',
  'etc/openshell-tls',
  'opt/openshell/bin',
  'proc',
  'run',
  'sandbox',
  'sys',
  'tmp',
  'var/log',
];

/** The names that a change of this file must change, so that no stale root file system is used. */
const NAMES: Readonly<Record<RootfsKind, string>> = {
  debian: 'debian-bookworm-3',
  clients: 'debian-bookworm-clients-3',
  people: 'debian-bookworm-people-2',
  peers: 'debian-bookworm-peers-3',
  busybox: 'busybox-3',
};

/** The mirror that this machine's apt uses for Debian itself. */
const debianMirror = (): string => {
  const parts = '/etc/apt/sources.list.d';
  const lists = existsSync(parts) ? readdirSync(parts).map((name) => join(parts, name)) : [];
  for (const list of ['/etc/apt/sources.list', ...lists].filter((path) => existsSync(path))) {
    const text = readFileSync(list, 'utf8');
    const classic = /^deb\s+(?:\[[^\]]*\]\s+)?(\S+)\s+bookworm\s/m.exec(text)?.[1];
    if (classic !== undefined) return classic;
    for (const stanza of text.split(/\n\s*\n/)) {
      if (/^Suites:.*\bbookworm(?:\s|$)/m.test(stanza)) {
        const uri = /^URIs:\s*(\S+)/m.exec(stanza)?.[1];
        if (uri !== undefined) return uri;
      }
    }
  }
  throw new Error('the apt sources of this machine name no mirror of Debian bookworm');
};

const makeDebian = async (directory: string, packages: readonly string[]): Promise<void> => {
  const include = `--include=${packages.join(',')}`;
  await run('debootstrap', ['--variant=minbase', include, 'bookworm', directory, debianMirror()]);
  rmSync(join(directory, 'var/cache/apt'), { recursive: true, force: true });
  rmSync(join(directory, 'var/lib/apt/lists'), { recursive: true, force: true });
};

const makeBusybox = async (directory: string): Promise<void> => {
  mkdirSync(join(directory, 'bin'), { recursive: true });
  mkdirSync(join(directory, 'var'));
  mkdirSync(join(directory, 'etc'));
  copyFileSync('/bin/busybox', join(directory, 'bin/busybox'));
  const applets = await run('/bin/busybox', ['--list']);
  for (const applet of applets.split('\n').filter((name) => name !== '' && name !== 'busybox')) {
    symlinkSync('busybox', join(directory, 'bin', applet));
  }
  symlinkSync('../run', join(directory, 'var/run'));
  writeFileSync(join(directory, 'etc/passwd'), 'root:x:0:0:root:/:/bin/sh\n');
  writeFileSync(join(directory, 'etc/group'), 'root:x:0:\n');
};

/**
 * The path of a root file system, made when it is not there yet: `debian` (debootstrap, 35 s), `clients` (the same with
 * git, pip, psql and others), `people` (with tmux, vim and rsync), `peers` (other proxies) or `busybox` (one static binary, no libc at all). Rejects when the mirror cannot be reached.
 */
export const ensureRootfs = async (kind: RootfsKind): Promise<string> => {
  const target = cached('rootfs', NAMES[kind]);
  if (existsSync(target)) return target;
  return withLock(`rootfs-${kind}`, async () => {
    if (existsSync(target)) return target;
    const staging = `${target}.next`;
    rmSync(staging, { recursive: true, force: true });
    if (kind === 'busybox') await makeBusybox(staging);
    else await makeDebian(staging, PACKAGES[kind]);
    for (const point of MOUNT_POINTS) mkdirSync(join(staging, point), { recursive: true });
    // runc 1.1 gives a tmpfs the mode of the directory that it covers, whatever the bundle says.
    chmodSync(join(staging, 'tmp'), 0o1777);
    writeFileSync(join(staging, 'etc/hosts'), '127.0.0.1 localhost\n::1 localhost\n');
    rmSync(join(staging, 'etc/resolv.conf'), { force: true });
    writeFileSync(join(staging, 'etc/resolv.conf'), '');
    renameSync(staging, target);
    return target;
  });
};
