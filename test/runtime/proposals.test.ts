/** A workload is denied, proposes the rule that it lacks, and goes on when a person has approved it. */
import { beforeAll, expect, test } from 'vitest';
import { startSandbox } from '../../scripts/lib/sandbox.ts';
import { describeUnless } from './describe-unless.ts';
import { missing } from './requirements.ts';
import { sandboxPolicy } from './sandbox-policy.ts';
import { sharedWorld } from './world-fixture.ts';

const why = missing('runc');
const POLICY = sandboxPolicy(`network_policies:
  reading:
    endpoints:
      - host: public.wild.test
        port: 443
        protocol: rest
        enforcement: enforce
        rules: [{ allow: { method: GET, path: /read/** } }]
    binaries: [{ path: "/**" }]
`);
const RULE = {
  endpoints: [
    {
      host: 'public.wild.test',
      port: 443,
      protocol: 'rest',
      enforcement: 'enforce',
      rules: [{ allow: { method: 'GET', path: '/read/**' } }, { allow: { method: 'GET', path: '/more/**' } }],
    },
  ],
  binaries: [{ path: '/**' }],
};
const PROPOSAL = JSON.stringify({
  intent_summary: 'to read more',
  operations: [{ addRule: { ruleName: 'reading', rule: RULE } }],
});

interface Chunk {
  readonly id: string;
  readonly status: string;
}

describeUnless(why, 'proposals', () => {
  const world = sharedWorld();
  beforeAll(async () => {
    await world().control('POST', '/policy', POLICY);
  });

  test('are offered only where they may be made, decided by a person, and then in force', async () => {
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
        `ask() { curl -s -m 60 "$@"; echo; }
         denied() { curl -s -m 10 https://public.wild.test/more/1; echo; }
         ask http://policy.local/v1/policy/current; denied; echo off; read line
         until ask -o /dev/null -w '%{http_code}' http://policy.local/v1/policy/current | grep -q 200; do :; done
         denied > /tmp/denied; cat /tmp/denied
         cat $(sed -E 's/.*"action":"read_skill","path":"([^"]*)".*/\\1/' /tmp/denied) | head -3
         ask http://policy.local/v1/denials?last=1
         ask -d '${PROPOSAL}' http://policy.local/v1/proposals > /tmp/proposed; cat /tmp/proposed
         id=$(sed -E 's/.*"accepted_chunk_ids":\\["([^"]*)"\\].*/\\1/' /tmp/proposed); echo proposed
         ask "http://policy.local/v1/proposals/$id/wait?timeout=30"
         curl -s -m 10 -o /dev/null -w 'after %{http_code}\\n' https://public.wild.test/more/1; echo end`,
      ],
    });
    try {
      await expect.poll(() => sandbox.printed().stdout, { timeout: 40_000 }).toMatch(/^off$/m);
      await world().control('POST', '/setting?key=agent_policy_proposals_enabled&value=true');
      sandbox.child.stdin?.write('go\n');
      await expect.poll(() => sandbox.printed().stdout, { timeout: 40_000 }).toMatch(/^proposed$/m);
      const chunks = (await world().control('GET', '/chunks')) as readonly Chunk[];
      const asked = chunks.find(({ status }) => status === 'pending');
      await world().control('POST', `/chunk?id=${asked?.id}&decision=approve`);
      await expect.poll(() => sandbox.printed().stdout, { timeout: 40_000 }).toMatch(/^end$/m);
    } finally {
      sandbox.child.stdin?.end();
      await sandbox.ended;
    }
    const lines = sandbox
      .printed()
      .stdout.split('\n')
      .filter((line) => line !== '');
    const json = lines.filter((line) => line.startsWith('{"')).map((line) => JSON.parse(line));
    expect(json[0]).toMatchObject({ error: 'feature_disabled' });
    expect(json[1]).toMatchObject({ error: 'policy_denied', next_steps: [] });
    expect(json[2]).toMatchObject({ error: 'policy_denied' });
    expect(json[2].next_steps.map(({ action }: { action: string }) => action)).toEqual([
      'read_skill',
      'inspect_policy',
      'inspect_recent_denials',
      'submit_proposal',
    ]);
    expect(lines).toContain('name: policy-advisor');
    expect(json[3].denials[0]).toMatch(/ OCSF HTTP:GET .* DENIED .*more/);
    expect(json[4]).toMatchObject({ status: 'submitted', accepted_chunks: 1 });
    expect(json[5]).toMatchObject({ status: 'approved', policy_reloaded: true });
    expect(lines).toContain('after 200');
    expect(JSON.stringify(await world().control('GET', '/logs'))).toContain('CONFIG:APPROVED');
  }, 180_000);
});
