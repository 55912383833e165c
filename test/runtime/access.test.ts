import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { ensureBuilt } from '../../scripts/lib/build.ts';
import { type RunningSandbox, startSandbox } from '../../scripts/lib/sandbox.ts';
import { startWorld } from '../../scripts/lib/world.ts';
import { sshOptions } from '../dev-gateway/client/openssh.ts';
import { describeUnless } from './describe-unless.ts';
import { client, established, GATEWAY, runIn, startIn } from './gateway-side.ts';
import { missing } from './requirements.ts';
import { sandboxPolicy } from './sandbox-policy.ts';
import { sharedWorld } from './world-fixture.ts';

const POLICY = sandboxPolicy();
/** Answers what it is sent, on a port of the sandbox's own loopback. */
const ECHO = `import socket
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.bind(("127.0.0.1", 7777)); s.listen()
print("listening", flush=True)
while True:
    c, _ = s.accept()
    while True:
        d = c.recv(65536)
        if not d: break
        c.sendall(d)
    c.close()
`;

/** Looks for sockets with names, for open doors in other processes, and for terminals of others. */
const INTRUDER = `import glob, json, os, time
time.sleep(1)
named = []
try:
    lines = open("/proc/net/unix").read().splitlines()[1:]
    named = [line.split()[7] for line in lines if len(line.split()) > 7]
except OSError: pass
read = []
for path in glob.glob("/proc/[0-9]*"):
    try: words = open(path + "/cmdline").read()
    except OSError: continue
    if "openshell" not in words or " exec" in words: continue
    for part in ("mem", "environ", "maps"):
        try:
            if open(path + "/" + part, "rb").read(1) and "anchor" not in words: read.append(words + part)
        except (OSError, ValueError): pass
    try: read += [words + fd for fd in os.listdir(path + "/fd")]
    except OSError: pass
def terminal(path):
    try: os.close(os.open(path, os.O_RDWR | os.O_NOCTTY)); return "opened"
    except OSError as error: return type(error).__name__
terminals = sorted({terminal("/dev/pts/%d" % n) for n in range(10)} - {"FileNotFoundError"})
print(json.dumps({"named": named, "read": read, "terminals": terminals}))
`;

const PLACES = [
  { name: 'runc', runtime: 'runc' },
  { name: 'gVisor', runtime: 'runsc' },
] as const;

for (const { name, runtime } of PLACES) {
  const why = missing(runtime);
  describeUnless(why, `a sandbox under ${name}`, () => {
    const world = sharedWorld();
    let sandbox: RunningSandbox;

    beforeAll(async () => {
      await world().control('POST', '/policy', POLICY);
      sandbox = await startSandbox({
        runtime,
        gateway: world().gatewayUrl,
        network: await world().network(),
        command: ['/usr/bin/python3', '-c', ECHO],
      });
      await established(world());
      await vi.waitFor(() => expect(sandbox.printed().stdout).toContain('listening'), {
        timeout: 60_000,
        interval: 100,
      });
    }, 240_000);
    afterAll(() => sandbox?.stop());

    const outside = (command: readonly string[], input?: Buffer) => runIn(world(), command, input);
    const gateway = (words: readonly string[], command: readonly string[] = [], input?: Buffer) => {
      const [verb = '', ...rest] = words;
      return outside(client(sandbox.sandboxId, verb, rest, command), input);
    };
    const place = () => ({ gateway: GATEWAY, sandbox: sandbox.sandboxId });

    test('runs a command with its streams and its exit code', async () => {
      const { code, stdout, stderr } = await gateway(
        ['exec', '-e', 'A=b c', '-w', '/tmp'],
        ['sh', '-c', 'echo "$A" "$PWD" "$OPENSHELL_SANDBOX"; cat; echo bad >&2; exit 7'],
        Buffer.from('given\n'),
      );
      expect([code, stdout.toString(), stderr]).toEqual([7, 'b c /tmp 1\ngiven\n', 'bad\n']);
    }, 60_000);

    test('carries ten megabytes both ways, byte for byte', async () => {
      const sent = randomBytes(10 << 20);
      const { code, stdout } = await gateway(['exec'], ['cat'], sent);
      expect(code).toBe(0);
      expect(stdout.equals(sent)).toBe(true);
    }, 120_000);

    test('runs a command as long as the kernel lets it be, and says so of a longer one', async () => {
      // The gateway takes words of 32 KiB, and makes one command of them.
      const words = (count: number) => Array.from({ length: count }, () => 'x'.repeat(30_000));
      const long = await gateway(['exec'], ['sh', '-c', 'echo $#', 'sh', ...words(4)]);
      expect([long.code, long.stdout.toString(), long.stderr]).toEqual([0, '4\n', '']);
      const longer = await gateway(['exec'], ['sh', '-c', 'echo $#', 'sh', ...words(8)]);
      expect([longer.code, longer.stdout.toString()]).toEqual([126, '']);
      expect(longer.stderr).toMatch(/cannot be executed: (E2BIG|ENAMETOOLONG)/);
    }, 60_000);

    test('ends a command that takes too long', async () => {
      const { code } = await gateway(['exec', '--timeout', '1'], ['sleep', '60']);
      expect(code).toBe(124);
    }, 60_000);

    test('confines what is run like the main process', async () => {
      const { stdout } = await gateway(
        ['exec'],
        [
          'sh',
          '-c',
          'touch /usr/evil 2>&1; kill -9 1 2>&1; grep NoNewPrivs /proc/self/status; curl -s -m 3 http://203.0.113.10',
        ],
      );
      const text = stdout.toString();
      // gVisor does not tell of it.
      if (runtime === 'runc') expect(text).toMatch(/NoNewPrivs:\s+1/);
      expect(text).toContain('policy_denied');
      expect(text.toLowerCase()).toMatch(/read-only|permission denied|not permitted/);
    }, 60_000);

    test('ends what an earlier session has left running, and nothing of the sandbox’s own', async () => {
      const shell = async (script: string): Promise<string> =>
        (await gateway(['exec'], ['sh', '-c', script])).stdout.toString();
      const left = Number(await shell('nohup sleep 600 >/dev/null 2>&1 & echo $!'));
      expect(left).toBeGreaterThan(1);
      const touched = await shell(
        `kill ${left} && echo ended; for pid in 1 $PPID; do kill -0 $pid && echo reached $pid; done; kill -9 -1`,
      );
      expect(touched).toBe('ended\n');
      await vi.waitFor(async () => expect(await shell(`test -e /proc/${left} || echo gone`)).toBe('gone\n'), {
        timeout: 20_000,
        interval: 100,
      });
      // Its terminal is held by a process of ours, which others may not touch either.
      const script = 'echo begun; read end; echo said $end';
      const terminal = startIn(world(), client(sandbox.sandboxId, 'exec', ['--tty'], ['sh', '-c', script]));
      await terminal.shows('begun');
      const holders = await shell(
        'for dir in /proc/[0-9]*; do pid=$' +
          '{dir#/proc/}; grep -q pty $dir/cmdline 2>/dev/null && ! grep -q grep $dir/cmdline && ' +
          'kill -0 $pid 2>/dev/null && echo reached $pid; done; true',
      );
      expect(holders).not.toContain('reached');
      terminal.child.stdin.write('it\r');
      await terminal.shows('said it');
    }, 120_000);

    test('has a terminal', async () => {
      const { code, stdout } = await gateway(
        ['exec', '--tty'],
        ['sh', '-c', 'test -t 0 && stty size && tty; curl -s -m 5 http://203.0.113.10'],
      );
      expect([code, stdout.toString().replaceAll('\r', '')]).toEqual([
        0,
        // Who holds a terminal hides none of the callers.
        expect.stringMatching(/^24 80\n\/dev\/pts\/\d+\n.*the policy has no network rule/),
      ]);
    }, 60_000);

    test('leads to its ports, and never to the supervisor’s', async () => {
      const through = (port: number) =>
        outside(
          ['ssh', ...sshOptions(place()), '-W', `127.0.0.1:${port}`, 'sandbox'],
          Buffer.from('ping through the session'),
        );
      expect((await through(7777)).stdout.toString()).toBe('ping through the session');
      const proxy = await through(3128);
      expect(proxy.stdout.length).toBe(0);
      expect(proxy.code).not.toBe(0);
    }, 60_000);

    // The gVisor of Debian 12 shows the processes of one user id to each other, and confines no files (test/escape).
    test.skipIf(runtime === 'runsc')(
      'has no way in that its workload could take itself',
      async () => {
        const shell = gateway(['exec', '--tty'], ['sleep', '8']);
        const { stdout, stderr } = await gateway(['exec'], ['python3', '-c', INTRUDER]);
        const found = JSON.parse(stdout.toString() || JSON.stringify(stderr)) as Record<string, unknown>;
        expect(found).toEqual({
          // Nothing to connect to by a name; and no descriptor or memory of ours, the holder of a terminal's among them.
          named: [],
          read: [],
          terminals: ['PermissionError'],
        });
        expect((await shell).code).toBe(0);
      },
      60_000,
    );

    test('is reached by OpenSSH', async () => {
      const { code, stdout, stderr } = await outside([
        ...['ssh', ...sshOptions(place()), 'sandbox', 'echo "$0"; exit 3'],
      ]);
      expect([code, stdout.toString(), stderr]).toEqual([3, expect.stringMatching(/(ba)?sh/), '']);
    }, 60_000);

    test('serves many at once, and keeps nothing of them', async () => {
      const all = await Promise.all(
        Array.from({ length: 8 }, (_, n) => gateway(['exec'], ['sh', '-c', `sleep 0.2; echo ${n}`])),
      );
      expect(all.map(({ stdout, stderr }) => `${stdout}${stderr}`)).toEqual(all.map((_, n) => `${n}\n`));
      const count = async (): Promise<string> => {
        const { stdout, stderr } = await gateway(['exec'], ['sh', '-c', 'ls /proc | grep -c "^[0-9]*$"']);
        return `${stdout}${stderr}`.trim();
      };
      // Debian's gVisor cannot always list /proc.
      if (runtime === 'runc')
        await expect.poll(count, { timeout: 30_000, interval: 1_000 }).toMatch(/^\d{1,2}$/);
      const logs = await gateway(['logs', '--tail', '2000', '--since', '1h']);
      expect([logs.code, logs.stdout.toString()]).toEqual([
        0,
        expect.stringMatching(/^\d{4}-\d\d-\d\dT.*Z OCSF .*SSH:OPEN/m),
      ]);
    }, 120_000);
  });
}

const noRunc = missing('runc');
describe.skipIf(noRunc !== undefined)('a main process', () => {
  test.each([
    ['with a terminal', true, 'test -t 0 && echo begins; read line; echo "heard $line"; exit 9'],
    [
      'without a terminal',
      false,
      'test -t 0 || echo begins > /dev/stdout; read line; echo "heard $line"; echo bad > /dev/stderr; exit 9',
    ],
  ])(
    '%s is attached to, replays what it printed, takes what is typed, and tells its exit code',
    async (_, tty, script) => {
      await ensureBuilt();
      const world = await startWorld();
      await world.control('POST', '/policy', POLICY);
      const sandbox = await startSandbox({
        gateway: world.gatewayUrl,
        network: await world.network(),
        env: {
          OPENSHELL_MAIN_PROCESS_SPEC: JSON.stringify({
            version: 1,
            command: ['/bin/sh', '-c', script],
            tty,
          }),
        },
        // `runc run` makes an ended pipe of no input; what Kubernetes and Podman use gives /dev/null or nothing.
        stdin: 'pipe',
        command: [],
      });
      try {
        await established(world);
        await vi.waitFor(() => expect(sandbox.printed().stdout).toContain('begins'), {
          timeout: 60_000,
          interval: 100,
        });
        const place = { gateway: GATEWAY, sandbox: sandbox.sandboxId };
        const attach = () =>
          startIn(world, ['ssh', ...sshOptions(place), '-T', '-s', 'sandbox', 'openshell-main']);
        const first = attach();
        await vi.waitFor(
          () => expect(first.seen).toMatchObject({ stdout: expect.stringContaining('begins') }),
          {
            timeout: 20_000,
            interval: 50,
          },
        );
        const second = attach();
        await vi.waitFor(() => expect(second.seen.stderr).toContain('you only watch'), {
          timeout: 20_000,
          interval: 50,
        });
        // Ctrl-P Ctrl-Q: the first leaves, and the process goes on.
        first.child.stdin.write('\x10\x11');
        expect(await first.closed).toBe(0);
        const third = attach();
        await vi.waitFor(() => expect(third.seen.stdout).toContain('begins'), {
          timeout: 20_000,
          interval: 50,
        });
        third.child.stdin.write('hello\n');
        expect(await Promise.all([second.closed, third.closed])).toEqual([9, 9]);
        for (const { seen } of [second, third]) expect(seen.stdout).toContain('heard hello');
        if (!tty) expect(third.seen.stderr).toBe('bad\n');
        expect((await sandbox.ended).code).toBe(9);
        expect(sandbox.printed().stdout).toContain('heard hello');
      } finally {
        await sandbox.stop();
        await world.stop();
      }
    },
    180_000,
  );
});
