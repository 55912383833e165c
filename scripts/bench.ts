/**
 * `npm run bench [-- SUBJECT…] [--runtime NAME]…`: what the supervisor costs, beside what one would use without
 * it, in one run. Chooses subjects and runtimes; each subject is a file of scripts/bench/ and prints its table.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { access } from './bench/access.ts';
import { within } from './bench/bounded.ts';
import { buffer } from './bench/buffer.ts';
import { decisions } from './bench/decisions.ts';
import { egress } from './bench/egress.ts';
import { files } from './bench/files.ts';
import { inspected } from './bench/inspected.ts';
import { link } from './bench/link.ts';
import { memory } from './bench/memory.ts';
import { placesOf, usableRuntimes } from './bench/runtimes.ts';
import { sockets } from './bench/sockets.ts';
import { spawn } from './bench/spawn.ts';
import { start } from './bench/start.ts';
import type { Subject } from './bench/subject.ts';
import { syscalls } from './bench/syscalls.ts';
import { publish } from './bench/tools.ts';
import { ensureBuilt } from './lib/build.ts';
import { undoAtExit } from './lib/cleanup.ts';
import { ensureRootfs } from './lib/rootfs.ts';
import { isRuntime, RUNTIMES } from './lib/runtime.ts';
import { startWorld, type World } from './lib/world.ts';

const SUBJECTS: Readonly<Record<string, Subject>> = {
  start,
  memory,
  link,
  buffer,
  decisions,
  egress,
  inspected,
  access,
  spawn,
  sockets,
  syscalls,
  files,
};

/** The last resort; what a subject waits for has its own, shorter bound. */
const SUBJECT_MS = 600_000;
const WORLD_MS = 60_000;

const refuse = (message: string): never => {
  console.error(`bench: ${message}`);
  process.exit(64);
};

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { runtime: { type: 'string', multiple: true, default: [] } },
});
const names = positionals.length === 0 ? Object.keys(SUBJECTS) : positionals;
const chosen = names.map(
  (name) => SUBJECTS[name] ?? refuse(`no subject ${name}; there are ${Object.keys(SUBJECTS).join(', ')}`),
);
const wanted = values.runtime.map((name) =>
  isRuntime(name) ? name : refuse(`no runtime ${name}; there are ${RUNTIMES.join(', ')}`),
);
if (process.getuid?.() !== 0) refuse('network namespaces and container runtimes need root here');

const begun = Date.now();
const directory = mkdtempSync(join(tmpdir(), 'bench-'));
publish(directory);
let started: Promise<World> | undefined;
const undo = undoAtExit(async () => {
  if (started !== undefined)
    await within(
      WORLD_MS,
      'the end of the world',
      started.then((one) => one.stop()),
    );
  rmSync(directory, { recursive: true, force: true });
});
let code = 0;
try {
  await ensureBuilt();
  await ensureRootfs('debian');
  const runtimes = await usableRuntimes(directory, wanted.length === 0 ? RUNTIMES : wanted);
  if (runtimes.length === 0) throw new Error('no runtime starts a workload here');
  const world = (): Promise<World> => {
    started ??= startWorld();
    return within(WORLD_MS, 'the world of test hosts', started);
  };
  for (const subject of chosen)
    await within(
      SUBJECT_MS,
      subject.name,
      subject({ directory, runtimes, places: placesOf(runtimes), world }),
    );
  console.log(`\nDone in ${Math.round((Date.now() - begun) / 1000)} s.`);
} catch (error) {
  console.error(`bench: ${error instanceof Error ? error.message : String(error)}`);
  code = 1;
} finally {
  await undo();
}
process.exit(code);
