import { beforeAll, expect, test } from 'vitest';
import { ensureRootfs } from '../../scripts/lib/rootfs.ts';
import { runSandbox, startSandbox } from '../../scripts/lib/sandbox.ts';
import { temporaryDirectory } from '../temporary-directory.ts';
import { describeUnless } from './describe-unless.ts';
import { missing } from './requirements.ts';
import { sandboxPolicy } from './sandbox-policy.ts';
import { sharedWorld } from './world-fixture.ts';

const why = missing('runc');
const POLICY = temporaryDirectory('health-test-').file('policy.yaml', sandboxPolicy());

describeUnless(why, 'doctor', () => {
  test('tells an operator what it enforces and whether the gateway answers', async () => {
    const report = await runSandbox({
      command: [],
      flags: ['doctor', '--json'],
      policy: POLICY,
      entrypoint: ['/opt/openshell/bin/openshell-sandbox', 'doctor', '--json'],
    });
    // doctor is a word, not a flag: it stands first.
    expect(JSON.parse(report.stdout)).toMatchObject({
      startable: true,
      fence: 'socket',
      gateway: { configured: false },
      statement: expect.arrayContaining([expect.objectContaining({ aspect: 'network', level: 'full' })]),
    });
    expect(report.code).toBe(0);
  });
});

describeUnless(why, 'health', () => {
  const world = sharedWorld();
  beforeAll(() => ensureRootfs('debian'));

  test('turns ready when the workload runs and the session stands, and not before', async () => {
    await world().control('POST', '/policy', sandboxPolicy());
    const network = await world().network();
    const sandbox = await startSandbox({
      command: ['/bin/sh', '-c', 'sleep 60'],
      gateway: world().gatewayUrl,
      network,
      flags: ['--health-check', '--health-port', '9090'],
    });
    const get = async (path: string) =>
      (await network.exec(['curl', '-s', '-m', '2', '-w', '\n%{http_code}', `http://127.0.0.1:9090${path}`]))
        .stdout;
    await expect
      .poll(() => get('/readyz'), { timeout: 15_000, interval: 200 })
      .toBe('{"ready":true,"reasons":[]}\n\n200');
    expect(await get('/healthz')).toBe('ok\n\n200');
    const metrics = await get('/metrics');
    expect(metrics).toMatch(/^openshell_supervisor_session_established 1$/m);
    expect(metrics).toMatch(
      /^openshell_supervisor_enforcement\{aspect="network",mechanism="socket fence",level="full"\} 1$/m,
    );
    expect(metrics).toMatch(/^openshell_supervisor_private_memory_bytes \d+$/m);
    // An outage of the gateway takes no pod out of service, and is told.
    await world().control('POST', '/refuse');
    await expect
      .poll(() => get('/readyz'), { timeout: 15_000, interval: 200 })
      .toMatch(
        /"ready":true.*the gateway session is (offline|connecting); the offline grace excuses it.*\n200$/s,
      );
    expect(await get('/metrics')).toMatch(/^openshell_supervisor_session_established 0$/m);
    await world().control('POST', '/accept');
    sandbox.signal('SIGTERM');
    expect((await sandbox.ended).code).toBe(143);
    await expect
      .poll(() => world().control('GET', '/exits'))
      .toMatchObject([{ exitCode: 143, accepted: true }]);
  });
});
