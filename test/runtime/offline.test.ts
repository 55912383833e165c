/** What a sandbox does while its gateway is away: it goes on, is fenced in after the grace, and starts again. */
import { chownSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeEach, expect, test } from 'vitest';
import { type RunningSandbox, runSandbox, startSandbox } from '../../scripts/lib/sandbox.ts';
import { describeUnless } from './describe-unless.ts';
import { missing } from './requirements.ts';
import { CURL_TO_API, sandboxPolicy } from './sandbox-policy.ts';
import { sharedWorld } from './world-fixture.ts';

const why = missing('runc');
const volume = mkdtempSync(join(tmpdir(), 'offline-volume-'));
chownSync(volume, 1000, 1000);
afterAll(() => rmSync(volume, { recursive: true }));
const POLICY = sandboxPolicy(CURL_TO_API);
const ASK = 'curl -s -m 5 -o /tmp/answer -w "%{http_code}\\n" http://api.allowed.test/';

describeUnless(why, 'a gateway that is away', () => {
  const world = sharedWorld();
  beforeEach(() => world().control('POST', '/accept'));

  const restart = async (sandboxId: string, script = ASK) =>
    runSandbox({
      gateway: world().gatewayUrl,
      sandboxId,
      binds: [{ source: volume, destination: '/var/lib/openshell', writable: true }],
      network: await world().network(),
      command: ['/bin/sh', '-c', script],
    });
  const says = (sandbox: RunningSandbox, text: RegExp) =>
    expect.poll(() => sandbox.printed().stdout, { timeout: 30_000 }).toMatch(text);

  test('does not keep a sandbox from starting that has had a policy: the same one holds', async () => {
    await world().control('POST', '/policy', POLICY);
    const id = '0d4c9b5e-6f39-4a63-9a0e-2b1b6fb0a1d2';
    expect(await restart(id)).toMatchObject({ code: 0, stdout: '200\n' });
    const kept = join(volume, 'state/last-good-config');
    expect(statSync(kept).mode & 0o777).toBe(0o600);
    await world().control('POST', '/refuse');
    // The workload sees neither the file nor its directory.
    const look = `cat ${kept.replace(volume, '/var/lib/openshell')}; ls /var/lib/openshell/state`;
    const again = await restart(
      id,
      `${ASK}; curl -s -m 5 http://other.allowed.test/ -o /dev/null -w "%{http_code}\\n"; ${look}; exit 3`,
    );
    expect(again.code).toBe(3);
    expect(again.stdout.split('\n').filter((line) => line !== '' && !line.startsWith('{'))).toEqual([
      '200',
      '403',
    ]);
    // Another sandbox has no part in it, nor has one whose file is damaged.
    const other = await restart('0d4c9b5e-6f39-4a63-9a0e-2b1b6fb0a1d3');
    expect(other.code).toBe(69);
    expect(other.stderr.trim()).toMatch(/the kept one cannot be used: its checksum is wrong$/);
    const whole = readFileSync(kept);
    writeFileSync(kept, Buffer.concat([whole.subarray(0, -1), Buffer.from([0])]));
    expect((await restart(id)).code).toBe(69);
  }, 240_000);

  test('leaves no policy behind that the workload could have written', async () => {
    await world().control('POST', '/policy', sandboxPolicy(CURL_TO_API, { readWrite: ['/var'] }));
    const id = '0d4c9b5e-6f39-4a63-9a0e-2b1b6fb0a1d4';
    expect(await restart(id, 'true')).toMatchObject({ code: 0 });
    await world().control('POST', '/refuse');
    const again = await restart(id);
    expect(again.code).toBe(69);
  }, 240_000);

  test('for longer than the grace closes egress, the workload lives, and its return opens it again', async () => {
    await world().control('POST', '/policy', POLICY);
    const sandbox = await startSandbox({
      gateway: world().gatewayUrl,
      network: await world().network(),
      flags: ['--offline-grace', '4'],
      command: ['/bin/sh', '-c', `while :; do ${ASK}; cat /tmp/answer; sleep 0.3; done`],
    });
    try {
      await says(sandbox, /^200$/m);
      await world().control('POST', '/refuse');
      await says(
        sandbox,
        /^403\n.*the gateway has been away for 0\.0 h, longer than --offline-grace allows/m,
      );
      const before = sandbox.printed().stdout.length;
      await world().control('POST', '/accept');
      await expect.poll(() => sandbox.printed().stdout.slice(before), { timeout: 60_000 }).toMatch(/^200$/m);
    } finally {
      await sandbox.stop();
    }
  }, 120_000);

  test('for longer than the grace ends the sandbox politely where that is wanted, and says so', async () => {
    await world().control('POST', '/policy', POLICY);
    const sandbox = await startSandbox({
      gateway: world().gatewayUrl,
      network: await world().network(),
      flags: ['--offline-grace', '2', '--on-offline-expiry', 'stop', '--termination-grace', '4'],
      command: ['/bin/sh', '-c', 'trap "echo bye; exit 5" TERM; echo up; while :; do sleep 0.1; done'],
    });
    await says(sandbox, /^up$/m);
    await world().control('POST', '/refuse');
    const ended = await sandbox.ended;
    expect(ended.code).toBe(5);
    expect(ended.stdout).toMatch(/^bye$/m);
    expect(ended.stderr).toMatch(/away for longer than --offline-grace, and --on-offline-expiry is stop/);
  }, 120_000);
});

describeUnless(why, 'the end', () => {
  test('is hurried by a second signal, whatever the workload does with the first', async () => {
    const file = join(volume, 'policy.yaml');
    writeFileSync(file, POLICY, { mode: 0o644 });
    const sandbox = await startSandbox({
      policy: file,
      command: ['/bin/sh', '-c', 'trap "echo no" TERM; echo up; while :; do sleep 0.1; done'],
      flags: ['--termination-grace', '600'],
    });
    await expect.poll(() => sandbox.printed().stdout, { timeout: 15_000 }).toContain('up');
    sandbox.signal('SIGTERM');
    await expect.poll(() => sandbox.printed().stdout, { timeout: 15_000 }).toContain('no');
    sandbox.signal('SIGTERM');
    expect(await sandbox.ended).toMatchObject({ code: 137 });
  }, 60_000);
});
