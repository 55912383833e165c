import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join, relative, resolve } from 'node:path';
import { run } from './command.ts';
import { bundleSupervisor, copyLibraries, copyLicenses, packExecutable } from './executable.ts';
import { fingerprint } from './fingerprint.ts';
import { withLock } from './lock.ts';
import { cached, DIST, ROOT } from './paths.ts';
import { revision } from './revision.ts';
import { packSingleFile } from './single-file.ts';

export interface BuildOptions {
  /** The entry of the supervisor; `supervisor/main.ts` by default. */
  readonly entry?: string;
  /** Where the results go; `dist` by default. */
  readonly out?: string;
}

export interface Built {
  /** What the supervisor image's root holds. */
  readonly image: string;
  /** The launcher that carries all of it in one ELF file. */
  readonly singleFile: string;
}

const SOURCES = ['supervisor', 'proto', 'init', 'scripts/lib', 'package-lock.json', 'LICENSE'];

const bin = (name: string): string => join(ROOT, 'node_modules/.bin', name);

const remembered = (path: string): string => (existsSync(path) ? readFileSync(path, 'utf8') : '');

/** Generates proto/generated, when the sources have changed since: others may be reading it now. */
const generate = async (): Promise<void> => {
  const stamp = cached('proto.stamp');
  const wanted = fingerprint(['proto', 'buf.gen.yaml', 'buf.yaml', 'package-lock.json']);
  if (remembered(stamp) === wanted && existsSync(join(ROOT, 'proto/generated'))) return;
  await run(bin('buf'), ['generate']);
  writeFileSync(stamp, wanted);
};

const locations = (options: BuildOptions): Built => {
  const out = resolve(options.out ?? DIST);
  return { image: join(out, 'image'), singleFile: join(out, 'openshell-sandbox') };
};

const assemble = async (options: BuildOptions): Promise<Built> => {
  const { image, singleFile } = locations(options);
  const out = join(image, '..');
  mkdirSync(out, { recursive: true });
  await generate();
  await run('make', ['-C', 'init', '-s']);

  const bundle = await bundleSupervisor(
    resolve(options.entry ?? join(ROOT, 'supervisor/main.ts')),
    join(out, 'supervisor.cjs'),
    await revision(),
  );
  const next = `${image}.next`;
  rmSync(next, { recursive: true, force: true });
  mkdirSync(next);
  await packExecutable(bundle.file, join(next, 'supervisor'));
  copyFileSync(join(ROOT, 'init/build/openshell-sandbox'), join(next, 'openshell-sandbox'));
  chmodSync(join(next, 'supervisor'), 0o555);
  chmodSync(join(next, 'openshell-sandbox'), 0o555);
  await copyLibraries(join(next, 'lib'));
  // Execute-only, so that the kernel hides what it starts beside a workload (init/shim.h).
  copyFileSync(join(ROOT, 'init/build/openshell-sandbox'), join(next, 'lib/openshell-shim'));
  chmodSync(join(next, 'lib/openshell-shim'), 0o111);
  copyLicenses(join(next, 'licenses'), bundle.packages);

  await packSingleFile(next, `${singleFile}.next`);
  // Renamed, not rewritten: a sandbox that runs from the old files keeps them.
  rmSync(`${image}.old`, { recursive: true, force: true });
  if (existsSync(image)) renameSync(image, `${image}.old`);
  renameSync(next, image);
  renameSync(`${singleFile}.next`, singleFile);
  rmSync(`${image}.old`, { recursive: true, force: true });
  return { image, singleFile };
};

const stampOf = (options: BuildOptions): string => join(resolve(options.out ?? DIST), 'build.stamp');

/** What a build is made of: the sources, and an entry that lies elsewhere. */
const ingredients = ({ entry }: BuildOptions): string =>
  fingerprint([...SOURCES, ...(entry === undefined ? [] : [relative(ROOT, resolve(entry))])]);

const buildAll = async (options: BuildOptions): Promise<Built> => {
  const stamp = stampOf(options);
  rmSync(stamp, { force: true });
  const wanted = ingredients(options);
  const built = await assemble(options);
  writeFileSync(stamp, wanted);
  return built;
};

/** Builds everything that ships. Rejects with the failing tool's last words. */
export const build = (options: BuildOptions = {}): Promise<Built> =>
  withLock('build', () => buildAll(options));

const isCurrent = (options: BuildOptions): boolean =>
  remembered(stampOf(options)) === ingredients(options) && existsSync(locations(options).image);

/** The build of the sources as they are: builds only when something has changed since the last time. */
export const ensureBuilt = async (options: BuildOptions = {}): Promise<Built> =>
  isCurrent(options)
    ? locations(options)
    : // Asked again: a second build would take the files away from what runs of the first one.
      withLock('build', async () => (isCurrent(options) ? locations(options) : buildAll(options)));
