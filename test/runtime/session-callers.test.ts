/** What starts a session hides itself, and a process that hides could share a caller's socket: ours must not count. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { expect, test, vi } from 'vitest';
import { startSandbox } from '../../scripts/lib/sandbox.ts';
import { startWorld } from '../../scripts/lib/world.ts';
import { sshOptions } from '../dev-gateway/client/openssh.ts';
import { describeUnless } from './describe-unless.ts';
import { client, established, GATEWAY, inNetworkOf, runIn } from './gateway-side.ts';
import { PLACES } from './places.ts';
import { missing } from './requirements.ts';
import { CURL_TO_API, sandboxPolicy } from './sandbox-policy.ts';

const POLICY = sandboxPolicy(CURL_TO_API);
/** A code a line, for every request. */
const CALLER = `while :; do curl -s -o /dev/null -w '%{http_code}\\n' http://api.allowed.test/; done`;
const CHOSEN = ['runc, restricted', 'runc as root with default capabilities', 'runc without seccomp'];
const why = missing('runc', 'sftp');

describeUnless(why, 'a caller', () => {
  test.each(PLACES.filter(({ name }) => CHOSEN.includes(name)))(
    'is identified while sessions start and a file server waits: $name',
    async (place) => {
      const world = await startWorld();
      try {
        await world.control('POST', '/policy', POLICY);
        const sandbox = await startSandbox({
          gateway: world.gatewayUrl,
          network: await world.network(),
          command: ['/bin/sh', '-c', CALLER],
          ...place.options,
        });
        const codes = () => sandbox.printed().stdout.match(/^\d{3}$/gm) ?? [];
        await vi.waitFor(() => expect(codes().length).toBeGreaterThan(3), { timeout: 60_000, interval: 100 });
        await established(world);
        // It is there for as long as nobody tells it anything.
        const [enter, ...words] = inNetworkOf(world);
        const options = sshOptions({ gateway: GATEWAY, sandbox: sandbox.sandboxId });
        const files = spawn(enter, [...words, 'sftp', ...options, 'sandbox']);
        let greeted = '';
        files.stdout.on('data', (chunk) => (greeted += chunk));
        files.stderr.on('data', (chunk) => (greeted += chunk));
        await vi.waitFor(() => expect(greeted).toContain('Connected'), { timeout: 20_000 });
        const before = codes().length;
        for (let times = 0; times < 6; times++)
          for (const flags of [[], ['-t']])
            expect((await runIn(world, client(sandbox.sandboxId, 'exec', flags, ['/bin/true']))).code).toBe(
              0,
            );
        const after = codes();
        expect(after.length - before).toBeGreaterThan(20);
        expect(new Set(after)).toEqual(new Set(['200']));
        const ended = once(files, 'close');
        files.kill();
        await ended;
        await sandbox.stop();
      } finally {
        await world.stop();
      }
    },
    180_000,
  );
});
