/** What a sandbox is denied reaches the gateway as summaries and proposals, and its events reach the log files. */
import { chownSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { startSandbox } from '../../scripts/lib/sandbox.ts';
import type { AnalysisView } from '../dev-gateway/state.ts';
import { describeUnless } from './describe-unless.ts';
import { missing } from './requirements.ts';
import { CURL_TO_API, sandboxPolicy } from './sandbox-policy.ts';
import { sharedWorld } from './world-fixture.ts';

const why = missing('runc');
const volume = mkdtempSync(join(tmpdir(), 'denials-volume-'));
const logs = join(volume, 'logs');
mkdirSync(logs);
chownSync(logs, 1000, 1000);
afterAll(() => rmSync(volume, { recursive: true }));

const POLICY = sandboxPolicy(CURL_TO_API);
const TOKEN = 'a-service-account-token-that-nobody-may-read';
const ask = (url: string) => `curl -s -m 5 -o /dev/null -H "Authorization: Bearer opensesame" ${url}`;

/** The lines of all files of one kind. */
function lines(kind: 'openshell' | 'openshell-ocsf'): readonly string[] {
  const own = new RegExp(`^${kind}\\.\\d{4}-\\d\\d-\\d\\d\\.log$`);
  return readdirSync(logs)
    .filter((name) => own.test(name))
    .flatMap((name) => readFileSync(join(logs, name), 'utf8').split('\n'))
    .filter((line) => line !== '');
}

describeUnless(why, 'what a sandbox is denied', () => {
  const world = sharedWorld();

  test('is told to the gateway with what would allow it, and logged in files, without a secret', async () => {
    await world().control('POST', '/policy', POLICY);
    await world().control('POST', '/setting?key=ocsf_json_enabled&value=true');
    const analyses = async () => (await world().control('GET', '/analyses')) as readonly AnalysisView[];
    const sandbox = await startSandbox({
      gateway: world().gatewayUrl,
      token: TOKEN,
      name: 'denied-sandbox',
      network: await world().network(),
      binds: [{ source: logs, destination: '/var/log', writable: true }],
      command: [
        '/bin/sh',
        '-c',
        `${ask('http://api.allowed.test/')}; i=0; while [ $i -lt 12 ]; do i=$((i+1)); ${ask('"http://user:letmein@other.allowed.test/x?key=swordfish"')}; done; ${ask('http://169.254.169.254/')}; echo asked; while :; do sleep 0.2; done`,
      ],
    });
    try {
      await expect.poll(() => sandbox.printed().stdout, { timeout: 60_000 }).toMatch(/^asked$/m);
      const denied = async () =>
        (await analyses()).flatMap(({ summaries }) => summaries).filter(({ port }) => port === 80);
      await expect
        .poll(async () => new Set((await denied()).map(({ host }) => host)), { timeout: 60_000 })
        .toEqual(new Set(['other.allowed.test', '169.254.169.254']));
      const of = (await denied()).filter(({ host }) => host === 'other.allowed.test');
      expect(of.reduce((sum, { count }) => sum + count, 0)).toBe(12);
      expect(of.at(-1)).toMatchObject({
        port: 80,
        binary: '/usr/bin/curl',
        binarySha256: expect.stringMatching(/^[0-9a-f]{64}$/),
        stage: 'forward',
        totalCount: 12,
        l7InspectionActive: false,
      });
      const all = await analyses();
      expect(all.every(({ name, workspace }) => name === 'denied-sandbox' && workspace === 'dev')).toBe(true);
      const proposals = all.flatMap((one) => one.proposals);
      expect(new Set(proposals.map(({ ruleName }) => ruleName))).toEqual(
        new Set(['allow_other_allowed_test_80']),
      );
      expect(proposals[0]).toMatchObject({
        binary: '/usr/bin/curl',
        rule: { endpoints: [{ host: 'other.allowed.test', port: 80, advisorProposed: true }] },
      });
      expect(all.flatMap(({ rejections }) => rejections)).toEqual([]);
      const groups = async () =>
        (await analyses())
          .flatMap(({ activity }) => activity.map((one) => one.groups['forward_policy'] ?? 0))
          .reduce((sum, count) => sum + count, 0);
      await expect.poll(groups, { timeout: 30_000 }).toBe(13);

      const written = lines('openshell').filter((line) => line.includes(' DENIED '));
      expect(written[0]).toMatch(
        /^\d{4}-\d\d-\d\dT[\d:.]{12}Z OCSF NET:OPEN \[MED\] DENIED curl\(\d+\) -> other\.allowed\.test:80 /,
      );
      const events = lines('openshell-ocsf').map((line) => JSON.parse(line) as Record<string, unknown>);
      expect(events).toContainEqual(
        expect.objectContaining({
          class_uid: 4001,
          type_uid: 400101,
          action_id: 2,
          dst_endpoint: expect.objectContaining({ hostname: 'other.allowed.test', port: 80 }),
        }),
      );
      const told = [
        sandbox.printed().stdout,
        sandbox.printed().stderr,
        JSON.stringify(await world().control('GET', '/logs')),
        JSON.stringify(all),
        ...lines('openshell'),
        ...lines('openshell-ocsf'),
      ].join('\n');
      for (const secret of [TOKEN, 'opensesame', 'letmein', 'swordfish']) expect(told).not.toContain(secret);
    } finally {
      await sandbox.stop();
    }
  }, 240_000);
});
