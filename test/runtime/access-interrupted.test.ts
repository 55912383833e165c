import { readdirSync, readFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { type RunningSandbox, startSandbox } from '../../scripts/lib/sandbox.ts';
import type { Network } from '../../scripts/lib/world.ts';
import { sshOptions } from '../dev-gateway/client/openssh.ts';
import { describeUnless } from './describe-unless.ts';
import { client, GATEWAY, startIn } from './gateway-side.ts';
import { missing } from './requirements.ts';
import { sandboxPolicy } from './sandbox-policy.ts';
import { sharedWorld } from './world-fixture.ts';

const POLICY = sandboxPolicy();
/** Counts aloud, repeats what it reads, and answers on a port what it is sent. */
const PROGRAM = `import socket, sys, threading, time
s = socket.socket(); s.bind(("127.0.0.1", 7777)); s.listen()
def serve(c):
    while True:
        d = c.recv(65536)
        if not d: return
        c.sendall(d)
def listen():
    while True: threading.Thread(target=serve, args=(s.accept()[0],), daemon=True).start()
threading.Thread(target=listen, daemon=True).start()
print("begins", flush=True)
for line in sys.stdin: print("heard", line.strip(), flush=True)
`;

const why = missing('runc', 'ssh', 'ss');
describeUnless(why, 'when the session is lost in the middle', () => {
  const world = sharedWorld();
  let network: Network;
  let sandbox: RunningSandbox;

  beforeAll(async () => {
    await world().control('POST', '/policy', POLICY);
    network = await world().network();
    sandbox = await startSandbox({
      gateway: world().gatewayUrl,
      network,
      command: ['/usr/bin/python3', '-c', PROGRAM],
      stdin: 'pipe',
    });
    await stands(1);
  }, 240_000);
  afterAll(() => sandbox?.stop());

  const established = () => world().gatewayOutput().split('established').length - 1;
  const stands = (times: number) =>
    vi.waitFor(() => expect(established()).toBeGreaterThanOrEqual(times), { timeout: 60_000, interval: 100 });
  const place = () => ({ gateway: GATEWAY, sandbox: sandbox.sandboxId });
  const start = (command: readonly string[]) => startIn(world(), command);
  const gateway = (verb: string, flags: readonly string[], script: string) =>
    start(client(sandbox.sandboxId, verb, flags, ['sh', '-c', script]));
  const attach = () => start(['ssh', ...sshOptions(place()), '-T', '-s', 'sandbox', 'openshell-main']);
  /** The programs that run in the container, by their command lines. */
  const running = async (): Promise<readonly string[]> => {
    const group = readFileSync(`/proc/${await sandbox.pid()}/cgroup`, 'latin1');
    return readdirSync('/proc').flatMap((pid) => {
      try {
        if (!/^\d+$/.test(pid) || readFileSync(`/proc/${pid}/cgroup`, 'latin1') !== group) return [];
        return [readFileSync(`/proc/${pid}/cmdline`, 'latin1').replaceAll('\0', ' ').trim()];
      } catch {
        return []; // it has ended meanwhile
      }
    });
  };

  test('what runs goes on when only the session’s stream ends', async () => {
    const before = established();
    const exec = gateway('exec', [], 'echo begins; read line; echo "heard $line"; exit 4');
    await exec.shows('begins');
    const sessions = (await world().control('GET', '/sessions')) as readonly { id: string; end?: string }[];
    const live = sessions.at(-1);
    await world().control('POST', `/drop?id=${live?.id}`);
    await stands(before + 1);
    exec.child.stdin.write('a word\n');
    expect(await exec.closed).toBe(4);
    expect(exec.seen.stdout).toContain('heard a word');
  }, 90_000);

  test('a lost connection ends commands, shells, copies and forwarded ports with a reason, and the main process goes on', async () => {
    const before = established();
    const command = gateway('exec', [], 'echo begins; sleep 1001');
    const shell = gateway('exec', ['--tty'], 'echo begins; sleep 1002');
    const copy = gateway('exec', [], 'echo begins; cat > /tmp/copy; sleep 1003');
    const port = start(['ssh', ...sshOptions(place()), '-W', '127.0.0.1:7777', 'sandbox']);
    const attached = attach();
    port.child.stdin.write('echo');
    await Promise.all([
      ...[command, shell, copy, attached].map((one) => one.shows('begins')),
      port.shows('echo'),
    ]);
    copy.child.stdin.write(Buffer.alloc(1 << 20));
    expect((await running()).filter((line) => /^(sleep|cat)/.test(line)).length).toBe(3);
    expect((await network.exec(['ss', '-K', 'dport', '=', ':8080'])).code).toBe(0);
    const codes = await Promise.all([command, shell, copy].map(({ closed }) => closed));
    for (const code of codes) expect(code).not.toBe(0);
    for (const { seen } of [command, shell, copy])
      expect(seen.stderr).toContain('the connection to the sandbox was lost, and what ran was hung up');
    expect([await port.closed, await attached.closed]).toEqual([255, 255]);
    for (const { seen } of [port, attached])
      expect(seen.stderr).toContain('the connection to the sandbox was lost');
    await expect
      .poll(async () => (await running()).filter((line) => /^(sleep|cat)/.test(line)), {
        timeout: 20_000,
        interval: 300,
      })
      .toEqual([]);
    await stands(before + 1);
    const again = gateway('exec', [], 'echo back');
    expect(await again.closed).toBe(0);
    expect(again.seen.stdout).toBe('back\n');
    const replayed = attach();
    await replayed.shows('begins');
    replayed.child.stdin.write('after the loss\n');
    await replayed.shows('heard after the loss');
    replayed.child.stdin.write('\x10\x11');
    expect(await replayed.closed).toBe(0);
  }, 120_000);
});
