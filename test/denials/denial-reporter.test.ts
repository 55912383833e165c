import { describe, expect, test } from 'vitest';
import type { SubmitPolicyAnalysisRequest } from '../../proto/generated/openshell/v1/openshell.ts';
import { createMemoryBuffer } from '../../supervisor/buffer/memory-buffer.ts';
import { DenialReporter } from '../../supervisor/denials/denial-reporter.ts';
import type { EgressEvent } from '../../supervisor/egress/events.ts';
import type { CallerIdentity } from '../../supervisor/policy/intent.ts';
import { VirtualClock } from '../gateway/virtual-clock.ts';

const CURL: CallerIdentity = {
  pid: 7,
  binary: '/usr/bin/curl',
  ancestors: ['/bin/sh'],
  cmdline: ['curl', '-H', 'Authorization: Bearer opensesame', 'https://u:letmein@a.test/?k=swordfish'],
  sha256: 'ab',
};

function world() {
  const clock = new VirtualClock(1_000);
  const sent: SubmitPolicyAnalysisRequest[] = [];
  const reporter = new DenialReporter({
    clock,
    random: () => 0.5,
    sandboxId: 'id',
    sandboxName: 'box',
    append: (request) => sent.push(request),
  });
  return { clock, sent, reporter };
}

const denied = (changes: Partial<Extract<EgressEvent, { kind: 'denied' }>> = {}): EgressEvent => ({
  kind: 'denied',
  stage: 'connect',
  intent: { host: 'a.test', port: 443, via: 'connect' },
  identity: CURL,
  policy: undefined,
  reason: 'no rule',
  ...changes,
});

const request = (path: string, outcome: 'allowed' | 'denied' | 'malformed' = 'denied'): EgressEvent => ({
  kind: 'request',
  intent: { host: 'a.test', port: 443, via: 'connect' },
  identity: CURL,
  request: { outcome, method: 'GET', path, policy: 'p', rule: undefined, reason: 'no such path' },
});

describe('denials', () => {
  test('by a middleware are counted, and nothing is proposed that would allow them', () => {
    const { clock, sent, reporter } = world();
    reporter.workspace = 'team';
    reporter.start();
    const event = request('/x');
    if (event.kind !== 'request') throw new Error('no request');
    reporter.observe({ ...event, request: { ...event.request, by: 'middleware' } }, false);
    clock.run(20_000);
    expect(sent.map(({ analysisMode }) => analysisMode)).toEqual(['activity']);
    expect(sent[0]?.networkActivitySummaries).toMatchObject([{ deniedActionCount: 1 }]);
  });

  test('are told each ten seconds, together, once the workspace is known', () => {
    const { clock, sent, reporter } = world();
    reporter.start();
    for (let i = 0; i < 12; i++) reporter.observe(denied(), i >= 10);
    clock.run(30_000);
    expect(sent).toEqual([]);
    reporter.workspace = 'team';
    clock.run(10_000);
    expect(sent.map(({ analysisMode, name, workspace }) => [analysisMode, name, workspace])).toEqual([
      ['mechanistic', 'box', 'team'],
      ['activity', 'box', 'team'],
    ]);
    expect(sent[0]?.summaries).toMatchObject([
      {
        sandboxId: 'id',
        host: 'a.test',
        port: 443,
        binary: '/usr/bin/curl',
        ancestors: ['/bin/sh'],
        binarySha256: 'ab',
        denyReason: 'no rule',
        denialStage: 'connect',
        firstSeenMs: 1_000n,
        count: 12,
        suppressedCount: 2,
        totalCount: 12,
        persistent: false,
        l7InspectionActive: false,
      },
    ]);
    expect(sent[0]?.proposedChunks).toMatchObject([{ ruleName: 'allow_a_test_443', hitCount: 12 }]);
    expect(sent[1]?.networkActivitySummaries).toMatchObject([
      {
        networkActivityCount: 12,
        deniedActionCount: 12,
        denialsByGroup: [{ denyGroup: 'connect_policy', deniedCount: 12 }],
      },
    ]);
    sent.length = 0;
    clock.run(60_000);
    expect(sent).toEqual([]); // nothing new
    reporter.observe(denied(), false);
    clock.run(10_000);
    expect(sent[0]?.summaries).toMatchObject([{ count: 1, totalCount: 13, persistent: true }]);
  });

  test('of requests have at most twenty samples, each with its count', () => {
    const { sent, reporter } = world();
    reporter.workspace = 'team';
    for (let i = 0; i < 30; i++) reporter.observe(request(`/p${i}`), false);
    reporter.observe(request('/p0'), false);
    reporter.observe(request('/fine', 'allowed'), false);
    reporter.observe(request('/odd', 'malformed'), false);
    reporter.flush();
    const [deny, malformed] = sent[0]?.summaries ?? [];
    expect(deny).toMatchObject({ count: 31, denialStage: 'connect-l7-deny', l7InspectionActive: true });
    expect(deny?.l7RequestSamples).toHaveLength(20);
    expect(deny?.l7RequestSamples[0]).toEqual({ method: 'GET', path: '/p0', decision: 'deny', count: 2 });
    expect(malformed).toMatchObject({ count: 1, denialStage: 'connect-l7-parse-rejection' });
    expect(sent[1]?.networkActivitySummaries).toMatchObject([{ deniedActionCount: 32 }]);
  });

  test('count under the groups of the contract', () => {
    const { sent, reporter } = world();
    reporter.workspace = 'team';
    const stages = ['connect', 'forward', 'ssrf', 'transparent-tcp', 'forward-l7-parse-rejection'] as const;
    for (const stage of stages) reporter.observe(denied({ stage }), false);
    reporter.observe(denied({ reason: 'the policy changed meanwhile; try again' }), false);
    reporter.flush();
    const groups = sent[1]?.networkActivitySummaries[0]?.denialsByGroup ?? [];
    expect(Object.fromEntries(groups.map(({ denyGroup, deniedCount }) => [denyGroup, deniedCount]))).toEqual({
      connect_policy: 2,
      forward_policy: 1,
      ssrf: 1,
      l7_parse_rejection: 1,
      policy_stale: 1,
    });
  });

  test('of more places than the bound are counted, not kept', () => {
    const { sent, reporter } = world();
    reporter.workspace = 'team';
    for (let i = 0; i < 1_100; i++)
      reporter.observe(denied({ intent: { host: `h${i}.test`, port: 443, via: 'connect' } }), false);
    reporter.flush();
    const summaries = sent.flatMap((one) => one.summaries);
    expect(summaries).toHaveLength(1_024);
    expect(sent.reduce((sum, { cutItems }) => sum + cutItems, 0)).toBe(76);
    expect(sent.at(-1)?.networkActivitySummaries).toMatchObject([{ deniedActionCount: 1_100 }]);
  });

  test('all fit the records that the buffer keeps, however many there are', () => {
    const { sent, reporter } = world();
    reporter.workspace = 'team';
    const reason = 'r'.repeat(250);
    for (let i = 0; i < 1_024; i++)
      reporter.observe(denied({ reason, intent: { host: `h${i}.test`, port: 443, via: 'connect' } }), false);
    reporter.flush();
    const buffer = createMemoryBuffer({ boot: 'b' });
    for (const one of sent) buffer.append('audit', { kind: 'denials', at: 0, request: one });
    const kept =
      buffer.nextBatch({ maxEntries: 1_000, maxBytes: 1 << 24, classes: ['audit'] })?.entries ?? [];
    const requests = kept.flatMap((entry) =>
      entry.type === 'record' && entry.record.kind === 'denials' ? [entry.record.request] : [],
    );
    expect(requests.flatMap(({ summaries }) => summaries)).toHaveLength(1_024);
    expect(requests.flatMap(({ proposedChunks }) => proposedChunks)).toHaveLength(1_024);
    expect(requests.every(({ cutItems }) => cutItems === 0)).toBe(true);
  });

  test('show of a command line which program ran, and none of the secrets in it', () => {
    const { sent, reporter } = world();
    reporter.workspace = 'team';
    reporter.observe(denied(), false);
    reporter.stop();
    expect(sent[0]?.summaries[0]?.sampleCmdlines).toEqual(['curl …']);
    const text = JSON.stringify(sent, (_key, value) => (typeof value === 'bigint' ? `${value}` : value));
    for (const secret of ['opensesame', 'letmein', 'swordfish']) expect(text).not.toContain(secret);
  });
});
