import { describe, expect, test } from 'vitest';
import type { DenialGroup } from '../../supervisor/denials/denial-table.ts';
import { confidence, proposeRules } from '../../supervisor/denials/proposal.ts';
import { ruleNameOf } from '../../supervisor/policy/rule-name.ts';

const group = (changes: Partial<DenialGroup> = {}): DenialGroup => ({
  host: 'a-b.test',
  port: 443,
  binary: '/usr/bin/curl',
  stage: 'connect',
  ancestors: [],
  sha256: undefined,
  reason: 'no rule',
  inspected: false,
  firstSeen: 10,
  lastSeen: 20,
  count: 1,
  suppressed: 0,
  commandLines: [],
  requests: [],
  ...changes,
});

describe('a proposal', () => {
  test('names the place and allows that binary there, and nothing else', () => {
    expect(proposeRules([group()])).toMatchObject([
      {
        ruleName: 'allow_a_b_test_443',
        binary: '/usr/bin/curl',
        stage: 'connect',
        confidence: 0.65,
        hitCount: 1,
        firstSeenMs: 10n,
        lastSeenMs: 20n,
        proposedRule: {
          name: 'allow_a_b_test_443',
          endpoints: [{ host: 'a-b.test', port: 443, advisorProposed: true, allowedIps: [], rules: [] }],
          binaries: [{ path: '/usr/bin/curl' }],
        },
      },
    ]);
  });

  test('is one for each host, port and binary, whatever the stages, the surest first', () => {
    const proposals = proposeRules([
      group({ host: 'rare.test', port: 9 }),
      group({ count: 4, firstSeen: 3 }),
      group({ count: 200, stage: 'ssrf', lastSeen: 90 }),
      group({ binary: '/usr/bin/wget' }),
    ]);
    expect(
      proposals.map(({ ruleName: name, binary, hitCount, confidence: sure }) => [
        name,
        binary,
        hitCount,
        sure,
      ]),
    ).toEqual([
      ['allow_a_b_test_443', '/usr/bin/curl', 100, 0.65],
      ['allow_a_b_test_443', '/usr/bin/wget', 1, 0.65],
      ['allow_rare_test_9', '/usr/bin/curl', 1, 0.5],
    ]);
    expect(proposals[0]).toMatchObject({ firstSeenMs: 3n, lastSeenMs: 90n });
    expect(proposals[0]?.securityNotes).toContain('allowed_ips');
  });

  test('has the requests that were seen, identifiers at their end as wildcards', () => {
    const requests = ['/users/42', '/users/43', '/v1/list', '/v2'].map((path) => ({
      method: 'GET',
      path,
      decision: 'deny',
      count: 1,
    }));
    expect(proposeRules([group({ requests })])[0]?.proposedRule?.endpoints).toMatchObject([
      {
        protocol: 'rest',
        enforcement: 'enforce',
        rules: [
          { allow: { method: 'GET', path: '/users/*' } },
          { allow: { method: 'GET', path: '/v1/list' } },
          { allow: { method: 'GET', path: '/v2' } },
        ],
      },
    ]);
  });

  test.each([
    '127.0.0.1',
    '169.254.169.254',
    '0.0.0.0',
    '::1',
    'fe80::1',
    '::ffff:127.0.0.1',
    'localhost',
    'LOCALHOST.',
    'x.localhost',
    'metadata.google.internal',
    '224.0.0.1',
  ])('does not exist for what is always blocked: %s', (host) => {
    expect(proposeRules([group({ host })])).toEqual([]);
  });

  test('does not exist for a caller that nobody knows', () => {
    expect(proposeRules([group({ binary: '' })])).toEqual([]);
  });

  test.each([
    [1, 1234, false, 0.5],
    [2, 1234, false, 0.5],
    [3, 1234, false, 0.6],
    [9, 1234, false, 0.6],
    [10, 1234, false, 0.7],
    [10, 443, false, 0.85],
    [1, 443, true, 0.45],
    [1, 1234, true, 0.3],
  ])('after %i denials at port %i (ssrf: %s) is %f sure', (hits, port, ssrf, sure) => {
    expect(confidence(hits, port, ssrf)).toBe(sure);
  });

  test.each([
    ['10.0.0.7', 'allow_10_0_0_7_80'],
    ['2001:db8::1', 'allow_2001db81_80'],
    ['a_b.test', 'allow_a_b_test_80'],
  ])('for %s is called %s', (host, name) => {
    expect(ruleNameOf(host, 80)).toBe(name);
  });
});
