import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { sshOptions } from '../../test/dev-gateway/client/openssh.ts';
import { namespacePath } from '../lib/network.ts';
import { NODE } from '../lib/paths.ts';
import { ensureRootfs } from '../lib/rootfs.ts';
import { type RunningSandbox, startSandbox } from '../lib/sandbox.ts';
import { ADDRESS, type World } from '../lib/world.ts';
import { type LineClient, lineClient, until, within } from './bounded.ts';
import { MOUNTED, startServer } from './chroot.ts';
import { READ_ONLY, READ_WRITE } from './policy.ts';
import { figure, heading, median, quantile, row } from './report.ts';
import type { Bench } from './subject.ts';

const ROUNDS = 5;
const NEW_EACH = 8;
const KEPT_EACH = 40;
const BYTES = 128 << 20;
const STEP_MS = 60_000;
const SSHD_PORT = 4222;
const PORT = 7777;
const GATEWAY = '10.77.0.1:8080';
/** The same for both; what OpenSSH would take by itself is ChaCha20, which is slow where there are AES instructions. */
const CIPHER = 'aes128-gcm@openssh.com';

const POLICY = `version: 1
filesystem_policy:
  include_workdir: true
  read_only: [${READ_ONLY.join(', ')}]
  read_write: [${READ_WRITE.join(', ')}]
`;

/** Takes or gives as many bytes as the first 32 of a connection say. */
const SERVER = `
import os, socket, threading
listener = socket.socket(); listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("127.0.0.1", ${PORT})); listener.listen()
print("listening", flush=True)
zeros = bytes(1 << 20)
def serve(made):
    with made:
        words = made.recv(32, socket.MSG_WAITALL).split()
        if not words: return
        left = int(words[1])
        if words[0] == b"down":
            while left > 0: left -= made.send(zeros[:left])
        else:
            sink = bytearray(1 << 20)
            while left > 0:
                got = made.recv_into(sink)
                if got == 0: return
                left -= got
            made.sendall(b"ok")
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
`;

const SSHD = `Port ${SSHD_PORT}
ListenAddress 127.0.0.1
HostKey /run/hostkey
AuthorizedKeysFile ${MOUNTED}/key.pub
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin yes
PidFile none
MaxStartups 100
MaxSessions 100
`;

interface Way {
  readonly name: string;
  /** Of the configuration that OpenSSH's client is given. */
  readonly host: string;
  /** The processes that serve, on the far side of everything between. */
  readonly cpuMs: () => number;
  readonly fresh: number[];
  readonly kept: number[];
  readonly up: number[];
  readonly down: number[];
  readonly port: number[];
  readonly portBack: number[];
  readonly cpuUp: number[];
}

/** What is stopped in the end. */
interface Running {
  readonly children: ChildProcess[];
  sandbox: RunningSandbox | undefined;
}

/** Of a process and all its descendants, ended ones too if they were waited for. In milliseconds. */
function cpuMs(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ')[1]?.split(' ') ?? [];
  const own = [11, 12, 13, 14].reduce((sum, index) => sum + Number(fields[index]), 0) * 10;
  const children = readdirSync(`/proc/${pid}/task`).flatMap((task) =>
    readFileSync(`/proc/${pid}/task/${task}/children`, 'utf8').trim().split(' ').filter(Boolean).map(Number),
  );
  return own + children.reduce((sum, child) => sum + cpuMs(child), 0);
}

/** The supervisor alone: what its sessions' programs use is not its own. */
function supervisorOf(init: number): number {
  const children = readFileSync(`/proc/${init}/task/${init}/children`, 'utf8').trim().split(' ').map(Number);
  const found = children.find((pid) => readFileSync(`/proc/${pid}/comm`, 'latin1').startsWith('node'));
  if (found === undefined) throw new Error('the supervisor is not to be seen');
  return found;
}

async function sshdBeside(bench: Bench, world: World, running: Running): Promise<number> {
  const { directory } = bench;
  writeFileSync(join(directory, 'resolv.conf'), `nameserver ${ADDRESS.dns}\n`);
  writeFileSync(join(directory, 'sshd_config'), SSHD);
  writeFileSync(join(directory, 'server.py'), SERVER, { mode: 0o644 });
  const script = `mkdir /run/sshd; ssh-keygen -q -t ed25519 -N '' -f /run/hostkey; python3 ${MOUNTED}/server.py & exec /usr/sbin/sshd -D -e -f ${MOUNTED}/sshd_config`;
  const child = await startServer({
    rootfs: await ensureRootfs('peers'),
    directory,
    namespace: world.namespace,
    command: ['/bin/bash', '-c', script],
    port: SSHD_PORT,
    exec: world.exec,
  });
  running.children.push(child);
  return child.pid ?? 0;
}

/** Runs one command in the world's network, and tells its milliseconds. */
async function timed(world: World, command: readonly string[]): Promise<number> {
  const begun = performance.now();
  const child = spawn(
    'nsenter',
    [`--net=${namespacePath(world.namespace)}`, '--', 'setpriv', '--pdeathsig', 'KILL', ...command],
    { stdio: ['ignore', 'ignore', 'pipe'] },
  );
  let words = '';
  child.stderr.on('data', (chunk: Buffer) => {
    words = (words + chunk.toString()).slice(-1000);
  });
  const code = await within(
    STEP_MS,
    command.join(' '),
    new Promise<number | null>((resolve) => child.once('close', resolve)),
  );
  if (code !== 0) throw new Error(`${command.join(' ')} ended with ${code}: ${words}`);
  return performance.now() - begun;
}

/** Commands and transfers through the session, beside OpenSSH's own sshd. */
export async function access(bench: Bench): Promise<void> {
  if (!bench.runtimes.includes('runc')) {
    heading('Reaching in');
    row('not measured: it is measured under runc, which is left out');
    return;
  }
  const world = await bench.world();
  await world.control('POST', '/policy', POLICY);
  const running: Running = { children: [], sandbox: undefined };
  const { directory } = bench;
  try {
    execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', join(directory, 'key')]);
    const sshd = await sshdBeside(bench, world, running);
    const sandbox = await startSandbox({
      runtime: 'runc',
      command: ['/usr/bin/python3', '-c', SERVER],
      gateway: world.gatewayUrl,
      network: await world.network(),
      timeout: 600_000,
    });
    running.sandbox = sandbox;
    await until(STEP_MS, 'the sandbox is not reached', () =>
      sandbox.printed().stdout.includes('listening') && world.gatewayOutput().includes('established')
        ? true
        : undefined,
    );
    const supervisor = supervisorOf(await until(STEP_MS, 'no pid of the sandbox', () => sandbox.pid()));
    const options = sshOptions({ gateway: GATEWAY, sandbox: sandbox.sandboxId })
      .filter((word) => word !== '-o')
      .map((word) => `  ${word.replace('=', ' ')}\n`)
      .join('');
    const shared = `  Ciphers ${CIPHER}\n  ControlPath ${directory}/%n\n  BatchMode yes\n`;
    const plain = `  HostName 127.0.0.1\n  Port ${SSHD_PORT}\n  User root\n  IdentityFile ${directory}/key\n  StrictHostKeyChecking no\n  UserKnownHostsFile /dev/null\n  LogLevel ERROR\n`;
    const config = join(directory, 'ssh_config');
    writeFileSync(config, `Host sandbox\n${options}${shared}Host sshd\n${plain}${shared}`);
    const ways: readonly Way[] = [
      { name: 'sshd on the loopback', host: 'sshd', cpuMs: () => cpuMs(sshd) },
      { name: 'a sandbox, through the gateway', host: 'sandbox', cpuMs: () => cpuMs(supervisor) },
    ].map((way) => ({ ...way, fresh: [], kept: [], up: [], down: [], port: [], portBack: [], cpuUp: [] }));
    const client = spawn(
      'nsenter',
      [
        ...[`--net=${namespacePath(world.namespace)}`, '--', 'setpriv', '--pdeathsig', 'KILL'],
        ...[NODE, join(import.meta.dirname, 'access-client.ts'), GATEWAY, sandbox.sandboxId],
      ],
      { stdio: ['pipe', 'pipe', 'pipe'] },
    );
    running.children.push(client);
    await measure(world, config, ways, running, lineClient('the client', client), sandbox.sandboxId);
  } finally {
    for (const child of running.children) child.kill('SIGKILL');
    await running.sandbox?.stop();
  }
}

async function measure(
  world: World,
  config: string,
  ways: readonly Way[],
  running: Running,
  staying: LineClient,
  sandboxId: string,
): Promise<void> {
  for (const { host } of ways) {
    const master = spawn(
      'nsenter',
      [
        ...[`--net=${namespacePath(world.namespace)}`, '--', 'setpriv', '--pdeathsig', 'KILL'],
        ...['ssh', '-F', config, '-M', '-N', host],
      ],
      { stdio: 'ignore' },
    );
    running.children.push(master);
  }
  const grpc: number[] = [];
  const alone: { readonly up: number[]; readonly down: number[] } = { up: [], down: [] };
  const relay: { readonly up: number[]; readonly down: number[] } = { up: [], down: [] };
  const shell = (line: string): readonly string[] => ['bash', '-o', 'pipefail', '-c', line];
  const zeros = `head -c ${BYTES} /dev/zero`;
  const rate = (ms: number): number => BYTES / ms / 1000;
  for (let round = -1; round < ROUNDS; round++) {
    const counts = round >= 0;
    const keep = (into: number[], value: number): void => {
      if (counts) into.push(value);
    };
    for (const way of ways) {
      const ssh = `ssh -F ${config}`;
      for (let n = 0; n < NEW_EACH; n++)
        keep(way.fresh, await timed(world, ['ssh', '-F', config, '-S', 'none', way.host, 'true']));
      for (let n = 0; n < KEPT_EACH; n++)
        keep(way.kept, await timed(world, ['ssh', '-F', config, way.host, 'true']));
      const before = way.cpuMs();
      keep(way.up, rate(await timed(world, shell(`${zeros} | ${ssh} ${way.host} 'cat > /dev/null'`))));
      keep(way.cpuUp, way.cpuMs() - before);
      keep(way.down, rate(await timed(world, shell(`${ssh} ${way.host} '${zeros}' > /dev/null`))));
      const port = (word: string): string =>
        `(printf '%-32s' '${word} ${BYTES}'; ${word === 'up' ? zeros : 'true'}) | ${ssh} -W 127.0.0.1:${PORT} ${way.host} > /dev/null`;
      keep(way.port, rate(await timed(world, shell(port('up')))));
      keep(way.portBack, rate(await timed(world, shell(port('down')))));
    }
    const times = JSON.parse(await staying.ask(`exec ${KEPT_EACH}`, STEP_MS)) as readonly number[];
    for (const time of times) keep(grpc, time);
    for (const way of ['up', 'down'] as const) {
      const path = `/transfer?sandbox=${sandboxId}&port=${PORT}&way=${way}&bytes=${BYTES}`;
      const { ms } = (await within(STEP_MS, path, world.control('POST', path))) as { readonly ms: number };
      keep(alone[way], rate(ms));
    }
    for (const word of ['up', 'down'] as const)
      keep(relay[word], rate(JSON.parse(await staying.ask(`${word} ${PORT} ${BYTES}`, STEP_MS)) as number));
  }
  heading(`Reaching in: a command (true), ${ROUNDS} interleaved rounds, ms`);
  row('', 'p50', 'p99');
  const pair = (values: readonly number[]) => [figure(median(values)), figure(quantile(values, 0.99))];
  for (const { name, fresh } of ways) row(`${name}, a connection for each`, ...pair(fresh));
  for (const { name, kept } of ways) row(`${name}, over one connection`, ...pair(kept));
  row('a sandbox, ExecSandbox of a client that stays', ...pair(grpc));
  heading(`Reaching in: ${BYTES >> 20} MiB, median MB/s (${CIPHER})`);
  row('', 'exec, to', 'exec, from', 'port, to', 'port, from', 'CPU ms, to');
  for (const { name, up, down, port, portBack, cpuUp } of ways)
    row(name, ...[up, down, port, portBack, cpuUp].map((values) => figure(median(values))));
  const only = (name: string, { up, down }: typeof relay): void =>
    row(name, '-', '-', figure(median(up)), figure(median(down)), '-');
  only('a sandbox, ForwardTcp of a client that stays', relay);
  only('a sandbox, a relay alone, from the gateway itself', alone);
}
