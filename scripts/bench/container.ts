import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { build } from '../lib/build.ts';
import { fingerprint } from '../lib/fingerprint.ts';
import { cached } from '../lib/paths.ts';
import { runSandbox } from '../lib/sandbox.ts';
import { type Job, MARK, type Sample, type Side } from './job.ts';
import { MACHINE, READ_ONLY, READ_WRITE, TOOLS } from './policy.ts';
import type { Bench, Place } from './subject.ts';

const SOURCES = ['supervisor', 'proto', 'init', 'scripts/lib', 'scripts/bench', 'package-lock.json'];
/** For the runtime, the probe and the anchor, beside what the job may take. */
const START_MS = 90_000;

/** The image whose supervisor is inside.ts; built when a source has changed. */
async function benchImage(): Promise<string> {
  const out = cached('bench', 'dist');
  const stamp = join(out, 'bench.stamp');
  const wanted = fingerprint(SOURCES);
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === wanted) return join(out, 'image');
  const { image } = await build({ entry: join(import.meta.dirname, 'inside.ts'), out });
  writeFileSync(stamp, wanted);
  return image;
}

/** What a job brought, with the mechanisms that confined it. */
export interface Measured {
  readonly mechanism: string;
  readonly rounds: number;
  readonly values: (side: Side, name: string) => readonly number[];
}

export type Work = Omit<Job, 'readOnly' | 'readWrite'>;

/**
 * Does a job in a container, with the bench's directory (tools.ts fills it) at its place. Rejects with the
 * container's last words when it ends early, and when it takes longer than the job allows.
 */
export async function measure(
  { name, runtime, seccomp }: Place,
  { directory, world }: Bench,
  work: Work,
): Promise<Measured> {
  const job: Job = { ...work, readOnly: READ_ONLY, readWrite: READ_WRITE };
  const image = await benchImage();
  const { code, stdout, stderr } = await runSandbox({
    runtime,
    seccomp,
    // A network of its own, where lo is up and routes lead somewhere, as in a pod.
    network: await (await world()).network(),
    image,
    command: [],
    entrypoint: ['/opt/openshell/bin/openshell-sandbox', JSON.stringify(job)],
    binds: [
      { source: directory, destination: TOOLS },
      { source: '/usr', destination: `${MACHINE}/usr` },
    ],
    timeout: START_MS + job.budgetMs + 6 * job.steps.length * job.limitMs,
  });
  const read = parseOutput(stdout);
  if (!read.done)
    throw new Error(`the bench under ${name} ended early with ${code}: ${stderr.trim() || '(no words)'}`);
  return read;
}

/** Reads what inside.ts and its steps have printed. */
export function parseOutput(text: string): Measured & { readonly done: boolean } {
  const samples: Sample[] = [];
  let [side, counted, done, rounds, mechanism]: [Side, boolean, boolean, number, string] = [
    'unconfined',
    false,
    false,
    0,
    '',
  ];
  const add = (name: string, value: number): void => {
    if (counted && Number.isFinite(value)) samples.push({ side, name, value });
  };
  for (const line of text.split('\n')) {
    if (!line.startsWith(MARK)) {
      const [name = '', value, rest] = line.split(' ');
      if (value !== undefined && rest === undefined) add(name, Number(value));
      continue;
    }
    const [word, ...rest] = line.slice(MARK.length).split(' ');
    if (word === 'mechanism') mechanism = rest.join(' ');
    else if (word === 'done') done = true;
    else if (word === 'time') add(rest.slice(1).join(' '), Number(rest[0]));
    else if (word === 'side') {
      side = rest[0] === 'confined' ? 'confined' : 'unconfined';
      counted = rest[1] === 'counted';
      if (counted && side === 'confined') rounds += 1;
    }
  }
  return {
    done,
    mechanism,
    rounds,
    values: (wanted, name) =>
      samples.filter((one) => one.side === wanted && one.name === name).map(({ value }) => value),
  };
}
