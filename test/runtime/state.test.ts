/** A supervisor whose gateway is away at its end leaves what it had to say on its volume; the next one delivers it. */
import { chownSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { runSandbox } from '../../scripts/lib/sandbox.ts';
import { describeUnless } from './describe-unless.ts';
import { missing } from './requirements.ts';
import { sharedWorld } from './world-fixture.ts';

const why = missing('runc');
const volume = mkdtempSync(join(tmpdir(), 'state-volume-'));
chownSync(volume, 1000, 1000);
afterAll(() => rmSync(volume, { recursive: true }));
const policy = join(volume, 'policy.yaml');
writeFileSync(
  policy,
  `version: 1
filesystem_policy:
  include_workdir: true
  read_only: [/usr, /bin, /sbin, /lib, /lib64, /etc, /proc]
  read_write: [/tmp, /dev/null]
network_policies: {}
`,
  { mode: 0o644 },
);

describeUnless(why, 'state on a volume', () => {
  const world = sharedWorld();

  test('outlives a supervisor whose gateway was away, is hidden from the workload, and is delivered by the next', async () => {
    const options = {
      gateway: world().gatewayUrl,
      sandboxId: '7c9e6679-7425-40de-944b-e07fc1f90ae7',
      policy,
      binds: [{ source: volume, destination: '/var/lib/openshell', writable: true }],
    } as const;
    const look =
      'cat /var/lib/openshell/state/records.db; ls /var/lib/openshell/state; touch /var/lib/openshell/state/x';
    await world().control('POST', '/refuse');
    const first = await runSandbox({
      ...options,
      network: await world().network(),
      command: ['/bin/sh', '-c', `${look}; exit 7`],
    });
    expect(first.code).toBe(7);
    expect(first.stdout).not.toContain('SQLite');
    expect(first.stdout).not.toContain('records.db');
    const state = join(volume, 'state');
    expect(readdirSync(state)).toContain('records.db');
    expect(readdirSync(state)).not.toContain('x');
    expect(statSync(state).mode & 0o777).toBe(0o700);
    await world().control('POST', '/accept');
    const second = await runSandbox({ ...options, network: await world().network(), command: ['/bin/true'] });
    expect(second.code).toBe(0);
    await expect
      .poll(() => world().control('GET', '/exits'), { timeout: 20_000 })
      .toMatchObject([{ exitCode: 7, accepted: false }, { exitCode: 0 }]);
    const logs = (await world().control('GET', '/logs')) as readonly {
      readonly message: string;
      readonly fields: Readonly<Record<string, string>>;
    }[];
    const boots = new Set(logs.map(({ fields }) => fields['openshell.boot']));
    expect(boots.size).toBe(2);
    expect(logs.some(({ message }) => message.includes('exit:7'))).toBe(true);
  }, 180_000);
});
