/** Requests of a workload pass a service of the operator's that the gateway names. */
import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { namespacePath } from '../../scripts/lib/network.ts';
import { NODE } from '../../scripts/lib/paths.ts';
import { startSandbox } from '../../scripts/lib/sandbox.ts';
import { ADDRESS } from '../../scripts/lib/world.ts';
import { describeUnless } from './describe-unless.ts';
import { missing } from './requirements.ts';
import { sandboxPolicy } from './sandbox-policy.ts';
import { sharedWorld } from './world-fixture.ts';

const why = missing('runc');
const PORT = 9300;
const POLICY = sandboxPolicy(`network_policies:
  api:
    endpoints:
      - { host: api.allowed.test, ports: [80, 443], protocol: rest, enforcement: enforce, access: full }
    binaries: [{ path: "/**" }]
network_middlewares:
  keys: { middleware: openshell/regex, order: 1, endpoints: { include: ["*.allowed.test"] } }
  scan: { middleware: scanner, order: 2, endpoints: { include: ["*.allowed.test"] } }
`);

describeUnless(why, 'middlewares', () => {
  const world = sharedWorld();
  let service: ChildProcess | undefined;
  let printed = '';
  beforeAll(async () => {
    const script = join(import.meta.dirname, 'middleware-service.ts');
    const command = [
      `--net=${namespacePath(world().namespace)}`,
      NODE,
      script,
      ADDRESS.gateway,
      String(PORT),
    ];
    service = spawn('nsenter', command, { stdio: ['ignore', 'pipe', 'inherit'] });
    service.stdout?.on('data', (chunk: Buffer) => {
      printed += chunk.toString();
    });
    await vi.waitFor(() => expect(printed).toMatch(/^listening$/m), { timeout: 20_000 });
    await world().control('POST', '/policy', POLICY);
    const endpoint = `http://${ADDRESS.gateway}:${PORT}`;
    await world().control('POST', '/middleware', {
      services: [{ name: 'scanner', endpoint, insecure: true, timeout: '10s' }],
    });
  });
  afterAll(() => void service?.kill());

  test('change what goes out, deny it, and let nothing pass when they are gone', async () => {
    const send = (body: string) =>
      `curl -s -m 20 -d '${body}' https://api.allowed.test/v1 | grep -o -e '"error":"[a-z_]*"' -e '"x-openshell-middleware-seen":"yes"' -e '"received":[0-9]*'; `;
    const sandbox = await startSandbox({
      gateway: world().gatewayUrl,
      network: await world().network(),
      flags: ['--upstream-ca-file', '/etc/world-ca.pem', '--log-level', 'error'],
      binds: [{ source: world().caFile, destination: '/etc/world-ca.pem' }],
      stdin: 'pipe',
      command: [
        '/bin/sh',
        '-c',
        `${send('a sk-0123456789abcdef0 b')}${send('forbidden')}echo ready; read line; ${send('later')}echo end`,
      ],
    });
    try {
      await expect.poll(() => sandbox.printed().stdout, { timeout: 60_000 }).toMatch(/^ready$/m);
      service?.kill();
      await new Promise((resolve) => service?.once('exit', resolve));
      sandbox.child.stdin?.write('go\n');
      await expect.poll(() => sandbox.printed().stdout, { timeout: 60_000 }).toMatch(/^end$/m);
    } finally {
      sandbox.child.stdin?.end();
      await sandbox.ended;
    }
    const lines = sandbox
      .printed()
      .stdout.split('\n')
      .filter((line) => !line.startsWith('{') && line !== '');
    expect(lines).toEqual([
      '"x-openshell-middleware-seen":"yes"',
      `"received":${'a [REDACTED] b'.length}`,
      '"error":"middleware_denied"',
      'ready',
      '"error":"middleware_failed"',
      'end',
    ]);
    expect(printed).toContain('"body":"a [REDACTED] b"');
    expect(printed).toContain('"workspace":"dev"');
  }, 240_000);
});
