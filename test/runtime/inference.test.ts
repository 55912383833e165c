/** A workload calls inference.local and reaches the operator's model with a key that it never sees. */
import { beforeAll, expect, test } from 'vitest';
import { startSandbox } from '../../scripts/lib/sandbox.ts';
import { describeUnless } from './describe-unless.ts';
import { missing } from './requirements.ts';
import { sandboxPolicy } from './sandbox-policy.ts';
import { sharedWorld } from './world-fixture.ts';

const why = missing('runc');
const KEY = 'sk-canary-inference';
const POLICY = sandboxPolicy();

describeUnless(why, 'inference.local', () => {
  const world = sharedWorld();
  beforeAll(async () => {
    await world().control('POST', '/policy', POLICY);
    await world().control('POST', '/inference', [
      {
        baseUrl: 'https://api.allowed.test/v1',
        protocols: ['openai_chat_completions'],
        apiKey: KEY,
        modelId: 'operator-model',
        providerType: 'openai',
      },
    ]);
  });

  test('leads to the operator’s model although the policy names no host, and keeps the key', async () => {
    const ask = (path: string, more = '') =>
      `curl -s -m 10 -o /tmp/out -w "%{http_code} " ${more} -H 'Content-Type: application/json' -H 'Authorization: Bearer mine' -d '{"model":"mine"}' https://inference.local${path}; echo; `;
    const sandbox = await startSandbox({
      gateway: world().gatewayUrl,
      network: await world().network(),
      flags: ['--upstream-ca-file', '/etc/world-ca.pem', '--log-level', 'error'],
      binds: [{ source: world().caFile, destination: '/etc/world-ca.pem' }],
      command: [
        '/bin/sh',
        '-c',
        `${ask('/v1/chat/completions')}${ask('/v1/messages')}${ask('/v1/files')}cat /proc/*/environ 2>/dev/null | tr "\\0" "\\n"; echo end`,
      ],
    });
    await sandbox.ended;
    const { stdout, stderr } = sandbox.printed();
    const answers = stdout.split('\n').filter((line) => /^[0-9]{3} /.test(line));
    expect(answers.map((line) => line.slice(0, 3))).toEqual(['200', '400', '403']);
    // What the provider itself tells is its own business: this one repeats what it was sent.
    const arrived = JSON.stringify(world().records());
    expect(arrived).toContain(`Bearer ${KEY}`);
    expect(arrived).not.toContain('Bearer mine');
    const logs = JSON.stringify(await world().control('GET', '/logs'));
    expect(logs).toContain('API:INFERENCE');
    expect(`${stdout}${stderr}${logs}`).not.toContain(KEY);
  }, 120_000);
});
