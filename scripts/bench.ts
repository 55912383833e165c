/** `npm run bench`: what the supervisor costs, beside what one would use without it, in one run. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { ensureBuilt } from './lib/build.ts';
import { ensureRootfs } from './lib/rootfs.ts';
import { runSandbox, startSandbox } from './lib/sandbox.ts';
import { ADDRESS, type Network, startWorld, type World } from './lib/world.ts';

const STARTS = 10;
const ROUNDS = 7;
const REQUESTS = 40;
const BYTES = 256 << 20;
const HAPROXY_PORT = 4128;

const POLICY = `version: 1
filesystem_policy:
  include_workdir: true
  read_only: [/usr, /bin, /lib, /lib64, /etc, /proc, /dev/urandom, /opt/bench]
  read_write: [/tmp, /dev/null]
network_policies:
  api:
    endpoints: [{ host: api.allowed.test, ports: [80] }]
    binaries: [{ path: /usr/bin/python3.11 }]
`;

/** One client for all three ways: prints milliseconds a request and MB/s, a JSON line a round. */
const CLIENT = `
import json, socket, sys, time

way, host, port, requests, total = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5])

def dial():
    made = socket.create_connection((host, port))
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if way == "connect":
        made.sendall(b"CONNECT api.allowed.test:80 HTTP/1.1\\r\\nHost: api.allowed.test:80\\r\\n\\r\\n")
        answer = b""
        while b"\\r\\n\\r\\n" not in answer:
            answer += made.recv(4096)
        assert b" 200 " in answer.split(b"\\r\\n")[0], answer
    return made

def get(made, path, sink):
    made.sendall(b"GET " + path + b" HTTP/1.1\\r\\nHost: api.allowed.test\\r\\nConnection: close\\r\\n\\r\\n")
    size = 0
    while True:
        count = made.recv_into(sink)
        if count == 0:
            return size
        size += count

sink = bytearray(1 << 18)
for line in sys.stdin:
    times = []
    for _ in range(requests):
        begun = time.perf_counter()
        with dial() as made:
            get(made, b"/", sink)
        times.append((time.perf_counter() - begun) * 1000)
    with dial() as made:
        begun = time.perf_counter()
        size = get(made, b"/bytes/%d" % total, sink)
        speed = size / (time.perf_counter() - begun) / 1e6
    assert size >= total, size
    times.sort()
    print(json.dumps({"ms": times[len(times) // 2], "p99": times[int(len(times) * 0.99) - 1], "mbps": speed}), flush=True)
`;

interface Round {
  readonly ms: number;
  readonly p99: number;
  readonly mbps: number;
}

const median = (values: readonly number[]): number =>
  [...values].sort((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
const row = (what: string, ...cells: readonly string[]): void =>
  console.log(`  ${what.padEnd(46)} ${cells.map((cell) => cell.padStart(12)).join(' ')}`);

/** Milliseconds from the runtime's start to the first line of the workload, and to the accepted session. */
async function startTimes(world: World): Promise<void> {
  const [plain, exec, session]: [number[], number[], number[]] = [[], [], []];
  await world.control('POST', '/policy', POLICY);
  const command = ['/bin/sh', '-c', 'echo up; sleep 2'];
  for (let i = 0; i < STARTS; i++) {
    const bare = Date.now();
    await runSandbox({ command: [], entrypoint: ['/bin/true'], network: await world.network() });
    plain.push(Date.now() - bare);
    const before = ((await world.control('GET', '/sessions')) as readonly unknown[]).length;
    const network = await world.network();
    const begun = Date.now();
    const sandbox = await startSandbox({ command, gateway: world.gatewayUrl, network });
    sandbox.child.stdout?.once('data', () => exec.push(Date.now() - begun));
    for (let tries = 0; tries < 2000; tries++) {
      const sessions = (await world.control('GET', '/sessions')) as readonly {
        readonly connectedAtMs: number;
      }[];
      const latest =
        sessions.length > before ? Math.max(...sessions.map(({ connectedAtMs }) => connectedAtMs)) : 0;
      if (latest >= begun) {
        session.push(latest - begun);
        break;
      }
      await sleep(5);
    }
    await sandbox.ended;
  }
  console.log(`\nStart under runc, median of ${STARTS}, ms`);
  row('a container that runs /bin/true, start to end', median(plain).toFixed(0));
  row('to the first line of the sandboxed workload', median(exec).toFixed(0));
  row('to the accepted session', median(session).toFixed(0));
}

/** RssAnon of a process in KiB (proc_pid_status(5)). */
const privateKib = (pid: number): number =>
  Number(/^RssAnon:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1] ?? Number.NaN);

async function memory(world: World): Promise<void> {
  const sandbox = await startSandbox({
    command: ['/bin/sleep', '60'],
    gateway: world.gatewayUrl,
    network: await world.network(),
  });
  await sleep(12_000); // one poll and the first beats: what idling is
  const init = (await sandbox.pid()) ?? 0;
  const supervisor = Number(readFileSync(`/proc/${init}/task/${init}/children`, 'utf8').split(' ')[0]);
  console.log('\nPrivate memory when idle (RssAnon)');
  row('supervisor', `${(privateKib(supervisor) / 1024).toFixed(1)} MiB`);
  row('init', `${privateKib(init)} KiB`);
  await sandbox.stop();
}

const HAPROXY = (port: number): string => `global
  maxconn 1024
defaults
  mode tcp
  timeout connect 5s
  timeout client 60s
  timeout server 60s
listen bench
  bind 127.0.0.1:${port}
  server world ${ADDRESS.allowed}:80
`;

/** Asks a client for one round and takes its line. */
type Ask = () => Promise<Round>;

async function egress(world: World, directory: string): Promise<void> {
  await world.control('POST', '/policy', POLICY);
  const network: Network = await world.network();
  const client = join(directory, 'client.py');
  writeFileSync(client, CLIENT, { mode: 0o644 });
  const config = join(directory, 'haproxy.cfg');
  writeFileSync(config, HAPROXY(HAPROXY_PORT));
  const { spawn } = await import('node:child_process');
  const inside = [`--net=${network.path}`, '--', 'setpriv', '--pdeathsig', 'KILL'];
  const haproxy = spawn('nsenter', [...inside, 'haproxy', '-db', '-f', config], { stdio: 'ignore' });
  const rounds = [`${REQUESTS}`, `${BYTES}`];
  const outside = (way: string, host: string, port: number) =>
    spawn('nsenter', [...inside, 'python3', client, way, host, `${port}`, ...rounds], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
  const direct = outside('direct', ADDRESS.allowed, 80);
  const viaHaproxy = outside('direct', '127.0.0.1', HAPROXY_PORT);
  const sandbox = await startSandbox({
    command: ['/usr/bin/python3', '/opt/bench/client.py', 'connect', '127.0.0.1', '3128', ...rounds],
    gateway: world.gatewayUrl,
    network,
    binds: [{ source: directory, destination: '/opt/bench' }],
    stdin: 'pipe',
    timeout: 300_000,
  });
  const asking = ({ stdin, stdout }: Pick<typeof direct, 'stdin' | 'stdout'>): Ask => {
    let text = '';
    const waiting: ((round: Round) => void)[] = [];
    stdout?.on('data', (chunk: Buffer) => {
      text += chunk.toString('utf8');
      for (let at = text.indexOf('\n'); at >= 0; at = text.indexOf('\n')) {
        const line = text.slice(0, at);
        text = text.slice(at + 1);
        if (line.startsWith('{"ms"')) waiting.shift()?.(JSON.parse(line) as Round);
      }
    });
    return () =>
      new Promise((resolve) => {
        waiting.push(resolve);
        stdin?.write('go\n');
      });
  };
  const ways = [
    ['direct, outside any sandbox', asking(direct)],
    ['haproxy in TCP mode, outside any sandbox', asking(viaHaproxy)],
    ['CONNECT through the supervisor, sandboxed', asking(sandbox.child as typeof direct)],
  ] as const;
  const results = ways.map((): Round[] => []);
  try {
    await sleep(3_000);
    for (let round = 0; round < ROUNDS; round++)
      for (const [index, [, ask]] of ways.entries()) results[index]?.push(await ask());
  } finally {
    for (const child of [haproxy, direct, viaHaproxy]) child.kill('SIGKILL');
    await sandbox.stop();
  }
  console.log(
    `\nEgress: one connection and one GET each; then ${BYTES >> 20} MiB; median of ${ROUNDS} interleaved rounds`,
  );
  row('', 'median ms', 'p99 ms', 'MB/s');
  for (const [index, [name]] of ways.entries()) {
    const mine = results[index] ?? [];
    const pick = (key: keyof Round): number => median(mine.map((round) => round[key]));
    row(name, pick('ms').toFixed(2), pick('p99').toFixed(2), pick('mbps').toFixed(0));
  }
}

const directory = mkdtempSync(join(tmpdir(), 'bench-'));
await ensureBuilt();
await ensureRootfs('debian');
const world = await startWorld();
try {
  await startTimes(world);
  await memory(world);
  const { chmodSync } = await import('node:fs');
  chmodSync(directory, 0o755);
  await egress(world, directory);
} finally {
  await world.stop();
  rmSync(directory, { recursive: true });
}
process.exit(0);
