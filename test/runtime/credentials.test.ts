/** A workload uses a credential that it never sees. */
import { beforeAll, expect, test } from 'vitest';
import { startSandbox } from '../../scripts/lib/sandbox.ts';
import { describeUnless } from './describe-unless.ts';
import { missing } from './requirements.ts';
import { sandboxPolicy } from './sandbox-policy.ts';
import { sharedWorld } from './world-fixture.ts';

const why = missing('runc');
const SECRET = 'sk-canary-41d9e0';
const ROTATED = 'sk-canary-77aa12';
const POLICY = sandboxPolicy(`network_policies:
  api:
    endpoints:
      - { host: api.allowed.test, ports: [80, 443], protocol: rest, enforcement: enforce, access: full }
      - { host: other.test, port: 443, protocol: rest, enforcement: enforce, access: full }
    binaries: [{ path: "/**" }]
`);
const credentials = (value: string) =>
  JSON.stringify({
    API_KEY: { value, endpoints: [{ host: 'api.allowed.test', port: 443, path: '/v1/**' }] },
    GCP_PROJECT_ID: { value: 'project-7' },
  });

describeUnless(why, 'credentials', () => {
  const world = sharedWorld();
  beforeAll(async () => {
    await world().control('POST', '/policy', POLICY);
    await world().control('POST', '/credentials', JSON.parse(credentials(SECRET)));
  });

  test('reach the server that they are bound to and nobody else, through a rotation, and never the workload', async () => {
    const ask = (url: string, more = '') =>
      `: > /tmp/out; curl -s -m 10 -o /tmp/out -w "%{http_code} " -H "Authorization: Bearer $API_KEY" ${more} ${url}; grep -o '"error":"[a-z_]*"' /tmp/out || echo; `;
    const sandbox = await startSandbox({
      gateway: world().gatewayUrl,
      network: await world().network(),
      flags: ['--upstream-ca-file', '/etc/world-ca.pem', '--log-level', 'error'],
      env: { OPENSHELL_POLICY_POLL_INTERVAL_SECS: '1' },
      binds: [{ source: world().caFile, destination: '/etc/world-ca.pem' }],
      stdin: 'pipe',
      command: [
        '/bin/sh',
        '-c',
        `env | grep -e API_KEY -e GCP; ${ask('https://api.allowed.test/v1/a')}${ask('https://api.allowed.test/v2/a')}${ask(
          'https://other.test/v1/a',
        )}${ask('http://api.allowed.test/v1/a')}${ask('https://api.allowed.test/v1/b', '-d "key=$API_KEY"')}echo ready; read line; ${ask(
          'https://api.allowed.test/v1/rotated',
        )}cat /proc/*/environ 2>/dev/null | tr "\\0" "\\n"; echo end`,
      ],
    });
    try {
      await expect.poll(() => sandbox.printed().stdout, { timeout: 40_000 }).toMatch(/^ready$/m);
      await world().control('POST', '/credentials', JSON.parse(credentials(ROTATED)));
      await expect
        .poll(() => world().gatewayOutput(), { timeout: 10_000 })
        .toContain('credentials set, revision 2');
      // The poll sees it within its interval of a second, and a seventh.
      await new Promise((resolve) => setTimeout(resolve, 3_000));
      sandbox.child.stdin?.write('go\n');
      await expect.poll(() => sandbox.printed().stdout, { timeout: 40_000 }).toMatch(/^end$/m);
    } finally {
      sandbox.child.stdin?.end();
      await sandbox.ended;
    }
    const { stdout, stderr } = sandbox.printed();
    const lines = stdout.split('\n').filter((line) => !line.startsWith('{'));
    expect(lines.slice(0, 2).sort()).toEqual([
      'API_KEY=openshell:resolve:env:v1_API_KEY',
      'GCP_PROJECT_ID=project-7',
    ]);
    expect(lines.slice(2, 8).map((line) => line.trim())).toEqual([
      '200',
      '403 "error":"credential_endpoint_mismatch"',
      '403 "error":"credential_endpoint_mismatch"',
      '403 "error":"credential_endpoint_mismatch"',
      // A placeholder in a body that is not rewritten must not leave: the connection ends.
      '000',
      'ready',
    ]);
    expect(lines[8]?.trim()).toBe('200');
    const everything = `${stdout}${stderr}${JSON.stringify(await world().control('GET', '/logs'))}`;
    expect(everything).not.toContain(SECRET);
    expect(everything).not.toContain(ROTATED);
    const arrived = JSON.stringify(world().records());
    expect(arrived).toContain(`Bearer ${SECRET}`);
    expect(arrived).toContain(`Bearer ${ROTATED}`);
    expect(arrived).not.toContain('openshell:resolve');
  }, 180_000);
});
