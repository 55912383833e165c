import { describe, expect, test } from 'vitest';
import { GetSandboxConfigResponse } from '../proto/generated/openshell/sandbox/v1/sandbox.ts';
import { RESTRICTIVE_DEFAULT } from '../supervisor/policy/restrictive-default.ts';
import { PolicyInForce } from '../supervisor/policy-in-force.ts';

const VALID = {
  version: 1,
  networkPolicies: { a: { endpoints: [{ host: 'a.test', port: 1 }], binaries: [{ path: '/**' }] } },
};
const INVALID = { version: 1, networkPolicies: { a: { endpoints: [{ host: '*', port: 1 }] } } };
const config = (version: number, policy: object | undefined, mode = 'fail_closed', policySource: 1 | 2 = 1) =>
  GetSandboxConfigResponse.fromPartial({
    version,
    policyHash: `h${version}`,
    policySource,
    policyValidationFailureMode: mode,
    ...(policy && { policy }),
  });
const ask = (policy: PolicyInForce) =>
  policy.decide(
    { host: 'a.test', port: 1, via: 'connect' },
    { pid: 1, binary: '/x', ancestors: [], cmdline: [] },
  );

describe('the policy in force', () => {
  test('is swapped whole by a valid one, and its generation rises', () => {
    const policy = new PolicyInForce(RESTRICTIVE_DEFAULT);
    expect(ask(policy)).toMatchObject({ kind: 'deny' });
    expect(policy.apply(config(3, VALID))).toEqual({ kind: 'loaded', version: 3, hash: 'h3' });
    expect([ask(policy).kind, policy.generation, policy.version]).toEqual(['allow', 2, 3]);
    expect(policy.apply(config(3, VALID))).toEqual({ kind: 'unchanged', version: 3 });
    expect(policy.generation).toBe(2);
  });

  test('decides anew, by the same policy, when its middlewares are others', () => {
    const policy = new PolicyInForce(RESTRICTIVE_DEFAULT);
    policy.apply(config(3, VALID));
    const before = policy.generation;
    policy.renew();
    expect(ask(policy)).toMatchObject({ kind: 'allow', generation: before + 1 });
    policy.close('offline', 'away');
    policy.renew();
    expect(ask(policy)).toMatchObject({ kind: 'deny', reason: 'away' });
  });

  test('denies everything after an invalid one, and says which', () => {
    const policy = new PolicyInForce(RESTRICTIVE_DEFAULT);
    policy.apply(config(1, VALID));
    expect(policy.apply(config(2, INVALID))).toMatchObject({ kind: 'rejected', version: 2, kept: false });
    expect(ask(policy)).toMatchObject({
      kind: 'deny',
      reason: expect.stringMatching(/^policy version 2 was rejected: .*matches every host/),
    });
    expect(policy.apply(config(3, undefined))).toEqual({ kind: 'unchanged', version: 0 });
    expect(policy.apply(config(4, VALID))).toMatchObject({ kind: 'loaded' });
    expect(ask(policy)).toMatchObject({ kind: 'allow' });
  });

  test('stays when the gateway says retain_last_valid, but only if there is a valid one', () => {
    const policy = new PolicyInForce(RESTRICTIVE_DEFAULT);
    policy.apply(config(1, VALID));
    expect(policy.apply(config(2, INVALID, 'retain_last_valid'))).toMatchObject({
      kind: 'rejected',
      kept: true,
    });
    expect(ask(policy)).toMatchObject({ kind: 'allow' });
    const none = new PolicyInForce();
    expect(none.apply(config(4, INVALID, 'retain_last_valid'))).toMatchObject({ kept: false });
    expect(ask(none)).toMatchObject({ kind: 'deny', reason: expect.stringContaining('version 4') });
  });

  test('follows a change of the failure mode at once, in either direction', () => {
    const policy = new PolicyInForce(RESTRICTIVE_DEFAULT);
    policy.apply(config(1, VALID));
    policy.apply(config(2, INVALID, 'fail_closed'));
    expect(ask(policy)).toMatchObject({ kind: 'deny' });
    expect(policy.apply(config(2, INVALID, 'retain_last_valid'))).toMatchObject({ kept: true });
    expect(ask(policy)).toMatchObject({ kind: 'allow' });
    policy.apply(config(2, INVALID, 'fail_closed'));
    expect(ask(policy)).toMatchObject({ kind: 'deny' });
    expect(policy.apply(config(1, VALID))).toMatchObject({ kind: 'loaded' });
    expect(ask(policy)).toMatchObject({ kind: 'allow' });
  });

  test('denies everything while it is closed, takes what comes meanwhile, and decides by that when it is opened', () => {
    const policy = new PolicyInForce(RESTRICTIVE_DEFAULT);
    policy.close('offline', 'the gateway is away');
    expect(ask(policy)).toMatchObject({ kind: 'deny', reason: 'the gateway is away' });
    expect(policy.apply(config(1, VALID))).toMatchObject({ kind: 'loaded' });
    expect([ask(policy).kind, policy.closed]).toEqual(['deny', 'the gateway is away']);
    const before = policy.generation;
    policy.open('offline');
    expect([ask(policy).kind, policy.closed]).toEqual(['allow', undefined]);
    expect(policy.generation).toBe(before + 1);
    policy.open('offline');
    expect(policy.generation).toBe(before + 1);
  });

  test('stays closed for one reason when the other is lifted', () => {
    const policy = new PolicyInForce(RESTRICTIVE_DEFAULT);
    policy.apply(config(1, VALID));
    policy.close('offline', 'away');
    policy.apply(config(2, INVALID));
    policy.open('offline');
    expect(ask(policy)).toMatchObject({ kind: 'deny', reason: expect.stringContaining('version 2') });
  });

  test('is reported only for the sandbox’s own revisions', () => {
    expect(new PolicyInForce(RESTRICTIVE_DEFAULT).apply(config(5, VALID, '', 2))).toMatchObject({
      version: 0,
    });
  });

  test('knows a binary by what its link leads to, also after a change', () => {
    const linked = {
      version: 1,
      networkPolicies: { a: { endpoints: [{ host: 'a.test', port: 1 }], binaries: [{ path: '/link' }] } },
    };
    const resolveBinary = (path: string) => (path === '/link' ? '/x' : undefined);
    const policy = new PolicyInForce(RESTRICTIVE_DEFAULT, { resolveBinary });
    policy.apply(config(3, linked));
    expect(ask(policy).kind).toBe('allow');
  });
});
