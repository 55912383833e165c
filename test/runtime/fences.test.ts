import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { type RunningSandbox, runSandbox, startSandbox } from '../../scripts/lib/sandbox.ts';
import { ADDRESS } from '../../scripts/lib/world.ts';
import { temporaryDirectory } from '../temporary-directory.ts';
import { describeUnless } from './describe-unless.ts';
import { commandsOf, isSeenFromOutside, PLACES, type Place } from './places.ts';
import { missing } from './requirements.ts';
import { CURL_TO_API, sandboxPolicy } from './sandbox-policy.ts';
import { sharedWorld } from './world-fixture.ts';

const { file } = temporaryDirectory('fences-test-');
const POLICY = file('policy.yaml', sandboxPolicy(`landlock: { compatibility: best_effort }\n${CURL_TO_API}`));
const world = sharedWorld({ gateway: false });

/** One line of facts a command, as the workload sees them. */
const FACTS = `
echo "uid=$(id -u)"
echo "capabilities=$(grep -h ^Cap /proc/self/status | cut -f2 | sort -u | tr '\\n' ' ')"
echo "nameserver=$(grep nameserver /etc/resolv.conf)"
echo "allowed=$(curl -sS -m 10 http://api.allowed.test/ 2>&1 | head -c 18)"
echo "denied=$(curl -s -m 10 -o /dev/null -w '%{http_code}' http://other.test/)"
curl -s -m 2 --noproxy '*' http://${ADDRESS.other}/direct; echo "direct=$?"
python3 -c 'import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.sendto(b"leak", ("${ADDRESS.other}", 9999))' 2>/dev/null; echo "udp=$?"
kill -9 1 2>/dev/null; echo "kill=$?"
echo "init=$(tr '\\0' ' ' < /proc/1/cmdline | cut -d' ' -f2)"
cat /proc/1/environ >/dev/null 2>&1; echo "environ=$?"
touch /usr/touched /etc/touched 2>/dev/null; echo "write=$?"
echo x > /sandbox/x; echo "workspace=$?"
`;

async function factsOf(place: Place) {
  const network = await world().network();
  const result = await runSandbox({
    policy: POLICY,
    network,
    command: ['/bin/sh', '-c', FACTS],
    ...place.options,
  });
  const facts = Object.fromEntries(
    result.stdout
      .split('\n')
      .filter((line) => line.includes('='))
      .map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]),
  );
  return { result, facts, address: network.address };
}

for (const place of PLACES) {
  const why = missing(...commandsOf(place));
  // A virtual machine may have to be emulated, and boots for each test.
  const timeout = place.options.runtime === 'vm' ? 180_000 : 60_000;
  describeUnless(why, place.name, { timeout }, () => {
    test('confines the workload, and lets it out by the policy alone', async () => {
      const before = world().records().length;
      const { result, facts, address } = await factsOf(place);
      expect(result).toMatchObject({ code: 0, stderr: '' });
      expect(facts).toMatchObject({
        uid: '1000',
        capabilities: '0000000000000000 ',
        nameserver: place.mounts ? 'nameserver 127.0.0.1' : `nameserver ${ADDRESS.dns}`,
        allowed: '{"protocol":"http"',
        denied: '403',
        kill: '1',
        write: '1',
        workspace: '0',
      });
      expect(facts['direct']).not.toBe('0');
      // In a namespace of its own a datagram has nowhere to go; in the socket fence there is no socket for it.
      expect(facts['udp']).toBe('1');
      // Under gVisor without mounts the workload may read what init was started with, never the supervisor's secrets.
      if (place.options.runtime !== 'runsc') expect(facts['environ']).toBe('1');
      const seen = world()
        .records()
        .slice(before)
        .filter((record) => JSON.stringify(record).includes(address))
        .map((record) => JSON.stringify(record));
      expect(seen.filter((record) => record.includes('api.allowed.test')).length).toBeGreaterThan(0);
      expect(seen.filter((record) => /direct|leak|9999/.test(record))).toEqual([]);
    });

    test('says which fence it uses, and on what', async () => {
      const { stdout, code } = await runSandbox({
        command: [],
        network: await world().network(),
        flags: ['doctor', '--json'],
        ...place.options,
      });
      const report = JSON.parse(stdout) as {
        readonly fence: string;
        readonly statement: readonly { readonly aspect: string; readonly level: string }[];
      };
      expect([code, report.fence]).toEqual([0, place.fence]);
      const level = (aspect: string) => report.statement.find((line) => line.aspect === aspect)?.level;
      expect({
        processes: level('processes'),
        loopback: level('loopback'),
        network: level('network'),
      }).toEqual({
        processes: place.pids ? 'full' : 'none',
        loopback: place.fence === 'namespace' ? 'full' : 'none',
        network: 'full',
      });
    });

    test.each([
      ['exit 7', 7],
      ['kill -KILL $$', 137],
      ['kill -TERM $$', 143],
    ])('ends as its main process does: %s', async (script, code) => {
      expect(
        await runSandbox({ policy: POLICY, command: ['/bin/sh', '-c', script], ...place.options }),
      ).toMatchObject({ code });
    });

    test('passes input, output and signals through', async () => {
      const sandbox = await startSandbox({
        policy: POLICY,
        command: [
          '/bin/sh',
          '-c',
          'trap "echo bye; exit 3" TERM; cat; echo err >&2; while :; do sleep 0.1; done',
        ],
        stdin: 'pipe',
        flags: ['--log-level', 'error'],
        ...place.options,
      });
      sandbox.child.stdin?.end('a\u0000b\r\n\u00e9\n');
      await expect.poll(() => sandbox.printed().stderr, { timeout: timeout * 0.7 }).toContain('err');
      sandbox.signal('SIGTERM');
      // The shell may say that the signal ended its sleep as well.
      expect(await sandbox.ended).toEqual({
        code: 3,
        stdout: 'a\u0000b\r\n\u00e9\nbye\n',
        stderr: expect.stringMatching(/^err\n(Terminated\n)?$/),
      });
    });

    // The processes of gVisor and of a virtual machine cannot be killed one by one from outside.
    test.skipIf(!isSeenFromOutside(place))(
      'ends when its supervisor is killed, with nobody left',
      async () => {
        const network = await world().network();
        const sandbox = await startSandbox({
          policy: POLICY,
          network,
          command: ['/bin/sh', '-c', 'echo up; while :; do sleep 0.1; done'],
          ...place.options,
        });
        await expect.poll(() => sandbox.printed().stdout, { timeout: timeout * 0.7 }).toContain('up');
        const { supervisor, all } = await processesOf(sandbox);
        process.kill(supervisor, 'SIGKILL');
        const { code, stderr } = await sandbox.ended;
        expect([code, stderr]).toEqual([
          122,
          expect.stringMatching(
            /^openshell-sandbox: the supervisor was killed by signal 9, so the sandbox ends.*\n$/,
          ),
        ]);
        expect(all.filter(isAlive)).toEqual([]);
      },
    );

    test.skipIf(!isSeenFromOutside(place) || place.fence === 'socket')(
      'ends when its anchor is killed',
      async () => {
        const sandbox = await startSandbox({
          policy: POLICY,
          command: ['/bin/sh', '-c', 'echo up; while :; do sleep 0.1; done'],
          ...place.options,
        });
        await expect.poll(() => sandbox.printed().stdout, { timeout: timeout * 0.7 }).toContain('up');
        const { anchor, all } = await processesOf(sandbox);
        process.kill(anchor, 'SIGKILL');
        const { code, stderr } = await sandbox.ended;
        expect([code, stderr]).toEqual([
          122,
          expect.stringContaining('the anchor of the namespace fence was killed'),
        ]);
        expect(all.filter(isAlive)).toEqual([]);
      },
    );
  });
}

function children(pid: number): readonly number[] {
  const text = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim();
  return text === '' ? [] : text.split(' ').map(Number);
}

/** The sandbox's processes, as this machine counts them. */
async function processesOf(sandbox: RunningSandbox) {
  const init = (await sandbox.pid()) ?? 0;
  const [supervisor = 0] = children(init);
  const tree = (pid: number): readonly number[] => [pid, ...children(pid).flatMap(tree)];
  const anchor =
    children(supervisor).find((pid) => readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes('\0anchor')) ??
    0;
  return { supervisor, anchor, all: tree(init) };
}

function isAlive(pid: number): boolean {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'latin1'));
  } catch {
    return false;
  }
}
