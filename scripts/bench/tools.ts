import { chmodSync, copyFileSync, existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { attempt, run } from '../lib/command.ts';
import { ROOT } from '../lib/paths.ts';

/** A tree has directories of 50 files of some 2 KiB each. */
const FILES_EACH = 50;

const GIT = '/usr/bin/git';
const GCC = '/usr/bin/gcc';
/** For each tool of this machine. */
const LIMIT_MS = 120_000;

/** What this machine has for the containers beside the trees. */
export interface Tools {
  readonly git: boolean;
  /** The C sources that can be compiled; none without a compiler. */
  readonly sources: readonly string[];
}

/** Compiles calls.c as a static program into `directory`. */
export async function makeCalls(directory: string): Promise<void> {
  const source = join(import.meta.dirname, 'calls.c');
  await run('musl-gcc', ['-O2', '-static', '-Wall', '-Wextra', '-o', join(directory, 'calls'), source], {
    timeout: 60_000,
  });
}

/** Makes `<name>.tar` in `directory`: a tree of so many files. With git also `<name>.git`, the same as a repository. */
export async function makeTree(directory: string, name: string, files: number): Promise<void> {
  const tree = join(directory, name);
  for (let i = 0; i < files / FILES_EACH; i++) {
    const folder = join(tree, `part${i % 20}`, `module${i}`);
    mkdirSync(folder, { recursive: true });
    for (let j = 0; j < FILES_EACH; j++) {
      const line = `file ${j} of module ${i}: some text that differs from file to file\n`;
      writeFileSync(join(folder, `file${j}.txt`), line.repeat(10 + ((i * FILES_EACH + j) % 40)));
    }
  }
  await run('tar', ['-C', tree, '-cf', `${tree}.tar`, '.'], { timeout: LIMIT_MS });
  if (existsSync(GIT)) {
    const settings = ['-c', 'gc.auto=0', '-c', 'user.name=bench', '-c', 'user.email=bench@localhost.invalid'];
    for (const args of [
      ['init', '-q'],
      ['add', '.'],
      [...settings, 'commit', '-q', '-m', 'A tree'],
      // What is checked out are packed objects, as after a clone; gc would wait for one that a commit may start.
      ['repack', '-adq'],
    ])
      await run(GIT, args, { cwd: tree, timeout: LIMIT_MS });
    await run('mv', [join(tree, '.git'), `${tree}.git`], { timeout: LIMIT_MS });
  }
  await run('rm', ['-rf', tree], { timeout: LIMIT_MS });
}

/** Makes what is done with trees and sources, and tells what there is. */
export async function makeTools(directory: string): Promise<Tools> {
  const sources = await makeSources(directory);
  await run('chmod', ['-R', 'a+rX', directory], { timeout: LIMIT_MS });
  return { git: existsSync(GIT), sources };
}

/** The C sources of init, and the libraries that this machine's compiler needs beside the rootfs's glibc. */
async function makeSources(directory: string): Promise<readonly string[]> {
  const found = await attempt(GCC, ['-print-prog-name=cc1']).catch(() => undefined);
  const compiler = found?.code === 0 ? found.stdout.trim() : '';
  if (!existsSync(compiler)) return [];
  const sources = join(directory, 'sources');
  const libraries = join(directory, 'lib');
  mkdirSync(sources);
  mkdirSync(libraries);
  const names = readdirSync(join(ROOT, 'init')).filter((one) => /^(?!fuzz_).*\.[ch]$/.test(one));
  for (const name of names) copyFileSync(join(ROOT, 'init', name), join(sources, name));
  const listing = await run('ldd', [compiler, '/usr/bin/as', ...(existsSync(GIT) ? [GIT] : [])]);
  // glibc comes from the container: its parts must be of one build.
  for (const [, path = ''] of listing.matchAll(/=> (\/\S+) \(0x/g))
    if (!/\/(libc|libm|libdl|libpthread|librt)\.so/.test(path))
      copyFileSync(path, join(libraries, basename(path)));
  return names.filter((name) => name.endsWith('.c'));
}

/** Makes `directory` and what is in it readable for the sandbox's user. */
export function publish(directory: string): void {
  chmodSync(directory, 0o755);
}
