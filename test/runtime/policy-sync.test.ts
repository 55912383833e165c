/** The policy on its way between gateway, image and sandbox. */
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ensureBuilt } from '../../scripts/lib/build.ts';
import { runSandbox } from '../../scripts/lib/sandbox.ts';
import { startWorld, type World } from '../../scripts/lib/world.ts';
import { missing } from './requirements.ts';

const why = missing('runc');
const directory = mkdtempSync(join(tmpdir(), 'policy-sync-'));
chmodSync(directory, 0o755);
afterAll(() => rmSync(directory, { recursive: true }));
const IMAGE_POLICY = join(directory, 'policy.yaml');
writeFileSync(
  IMAGE_POLICY,
  `version: 1
filesystem_policy:
  include_workdir: true
  read_only: [/usr, /bin, /sbin, /lib, /lib64, /etc, /proc]
  read_write: [/tmp, /dev/null]
network_policies:
  api:
    endpoints: [{ host: api.allowed.test, port: 80 }]
    binaries: [{ path: /usr/bin/curl }]
  _provider_mine:
    endpoints: [{ host: other.test, port: 80 }]
    binaries: [{ path: /usr/bin/curl }]
`,
  { mode: 0o644 },
);
const ask = (host: string) => `curl -s -m 5 -o /dev/null -w "%{http_code}\\n" http://${host}/`;

describe.skipIf(why !== undefined)(
  `a gateway without a policy for the sandbox${why === undefined ? '' : ` (skipped: ${why})`}`,
  () => {
    let world: World;
    beforeAll(async () => {
      await ensureBuilt();
      world = await startWorld();
    }, 240_000);
    afterAll(() => world?.stop());

    test('is told the image’s, without the rules that are the gateway’s own to make, and has it from then on', async () => {
      const options = {
        gateway: world.gatewayUrl,
        command: ['/bin/sh', '-c', `${ask('api.allowed.test')}; ${ask('other.test')}`],
      };
      const first = await runSandbox({
        ...options,
        network: await world.network(),
        // Its directory: a runtime would make the file itself in the root file system that all tests share.
        binds: [{ source: directory, destination: '/etc/openshell' }],
      });
      expect(first).toMatchObject({ code: 0, stdout: '200\n403\n' });
      // The next one has no such file, and the same policy.
      expect(await runSandbox({ ...options, network: await world.network() })).toMatchObject({
        code: 0,
        stdout: '200\n403\n',
      });
      expect(await world.control('GET', '/policy-reports')).toMatchObject([
        { version: 1, status: 'loaded' },
        { version: 1, status: 'loaded' },
      ]);
    }, 120_000);

    test('and an image without one leave the restrictive default, which is told as well', async () => {
      const alone = await startWorld();
      try {
        const { code, stdout } = await runSandbox({
          gateway: alone.gatewayUrl,
          network: await alone.network(),
          flags: ['--log-level', 'warn'],
          command: ['/bin/sh', '-c', `${ask('api.allowed.test')}; touch /tmp/own && echo written`],
        });
        expect(code).toBe(0);
        const [told, ...said] = stdout.trimEnd().split('\n');
        expect(told).toContain('the restrictive default holds, without any network');
        expect(said).toEqual(['403', 'written']);
        expect(await alone.control('GET', '/policy-reports')).toMatchObject([
          { version: 1, status: 'loaded' },
        ]);
      } finally {
        await alone.stop();
      }
    }, 120_000);
  },
);
