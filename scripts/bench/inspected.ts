import { type ChildProcess, spawn } from 'node:child_process';
import { copyFileSync, readFileSync, realpathSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { NODE } from '../lib/paths.ts';
import { type RunningSandbox, startSandbox } from '../lib/sandbox.ts';
import { ADDRESS, type World } from '../lib/world.ts';
import { type LineClient, lineClient, until } from './bounded.ts';
import { LARGE, makePeers, ORIGIN, PEERS } from './peers.ts';
import { READ_ONLY, READ_WRITE, TOOLS } from './policy.ts';
import { figure, heading, median, row } from './report.ts';
import type { Bench } from './subject.ts';

const ROUNDS = 5;
const ROUND_MS = 2_000;
const LANES = 16;
const IDLE = 1000;
/** Until what a collector will free is freed. */
const SETTLE_MS = 3_000;
const WAIT_MS = 60_000;
/** Node's, which a minimal Debian lacks. */
const LIBATOMIC = '/usr/lib/x86_64-linux-gnu/libatomic.so.1';
const IN_CONTAINER = '/opt/node';

const POLICY = `version: 1
filesystem_policy:
  include_workdir: true
  read_only: [${[...READ_ONLY, IN_CONTAINER].join(', ')}]
  read_write: [${READ_WRITE.join(', ')}]
network_policies:
  api:
    endpoints:
      - host: ${ORIGIN.host}
        port: ${ORIGIN.port}
        protocol: rest
        enforcement: enforce
        rules: [{ allow: { method: GET, path: / } }, { allow: { method: GET, path: /big } }]
    binaries: [{ path: ${IN_CONTAINER} }]
`;

interface Load {
  readonly count: number;
  readonly rate: number;
  readonly p50: number;
  readonly p99: number;
}

interface Round {
  readonly keep: Load;
  readonly one: Load;
  readonly fresh: Load;
  readonly freshOne: Load;
  readonly mbps: number;
  /** Of the process between, in µs of its processors a request and a connection. */
  readonly cpuKeep: number;
  readonly cpuFresh: number;
}

interface Way {
  readonly name: string;
  readonly client: LineClient;
  /** The process between; none between client and origin. */
  readonly pid: number | undefined;
  readonly rounds: Round[];
}

/** What is stopped in the end. */
interface Running {
  readonly children: ChildProcess[];
  readonly sandboxes: RunningSandbox[];
}

/** Of a process and all its threads, in milliseconds; ticks are a hundredth of a second. */
function cpuMs(pid: number | undefined): number {
  if (pid === undefined) return Number.NaN;
  const fields = readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ')[1]?.split(' ') ?? [];
  return (Number(fields[11]) + Number(fields[12])) * 10;
}

/** In KiB: its own, and its share of what it has in common with others. */
function pssKib(pid: number): number {
  const text = readFileSync(`/proc/${pid}/smaps_rollup`, 'latin1');
  return Number(/^Pss:\s+(\d+)/m.exec(text)?.[1] ?? Number.NaN);
}

/** The supervisor: the largest child of the container's init. */
async function supervisorOf(sandbox: RunningSandbox): Promise<number> {
  const init = await until(WAIT_MS, 'the pid of the container', () => sandbox.pid());
  const children = readFileSync(`/proc/${init}/task/${init}/children`, 'utf8').trim().split(' ').map(Number);
  const [largest] = children.sort((a, b) => pssKib(b) - pssKib(a));
  if (largest === undefined) throw new Error('the sandbox has ended');
  return largest;
}

async function ways(bench: Bench, world: World, running: Running): Promise<readonly Way[]> {
  await world.control('POST', '/policy', POLICY);
  const script = join(bench.directory, 'inspected-client.mts');
  copyFileSync(join(import.meta.dirname, 'inspected-inside.ts'), script);
  const network = await world.network();
  const { origin, peer } = await makePeers(bench.directory, world);
  running.children.push(await origin());
  const found: Way[] = [];
  const add = (name: string, child: ChildProcess, pid: number | undefined): void =>
    void found.push({ name, client: lineClient(name, child), pid, rounds: [] });
  const outside = (...args: readonly string[]): ChildProcess => {
    const last = [ORIGIN.host, `${ORIGIN.port}`, world.caFile];
    const command = ['setpriv', '--pdeathsig', 'KILL', NODE, script, ...args, ...last];
    const child = spawn('nsenter', [`--net=${network.path}`, '--', ...command], { stdio: 'pipe' });
    running.children.push(child);
    return child;
  };
  add('direct', outside('direct', ADDRESS.allowed, `${ORIGIN.port}`), undefined);
  const sandbox = await startSandbox({
    runtime: 'runc',
    command: [
      ...[IN_CONTAINER, `${TOOLS}/inspected-client.mts`, 'connect', '127.0.0.1', '3128'],
      ...[ORIGIN.host, `${ORIGIN.port}`, `${TOOLS}/ca.pem`],
    ],
    gateway: world.gatewayUrl,
    network: await world.network(),
    flags: ['--upstream-ca-file', `${TOOLS}/ca.pem`],
    binds: [
      { source: bench.directory, destination: TOOLS },
      { source: NODE, destination: IN_CONTAINER },
      { source: realpathSync(LIBATOMIC), destination: LIBATOMIC },
    ],
    stdin: 'pipe',
    timeout: 600_000,
  });
  running.sandboxes.push(sandbox);
  add('the supervisor', sandbox.child, undefined);
  for (const one of PEERS) {
    const child = await peer(one, network);
    running.children.push(child);
    add(one.name, outside(one.way, '127.0.0.1', `${one.port}`), child.pid);
  }
  for (const { client } of found) await client.ask('hello', WAIT_MS);
  const supervisor = await supervisorOf(sandbox);
  return found.map((way) => (way.name === 'the supervisor' ? { ...way, pid: supervisor } : way));
}

async function ask<T>({ client }: Way, line: string): Promise<T> {
  return JSON.parse(await client.ask(line, WAIT_MS)) as T;
}

async function measured(way: Way): Promise<Round> {
  const one = await ask<Load>(way, `keep 1 ${ROUND_MS / 2}`);
  const before = cpuMs(way.pid);
  const keep = await ask<Load>(way, `keep ${LANES} ${ROUND_MS}`);
  const between = cpuMs(way.pid);
  const fresh = await ask<Load>(way, `fresh ${LANES} ${ROUND_MS}`);
  const after = cpuMs(way.pid);
  const freshOne = await ask<Load>(way, `fresh 1 ${ROUND_MS / 2}`);
  const { mbps } = await ask<{ readonly mbps: number }>(way, 'body');
  return {
    ...{ keep, one, fresh, freshOne, mbps },
    cpuKeep: (1000 * (between - before)) / keep.count,
    cpuFresh: (1000 * (after - between)) / fresh.count,
  };
}

/** What 1,000 connections that wait cost: MiB before and after, and KiB each. */
async function memory(found: readonly Way[]): Promise<void> {
  heading(`Inspected HTTPS: memory (Pss) by ${IDLE} idle connections`);
  row('', 'before MiB', 'with MiB', 'KiB each');
  for (const way of found) {
    if (way.pid === undefined) continue;
    await sleep(SETTLE_MS);
    const before = pssKib(way.pid);
    await ask(way, `idle ${IDLE}`);
    await sleep(SETTLE_MS);
    const after = pssKib(way.pid);
    await ask(way, 'drop');
    row(way.name, figure(before / 1024), figure(after / 1024), figure((after - before) / IDLE));
  }
}

function report(found: readonly Way[]): void {
  const [direct] = found;
  if (direct === undefined) return;
  const of = (way: Way, pick: (round: Round) => number): number => median(way.rounds.map(pick));
  const rate = (way: Way, pick: (round: Round) => Load): string =>
    figure(of(way, (round) => pick(round).rate));
  /** The way itself for "direct", what is added to it for the others. */
  const added = (way: Way, pick: (round: Round) => number): string =>
    figure(way === direct ? of(way, pick) : of(way, pick) - of(direct, pick));
  heading(
    `Inspected HTTPS, 1 KiB each: median of ${ROUNDS} interleaved rounds; client and origin on the same processors`,
  );
  row('kept connections', `requests/s`, '1 at a time', 'p50 ms added', 'p99 ms added', 'CPU µs each');
  for (const way of found)
    row(
      way.name,
      rate(way, ({ keep }) => keep),
      rate(way, ({ one }) => one),
      added(way, ({ one }) => one.p50),
      added(way, ({ one }) => one.p99),
      figure(of(way, ({ cpuKeep }) => cpuKeep)),
    );
  row('a connection for each', `requests/s`, '1 at a time', 'p50 ms added', 'p99 ms added', 'CPU µs each');
  for (const way of found)
    row(
      way.name,
      rate(way, ({ fresh }) => fresh),
      rate(way, ({ freshOne }) => freshOne),
      added(way, ({ freshOne }) => freshOne.p50),
      added(way, ({ freshOne }) => freshOne.p99),
      figure(of(way, ({ cpuFresh }) => cpuFresh)),
    );
  row(`a body of ${LARGE >> 20} MiB`, 'MB/s');
  for (const way of found) row(way.name, figure(of(way, ({ mbps }) => mbps)));
}

/** HTTPS whose requests are looked at, beside other proxies that do the same, with one key, client and origin. */
export async function inspected(bench: Bench): Promise<void> {
  if (!bench.runtimes.includes('runc')) {
    heading('Inspected HTTPS');
    row('not measured: it is measured under runc, which is left out');
    return;
  }
  const running: Running = { children: [], sandboxes: [] };
  try {
    const found = await ways(bench, await bench.world(), running);
    for (let round = 0; round <= ROUNDS; round++)
      for (const way of found) {
        const result = await measured(way);
        // The first one is for warming up.
        if (round > 0) way.rounds.push(result);
      }
    report(found);
    await memory(found);
  } finally {
    for (const child of running.children) child.kill('SIGKILL');
    for (const sandbox of running.sandboxes) await sandbox.stop();
  }
}
