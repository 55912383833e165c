import { chmodSync, copyFileSync, existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { attempt, run } from '../lib/command.ts';
import { ROOT } from '../lib/paths.ts';

/** The tree that file-heavy work is done on: 400 directories with 50 files of some 2 KiB each. */
const DIRECTORIES = 400;
const FILES_EACH = 50;

const GIT = '/usr/bin/git';
const GCC = '/usr/bin/gcc';

/** What could be made for the containers; what is missing says why. */
export interface Tools {
  readonly directory: string;
  readonly git: boolean;
  readonly compiler: boolean;
}

/** Compiles calls.c as a static program into `directory`. */
export async function makeCalls(directory: string): Promise<void> {
  const source = join(import.meta.dirname, 'calls.c');
  await run('musl-gcc', ['-O2', '-static', '-Wall', '-Wextra', '-o', join(directory, 'calls'), source], {
    timeout: 60_000,
  });
}

/** Makes a tree of 20,000 files as an archive and, where this machine has git, as a repository; and C sources. */
export async function makeTrees(directory: string): Promise<Tools> {
  const tree = join(directory, 'tree');
  for (let i = 0; i < DIRECTORIES; i++) {
    const folder = join(tree, `part${i % 20}`, `module${i}`);
    mkdirSync(folder, { recursive: true });
    for (let j = 0; j < FILES_EACH; j++) {
      const line = `file ${j} of module ${i}: some text that differs from file to file\n`;
      writeFileSync(join(folder, `file${j}.txt`), line.repeat(10 + ((i * FILES_EACH + j) % 40)));
    }
  }
  await run('tar', ['-C', tree, '-cf', join(directory, 'tree.tar'), '.'], { timeout: 60_000 });
  const git = existsSync(GIT);
  if (git) {
    const identity = ['-c', 'gc.auto=0', '-c', 'user.name=bench', '-c', 'user.email=bench@localhost.invalid'];
    for (const args of [
      ['init', '-q'],
      ['add', '.'],
      [...identity, 'commit', '-q', '-m', 'A tree'],
      // What checks out are packed objects, as after a clone; gc would wait for the one that a commit may start.
      ['repack', '-adq'],
    ])
      await run(GIT, args, { cwd: tree, timeout: 120_000 });
    await run('cp', ['-r', join(tree, '.git'), join(directory, 'repository')], { timeout: 60_000 });
  }
  await run('rm', ['-rf', tree], { timeout: 60_000 });
  const compiler = await makeSources(directory);
  await run('chmod', ['-R', 'a+rX', directory], { timeout: 60_000 });
  return { directory, git, compiler };
}

/** The C sources of init, and the libraries that this machine's compiler needs beside the rootfs's glibc. */
async function makeSources(directory: string): Promise<boolean> {
  const found = await attempt(GCC, ['-print-prog-name=cc1']).catch(() => undefined);
  const compiler = found?.code === 0 ? found.stdout.trim() : '';
  if (!existsSync(compiler)) return false;
  const sources = join(directory, 'sources');
  const libraries = join(directory, 'lib');
  mkdirSync(sources);
  mkdirSync(libraries);
  for (const name of readdirSync(join(ROOT, 'init')).filter((one) => /\.[ch]$/.test(one)))
    copyFileSync(join(ROOT, 'init', name), join(sources, name));
  const listing = await run('ldd', [compiler, '/usr/bin/as', ...(existsSync(GIT) ? [GIT] : [])]);
  // glibc comes from the container: its parts must be of one build.
  for (const [, path = ''] of listing.matchAll(/=> (\/\S+) \(0x/g))
    if (!/\/(libc|libm|libdl|libpthread|librt)\.so/.test(path))
      copyFileSync(path, join(libraries, basename(path)));
  return true;
}

/** Makes `directory` and what is in it readable for the sandbox's user. */
export function publish(directory: string): void {
  chmodSync(directory, 0o755);
}
