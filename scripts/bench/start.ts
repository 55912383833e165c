import type { Runtime } from '../lib/runtime.ts';
import { runSandbox, startSandbox } from '../lib/sandbox.ts';
import type { World } from '../lib/world.ts';
import { until, within } from './bounded.ts';
import { POLICY } from './policy.ts';
import { figure, heading, median, row } from './report.ts';
import type { Bench } from './subject.ts';

const STARTS = 7;
const LIMIT_MS = 60_000;

interface Times {
  readonly plain: number;
  readonly line: number;
  readonly session: number;
}

async function one(world: World, runtime: Runtime): Promise<Times> {
  const bare = performance.now();
  const { code, stderr } = await runSandbox({
    runtime,
    command: [],
    entrypoint: ['/bin/true'],
    network: await world.network(),
    timeout: LIMIT_MS,
  });
  if (code !== 0) throw new Error(`/bin/true under ${runtime} ended with ${code}: ${stderr.trim()}`);
  const plain = performance.now() - bare;
  const network = await world.network();
  const begun = Date.now();
  const sandbox = await startSandbox({
    runtime,
    command: ['/bin/sh', '-c', 'echo up; read line'],
    gateway: world.gatewayUrl,
    network,
    stdin: 'pipe',
    timeout: LIMIT_MS,
  });
  const died = sandbox.ended.then((result) => {
    throw new Error(`a start under ${runtime} ended with ${result.code}: ${result.stderr.trim()}`);
  });
  died.catch(() => undefined); // also after the measurement, when nobody listens
  const first = new Promise<number>((resolve) => {
    sandbox.child.stdout?.once('data', () => resolve(Date.now() - begun));
  });
  const session = until(LIMIT_MS, `the session of a sandbox under ${runtime}`, async () => {
    const sessions = (await world.control('GET', '/sessions')) as readonly {
      readonly connectedAtMs: number;
    }[];
    const latest = Math.max(0, ...sessions.map(({ connectedAtMs }) => connectedAtMs));
    return latest >= begun ? latest - begun : undefined;
  });
  session.catch(() => undefined);
  try {
    const line = await within(LIMIT_MS, `the first line under ${runtime}`, Promise.race([first, died]));
    return { plain, line, session: await Promise.race([session, died]) };
  } finally {
    sandbox.child.stdin?.end();
    await sandbox.ended;
  }
}

/** From the runtime's start to the first line of the workload, and to the accepted session. */
export async function start({ runtimes, world: startWorld }: Bench): Promise<void> {
  const world = await startWorld();
  await world.control('POST', '/policy', POLICY);
  const times = new Map<Runtime, Times[]>(runtimes.map((runtime) => [runtime, []]));
  for (let i = 0; i < STARTS; i++)
    for (const runtime of runtimes) times.get(runtime)?.push(await one(world, runtime));
  heading(`Start, median of ${STARTS} interleaved rounds, ms`);
  row('', ...runtimes);
  const line = (what: string, key: keyof Times): void =>
    row(what, ...runtimes.map((name) => figure(median((times.get(name) ?? []).map((all) => all[key])))));
  line('a container that runs /bin/true, start to end', 'plain');
  line('to the first line of the sandboxed workload', 'line');
  line('to the accepted session', 'session');
}
