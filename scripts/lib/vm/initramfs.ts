import { createHash } from 'node:crypto';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { run } from '../command.ts';
import { withLock } from '../lock.ts';
import { cached, ROOT } from '../paths.ts';

/** The full kernel: the cloud one has no 9p. Unpacked, not installed, so that no boot loader is touched. */
const META_PACKAGE = 'linux-image-amd64';
/** The drivers of the guest's devices; what they depend on comes with them. */
const MODULES = ['virtio_pci', 'virtio_console', 'virtio_net', '9pnet_virtio', '9p'];
const SOURCES = join(ROOT, 'scripts/vm');

export interface BootFiles {
  readonly kernel: string;
  readonly initramfs: string;
}

/** The directory of the unpacked kernel package; downloads it with apt when it is not there. */
const ensureKernel = async (): Promise<string> => {
  const target = cached('vm', 'kernel');
  if (existsSync(target)) return target;
  const staging = `${target}.next`;
  rmSync(staging, { recursive: true, force: true });
  mkdirSync(staging, { recursive: true });
  const depends = await run('apt-cache', ['depends', META_PACKAGE]);
  const name = /Depends: (linux-image-\S+)/.exec(depends)?.[1];
  if (name === undefined) throw new Error(`apt knows no kernel behind ${META_PACKAGE}: run apt-get update`);
  await run('apt-get', ['-qq', 'download', name], { cwd: staging });
  for (const file of readdirSync(staging).filter((entry) => entry.endsWith('.deb'))) {
    await run('dpkg-deb', ['-x', join(staging, file), staging]);
    rmSync(join(staging, file));
  }
  renameSync(staging, target);
  return target;
};

const filesBelow = (directory: string): readonly string[] =>
  readdirSync(directory, { recursive: true, encoding: 'utf8' }).map((path) => join(directory, path));

/** The modules in an order in which they can be loaded (modinfo's `depends`, read from the files). */
const inOrder = (files: ReadonlyMap<string, string>): readonly string[] => {
  const order: string[] = [];
  const add = (name: string): void => {
    if (order.includes(name)) return;
    const file = files.get(name);
    // Not a file: built into the kernel.
    if (file === undefined) return;
    const depends = /\0depends=([^\0]*)\0/.exec(readFileSync(file, 'latin1'))?.[1] ?? '';
    for (const one of depends.split(',').filter((text) => text !== '')) add(one.replaceAll('-', '_'));
    order.push(name);
  };
  for (const name of MODULES) add(name);
  return order;
};

const which = async (command: string): Promise<string> =>
  (await run('sh', ['-c', 'PATH=$PATH:/usr/sbin:/sbin command -v "$1"', 'sh', command])).trim();

/** runc and the libraries it is linked to, at the paths where the loader looks. */
const copyRunc = async (runc: string, staging: string): Promise<void> => {
  copyFileSync(runc, join(staging, 'bin/runc'));
  const libraries = (await run('ldd', [runc])).matchAll(/(\/\S+) \(0x/g);
  for (const [, library] of libraries) {
    if (library === undefined) continue;
    mkdirSync(join(staging, dirname(library)), { recursive: true });
    copyFileSync(library, join(staging, library));
  }
};

const makeInitramfs = async (kernel: string, runc: string, target: string): Promise<void> => {
  const staging = `${target}.d`;
  rmSync(staging, { recursive: true, force: true });
  for (const name of ['bin', 'lib', 'lib64', 'modules']) {
    mkdirSync(join(staging, name), { recursive: true });
  }
  await copyRunc(runc, staging);
  copyFileSync(await which('busybox'), join(staging, 'bin/busybox'));
  const agent = ['-static', '-Os', '-Wall', '-Wextra', '-Werror', '-o', join(staging, 'bin/agent')];
  await run('musl-gcc', [...agent, join(SOURCES, 'agent.c')]);
  copyFileSync(join(SOURCES, 'init.sh'), join(staging, 'init'));
  chmodSync(join(staging, 'init'), 0o755);
  const modules = filesBelow(join(kernel, 'lib/modules')).filter((path) => path.endsWith('.ko'));
  const files = new Map(modules.map((path) => [basename(path, '.ko').replaceAll('-', '_'), path]));
  const order = inOrder(files);
  for (const name of order) copyFileSync(files.get(name) ?? '', join(staging, `modules/${name}.ko`));
  writeFileSync(join(staging, 'modules/order'), `${order.join('\n')}\n`);
  // Not compressed: unpacking takes an emulated processor longer than reading.
  await run('sh', ['-c', 'find . | busybox cpio -o -H newc > "$1"', 'sh', `${target}.next`], {
    cwd: staging,
  });
  rmSync(staging, { recursive: true, force: true });
  renameSync(`${target}.next`, target);
};

/**
 * A Linux kernel and an initramfs that runs a shared bundle with runc; made when they are not there yet.
 * Rejects when the kernel's package cannot be downloaded.
 */
export const ensureBootFiles = (): Promise<BootFiles> =>
  withLock('vm', async () => {
    const directory = await ensureKernel();
    const image = readdirSync(join(directory, 'boot')).find((name) => name.startsWith('vmlinuz-'));
    if (image === undefined) throw new Error(`${directory} holds no kernel: remove it and try again`);
    const runc = await which('runc');
    const hash = createHash('sha256').update(image);
    const inputs = [join(SOURCES, 'agent.c'), join(SOURCES, 'init.sh'), import.meta.filename, runc];
    for (const path of inputs) hash.update(readFileSync(path));
    const initramfs = cached('vm', `initramfs-${hash.digest('hex').slice(0, 16)}`);
    if (!existsSync(initramfs)) await makeInitramfs(directory, runc, initramfs);
    return { kernel: join(directory, 'boot', image), initramfs };
  });
