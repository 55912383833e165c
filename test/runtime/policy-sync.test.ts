/** The policy on its way between gateway, image and sandbox. */
import { expect, test } from 'vitest';
import { runSandbox } from '../../scripts/lib/sandbox.ts';
import { startWorld } from '../../scripts/lib/world.ts';
import { temporaryDirectory } from '../temporary-directory.ts';
import { describeUnless } from './describe-unless.ts';
import { missing } from './requirements.ts';
import { sharedWorld } from './world-fixture.ts';

const why = missing('runc');
const { directory, file } = temporaryDirectory('policy-sync-');
file(
  'policy.yaml',
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
);
const ask = (host: string) => `curl -s -m 5 -o /dev/null -w "%{http_code}\\n" http://${host}/`;

describeUnless(why, 'a gateway without a policy for the sandbox', () => {
  const world = sharedWorld();

  test('is told the image’s, without the rules that are the gateway’s own to make, and has it from then on', async () => {
    const options = {
      gateway: world().gatewayUrl,
      command: ['/bin/sh', '-c', `${ask('api.allowed.test')}; ${ask('other.test')}`],
    };
    const first = await runSandbox({
      ...options,
      network: await world().network(),
      // Its directory: a runtime would make the file itself in the root file system that all tests share.
      binds: [{ source: directory, destination: '/etc/openshell' }],
    });
    expect(first).toMatchObject({ code: 0, stdout: '200\n403\n' });
    // The next one has no such file, and the same policy.
    expect(await runSandbox({ ...options, network: await world().network() })).toMatchObject({
      code: 0,
      stdout: '200\n403\n',
    });
    expect(await world().control('GET', '/policy-reports')).toMatchObject([
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
      expect(await alone.control('GET', '/policy-reports')).toMatchObject([{ version: 1, status: 'loaded' }]);
    } finally {
      await alone.stop();
    }
  }, 120_000);
});
