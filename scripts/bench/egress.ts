import { type ChildProcess, spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type RunningSandbox, startSandbox } from '../lib/sandbox.ts';
import { ADDRESS, type Network } from '../lib/world.ts';
import { type LineClient, lineClient, until } from './bounded.ts';
import { POLICY, TOOLS } from './policy.ts';
import { heading, median, row } from './report.ts';
import type { Bench } from './subject.ts';

const ROUNDS = 7;
const REQUESTS = 40;
const BYTES = 256 << 20;
const HAPROXY_PORT = 4128;
const START_MS = 60_000;
const ROUND_MS = 60_000;

/** One client for all ways: says "up", then for each line milliseconds a request and MB/s, as JSON. */
const CLIENT = `
import json, socket, sys, time

way, host, port, requests, total = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5])

def dial():
    made = socket.create_connection((host, port), timeout=30)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if way == "connect":
        made.sendall(b"CONNECT api.allowed.test:80 HTTP/1.1\\r\\nHost: api.allowed.test:80\\r\\n\\r\\n")
        answer = b""
        while b"\\r\\n\\r\\n" not in answer:
            more = made.recv(4096)
            assert more, "the proxy closed: %r" % answer
            answer += more
        assert b" 200 " in answer.split(b"\\r\\n")[0], answer
    made.settimeout(None)
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
    if line.startswith("hello"):
        print("up", flush=True)
        continue
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

const HAPROXY = `global
  maxconn 1024
defaults
  mode tcp
  timeout connect 5s
  timeout client 60s
  timeout server 60s
listen bench
  bind 127.0.0.1:${HAPROXY_PORT}
  server world ${ADDRESS.allowed}:80
`;

interface Way {
  readonly name: string;
  readonly client: LineClient;
  readonly rounds: Round[];
}

/** What is stopped in the end. */
interface Running {
  readonly children: ChildProcess[];
  readonly sandboxes: RunningSandbox[];
}

function outside(network: Network, running: Running, command: readonly string[]): ChildProcess {
  const args = [`--net=${network.path}`, '--', 'setpriv', '--pdeathsig', 'KILL', ...command];
  const child = spawn('nsenter', args, { stdio: ['pipe', 'pipe', 'pipe'] });
  running.children.push(child);
  return child;
}

async function ways(bench: Bench, running: Running): Promise<readonly Way[]> {
  const world = await bench.world();
  await world.control('POST', '/policy', POLICY);
  const script = join(bench.directory, 'client.py');
  writeFileSync(script, CLIENT, { mode: 0o644 });
  const config = join(bench.directory, 'haproxy.cfg');
  writeFileSync(config, HAPROXY);
  const rounds = [`${REQUESTS}`, `${BYTES}`];
  const network = await world.network();
  const haproxy = outside(network, running, ['haproxy', '-db', '-f', config]);
  const client = (host: string, port: number): ChildProcess =>
    outside(network, running, ['python3', script, 'direct', host, `${port}`, ...rounds]);
  await until(START_MS, 'haproxy does not listen', async () => {
    if (haproxy.exitCode !== null) throw new Error(`haproxy ended with ${haproxy.exitCode}`);
    const listening = await network.exec(['ss', '-Hltn', `sport = :${HAPROXY_PORT}`]);
    return listening.stdout.trim() === '' ? undefined : true;
  });
  const found: Way[] = [];
  const add = (name: string, child: ChildProcess): void =>
    void found.push({ name, client: lineClient(name, child), rounds: [] });
  add('direct, outside any sandbox', client(ADDRESS.allowed, 80));
  add('haproxy in TCP mode, outside any sandbox', client('127.0.0.1', HAPROXY_PORT));
  for (const runtime of bench.runtimes.filter((one) => one !== 'host')) {
    const sandbox = await startSandbox({
      runtime,
      command: ['/usr/bin/python3', `${TOOLS}/client.py`, 'connect', '127.0.0.1', '3128', ...rounds],
      gateway: world.gatewayUrl,
      network: await world.network(),
      binds: [{ source: bench.directory, destination: TOOLS }],
      stdin: 'pipe',
      timeout: 600_000,
    });
    running.sandboxes.push(sandbox);
    add(`CONNECT through the supervisor, ${runtime}`, sandbox.child);
  }
  return found;
}

/** Connections and downloads through the supervisor, beside none and beside haproxy. */
export async function egress(bench: Bench): Promise<void> {
  const running: Running = { children: [], sandboxes: [] };
  try {
    const found = await ways(bench, running);
    for (const { client } of found) await client.ask('hello', START_MS);
    for (let round = 0; round < ROUNDS; round++)
      for (const { client, rounds } of found)
        rounds.push(JSON.parse(await client.ask('go', ROUND_MS)) as Round);
    heading(
      `Egress: one connection and one GET each; then ${BYTES >> 20} MiB; median of ${ROUNDS} interleaved rounds`,
    );
    row('', 'median ms', 'p99 ms', 'MB/s');
    for (const { name, rounds } of found) {
      const pick = (key: keyof Round): number => median(rounds.map((round) => round[key]));
      row(name, pick('ms').toFixed(2), pick('p99').toFixed(2), pick('mbps').toFixed(0));
    }
    // Without a pid namespace the supervisors of the other sandboxes are among the processes that could share
    // a caller's socket; they hide their descriptors, so every connection would be refused.
    if (bench.runtimes.includes('host')) row('not measured: host, which has no pid namespace');
  } finally {
    for (const child of running.children) child.kill('SIGKILL');
    for (const sandbox of running.sandboxes) await sandbox.stop();
  }
}
