/** A workload calls inference.local and reaches the operator's model with a key that it never sees. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ensureBuilt } from '../../scripts/lib/build.ts';
import { startSandbox } from '../../scripts/lib/sandbox.ts';
import { startWorld, type World } from '../../scripts/lib/world.ts';
import { missing } from './requirements.ts';

const why = missing('runc');
const KEY = 'sk-canary-inference';
const POLICY = `version: 1
filesystem_policy:
  include_workdir: true
  read_only: [/usr, /bin, /sbin, /lib, /lib64, /etc, /proc, /dev/urandom]
  read_write: [/tmp, /dev/null]
`;

describe.skipIf(why !== undefined)(`inference.local${why === undefined ? '' : ` (skipped: ${why})`}`, () => {
  let world: World;
  beforeAll(async () => {
    await ensureBuilt();
    world = await startWorld();
    await world.control('POST', '/policy', POLICY);
    await world.control('POST', '/inference', [
      {
        baseUrl: 'https://api.allowed.test/v1',
        protocols: ['openai_chat_completions'],
        apiKey: KEY,
        modelId: 'operator-model',
        providerType: 'openai',
      },
    ]);
  }, 240_000);
  afterAll(() => world?.stop());

  test('leads to the operator’s model although the policy names no host, and keeps the key', async () => {
    const ask = (path: string, more = '') =>
      `curl -s -m 10 -o /tmp/out -w "%{http_code} " ${more} -H 'Content-Type: application/json' -H 'Authorization: Bearer mine' -d '{"model":"mine"}' https://inference.local${path}; echo; `;
    const sandbox = await startSandbox({
      gateway: world.gatewayUrl,
      network: await world.network(),
      flags: ['--upstream-ca-file', '/etc/world-ca.pem', '--log-level', 'error'],
      binds: [{ source: world.caFile, destination: '/etc/world-ca.pem' }],
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
    const arrived = JSON.stringify(world.records());
    expect(arrived).toContain(`Bearer ${KEY}`);
    expect(arrived).not.toContain('Bearer mine');
    const logs = JSON.stringify(await world.control('GET', '/logs'));
    expect(logs).toContain('API:INFERENCE');
    expect(`${stdout}${stderr}${logs}`).not.toContain(KEY);
  }, 120_000);
});
