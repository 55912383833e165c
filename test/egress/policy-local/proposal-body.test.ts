import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { readProposal } from '../../../supervisor/egress/policy-local/proposal-body.ts';

const rule = (endpoint: object = {}, more: object = {}) => ({
  endpoints: [{ host: 'api.test', port: 443, ...endpoint }],
  binaries: [{ path: '/usr/bin/curl' }],
  ...more,
});
const body = (...rules: object[]) =>
  JSON.stringify({
    intent_summary: 'to read items',
    operations: rules.map((one) => ({ addRule: { rule: one } })),
  });
const chunksOf = (text: string) => {
  const read = readProposal(text, 1_000);
  if (!read.ok) throw new Error(read.error);
  return read.value;
};
const faultOf = (text: string) => {
  const read = readProposal(text, 1_000);
  return read.ok ? undefined : read.error;
};

describe('a proposal', () => {
  test('becomes a pending chunk that trusts no private address', () => {
    const [chunk] = chunksOf(
      body(
        rule({
          protocol: 'rest',
          enforcement: 'enforce',
          rules: [{ allow: { method: 'GET', path: '/v1/**' } }],
        }),
      ),
    );
    expect(chunk).toMatchObject({
      status: 'pending',
      stage: 'agent',
      ruleName: 'allow_api_test_443',
      rationale: 'to read items',
      confidence: 0.75,
      hitCount: 1,
      binary: '/usr/bin/curl',
      firstSeenMs: 1_000n,
    });
    expect(chunk?.proposedRule?.endpoints[0]).toMatchObject({
      host: 'api.test',
      port: 443,
      ports: [443],
      protocol: 'rest',
      advisorProposed: true,
    });
    expect(chunk?.proposedRule?.binaries).toEqual([{ path: '/usr/bin/curl', harness: true }]);
  });

  test('takes the name that it gives, of the operation before that of the rule', () => {
    const text = JSON.stringify({
      operations: [{ addRule: { ruleName: 'outer', rule: rule({}, { name: 'inner' }) } }],
    });
    expect(chunksOf(text)[0]?.ruleName).toBe('outer');
    expect(chunksOf(body(rule({}, { name: 'inner' })))[0]?.ruleName).toBe('inner');
  });

  test('leaves out what it does not know, so that it proposes nothing by it', () => {
    const [chunk] = chunksOf(
      body(
        rule({
          provider_credentialed: true,
          credential_signing: 'sigv4',
          websocket_credential_rewrite: true,
        }),
      ),
    );
    expect(chunk?.proposedRule?.endpoints[0]).toMatchObject({
      providerCredentialed: false,
      credentialSigning: '',
      websocketCredentialRewrite: false,
    });
  });

  test.each([
    ['no JSON', '{', 'not JSON'],
    ['nothing', '{}', 'operations'],
    ['no operation', '{"operations":[]}', 'operations'],
    ['another operation', '{"operations":[{"removeRule":{"ruleName":"a"}}]}', 'operations.0'],
    [
      'two operations in one',
      JSON.stringify({ operations: [{ addRule: { rule: rule() }, removeRule: {} }] }),
      'removeRule',
    ],
    ['no host', body(rule({ host: '' })), 'host'],
    ['no port', body(rule({ port: undefined })), 'needs port or ports'],
    ['a port out of range', body(rule({ port: 70_000 })), 'port'],
    ['no binary', body(rule({}, { binaries: [] })), 'binaries'],
    ['a binary that is no path', body(rule({}, { binaries: [{ path: 'curl' }] })), 'path'],
    [
      'a path with a query',
      body(rule({ protocol: 'rest', rules: [{ allow: { method: 'GET', path: '/a?b=1' } }] })),
      'query',
    ],
    ['what no policy takes', body(rule({ host: '*' })), 'operations.0.addRule.rule: endpoints.0.host'],
    [
      'a name of the gateway',
      JSON.stringify({ operations: [{ addRule: { ruleName: '_provider_x', rule: rule() } }] }),
      '_provider_',
    ],
    ['too many operations', body(...Array.from({ length: 33 }, () => rule())), 'operations'],
  ])('with %s is refused, and told where', (_, text, place) => {
    expect(faultOf(text)).toContain(place);
  });

  test('never throws, whatever the body is', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          fc.json(),
          fc.object().map((o) => JSON.stringify({ operations: [{ addRule: { rule: o } }] })),
        ),
        (text) => {
          readProposal(text, 0);
        },
      ),
    );
  });
});
