import * as fc from 'fast-check';
import { describe, expect, test, vi } from 'vitest';
import { SandboxPolicy } from '../../proto/generated/openshell/sandbox/v1/sandbox.ts';
import { compileBinaryPattern } from '../../supervisor/policy/binary-pattern.ts';
import { compilePolicy, quarantined } from '../../supervisor/policy/compilation.ts';
import { decide } from '../../supervisor/policy/decision.ts';
import { BLANK_ENDPOINT } from '../../supervisor/policy/document.ts';
import { compileHostPattern } from '../../supervisor/policy/host-pattern.ts';
import { RESTRICTIVE_DEFAULT } from '../../supervisor/policy/restrictive-default.ts';
import { policyFromWire } from '../../supervisor/policy/wire.ts';
import { parsePolicyYaml } from '../../supervisor/policy/yaml.ts';
import { caller, compile, documentOf, granted, to } from './grants.ts';

// Thousands of cases, on a machine that may be busy.
vi.setConfig({ testTimeout: 60_000 });

const CURL = caller('/usr/bin/curl', '/bin/bash');

const POLICY =
  compile(`  b-wild: { endpoints: [{ host: "*.example.com", port: 443 }], binaries: [{ path: /usr/bin/curl }] }
  a-deep: { endpoints: [{ host: "**.example.com", port: 443 }], binaries: [{ path: /usr/bin/git }] }
  exact: { endpoints: [{ host: API.test, ports: [443, 8443] }], binaries: [{ path: "/usr/lib/*/tool" }, { path: /bin/agent }] }
  rest: { endpoints: [{ host: rest.test, port: 443, protocol: rest, access: read-only }], binaries: [{ path: "/**" }] }
  nobody: { endpoints: [{ host: nobody.test, port: 443 }] }
  inside: { endpoints: [{ port: 5432, allowed_ips: [10.1.0.0/16] }], binaries: [{ path: /usr/bin/psql }] }
  literal: { endpoints: [{ host: 10.9.9.9, port: 80 }], binaries: [{ path: "/**" }] }
`);

describe('a decision', () => {
  test.each([
    [
      'an exact host, whatever its case in the policy',
      to('api.test', 8443),
      caller('/bin/agent'),
      'exact',
      'exact-host',
    ],
    [
      'an ancestor that may',
      to('api.test'),
      caller('/usr/bin/curl', '/bin/sh', '/bin/agent'),
      'exact',
      'exact-host',
    ],
    ['a glob for the binary', to('api.test'), caller('/usr/lib/x/tool'), 'exact', 'exact-host'],
    ['one label for *', to('a.example.com'), CURL, 'b-wild', 'public-only'],
    ['several labels for **', to('a.b.example.com'), caller('/usr/bin/git'), 'a-deep', 'public-only'],
    [
      'an address range without a host',
      to('db.internal', 5432),
      caller('/usr/bin/psql'),
      'inside',
      'allowed-ips',
    ],
    ['an address literal', to('10.9.9.9', 80), CURL, 'literal', 'literal'],
  ])('allows %s', (_what, intent, identity, policy, kind) => {
    expect(decide(POLICY, intent, identity)).toMatchObject({
      kind: 'allow',
      policy,
      generation: 4,
      destination: { kind },
    });
  });

  test.each([
    ['a host that no rule names', to('evil.test'), CURL, 'no rule names evil.test:443'],
    ['another port of a known host', to('api.test', 80), caller('/bin/agent'), 'no rule names api.test:80'],
    [
      'two labels for one *',
      to('a.b.example.com'),
      CURL,
      'rule a-deep names a.b.example.com:443, but not the binary /usr/bin/curl (started by /bin/bash); a rule must',
    ],
    ['the domain behind a wildcard itself', to('example.com'), CURL, 'no rule names example.com:443'],
    ['a suffix that only looks like it', to('a.notexample.com'), CURL, 'no rule names'],
    [
      'a segment too many for * in a binary',
      to('api.test'),
      caller('/usr/lib/x/y/tool'),
      'but not the binary',
    ],
    ['a rule without binaries', to('nobody.test'), CURL, 'but not the binary'],
    ['an octal address', to('0177.0.0.1', 5432), caller('/usr/bin/psql'), 'a number in disguise'],
    ['a dotless address', to('2130706433', 5432), caller('/usr/bin/psql'), 'a number in disguise'],
    ['a hexadecimal address', to('0x7f.1', 5432), caller('/usr/bin/psql'), 'a number in disguise'],
  ])('denies %s, and says why', (_what, intent, identity, reason) => {
    expect(decide(POLICY, intent, identity)).toMatchObject({
      kind: 'deny',
      reason: expect.stringContaining(reason),
    });
  });

  test('names the rule with the smallest name when several match', () => {
    const both = compile(`  z: { endpoints: [{ host: a.b.test, port: 1 }], binaries: [{ path: "/**" }] }
  a: { endpoints: [{ host: "*.b.test", port: 1 }], binaries: [{ path: "/**" }] }
`);
    expect(decide(both, to('a.b.test', 1), CURL)).toMatchObject({ kind: 'allow', policy: 'a' });
  });

  test('asks for inspection where any rule for the host does', () => {
    expect(decide(POLICY, to('rest.test'), CURL)).toMatchObject({ kind: 'allow', inspect: true });
  });

  test('asks for inspection of the hosts that a middleware is configured for', () => {
    const parsed = parsePolicyYaml(`version: 1
network_policies: { a: { endpoints: [{ host: a.test, port: 443 }, { host: b.test, port: 443 }], binaries: [{ path: "/**" }] } }
network_middlewares: { redact: { middleware: openshell/regex, config: { mode: redact }, endpoints: { include: ["**"], exclude: [b.test] } } }
`);
    const policy = parsed.ok ? compilePolicy(parsed.value, { generation: 1 }) : quarantined('unexpected', 1);
    expect(decide(policy, to('a.test'), CURL)).toMatchObject({ kind: 'allow', inspect: true });
    expect(decide(policy, to('b.test'), CURL)).toMatchObject({ kind: 'allow', inspect: false });
  });

  test('denies everything without rules and in quarantine', () => {
    const empty = compilePolicy(
      {
        version: 1,
        filesystem: undefined,
        landlock: 'best_effort',
        process: undefined,
        networkPolicies: {},
        networkMiddlewares: [],
      },
      { generation: 1 },
    );
    expect(decide(empty, to('a.test'), CURL)).toMatchObject({
      kind: 'deny',
      reason: 'the policy has no network rule',
    });
    expect(decide(quarantined('broken', 2), to('a.test'), CURL)).toMatchObject({
      kind: 'deny',
      reason: 'broken',
      generation: 2,
    });
  });
});

describe('where a grant may lead', () => {
  const rule = (fields: string, binaries = '[{ path: "/**" }]') =>
    `  a: { endpoints: [{ port: 443, ${fields} }], binaries: ${binaries} }`;
  test.each([
    ['an exact host', 'host: a.test', 'a.test', 'exact-host'],
    ['a wildcard', 'host: "*.a.test"', 'x.a.test', 'public-only'],
    ['an address', 'host: 10.0.0.1', '10.0.0.1', 'literal'],
    ['a host with ranges', 'host: a.test, allowed_ips: [10.0.0.0/8]', 'a.test', 'allowed-ips'],
    ['a wildcard with ranges', 'host: "*.a.test", allowed_ips: [10.0.0.0/8]', 'x.a.test', 'allowed-ips'],
    ['ranges alone', 'allowed_ips: [10.0.0.0/8]', 'whatever.test', 'allowed-ips'],
    ['ranges alone, for an address', 'allowed_ips: [10.0.0.0/8]', '10.0.0.1', 'allowed-ips'],
  ])('for %s', (_what, fields, host, kind) => {
    expect(granted(compile(rule(fields)), host).destination.kind).toBe(kind);
  });

  test('is trusted less far when an advisor proposed the endpoint, or the only binary that matches', () => {
    const proposed = (endpoint: boolean, ...binaries: readonly (readonly [string, boolean])[]) => {
      const policy = SandboxPolicy.fromPartial({
        version: 1,
        networkPolicies: {
          a: {
            endpoints: [{ host: 'a.test', port: 443, advisorProposed: endpoint }],
            binaries: binaries.map(([path, harness]) => ({ path, harness })),
          },
        },
      });
      const document = policyFromWire(policy);
      if (!document.ok) throw new Error(JSON.stringify(document.error));
      return granted(compilePolicy(document.value, { generation: 1 })).destination.kind;
    };
    expect(proposed(false, ['/bin/x', false])).toBe('exact-host');
    expect(proposed(true, ['/bin/x', false])).toBe('public-only');
    expect(proposed(false, ['/bin/x', true])).toBe('public-only');
    expect(proposed(false, ['/bin/x', true], ['/bin/*', false])).toBe('exact-host');
    expect(proposed(false, ['/bin/x', true], ['/bin/y', false])).toBe('public-only');
  });

  test('is the machine that runs the sandbox for its alias', () => {
    const hostGateways = new Map([['host.docker.internal', '169.254.1.2']]);
    const policy = compile(rule('host: host.docker.internal'), { hostGateways });
    expect(granted(policy, 'host.docker.internal').destination).toEqual({
      kind: 'host-gateway',
      address: '169.254.1.2',
    });
  });

  test('is no address that a wildcard happens to spell', () => {
    expect(decide(compile(rule('host: "*.0.0.*"')), to('10.0.0.1'), CURL).kind).toBe('deny');
    expect(decide(compile(rule('host: "*.a.b"')), to('x.a.b'), CURL).kind).toBe('allow');
  });
});

describe('a caller', () => {
  const rule = (binaries: string) =>
    `  a: { endpoints: [{ host: a.test, port: 443 }], binaries: ${binaries} }`;
  test('is known by the file behind a symbolic link as well', () => {
    const resolveBinary = (path: string) => (path === '/usr/bin/python3' ? '/usr/bin/python3.11' : undefined);
    const policy = compile(rule('[{ path: /usr/bin/python3 }]'), { resolveBinary });
    expect(decide(policy, to('a.test'), caller('/usr/bin/python3.11')).kind).toBe('allow');
    expect(decide(policy, to('a.test'), caller('/usr/bin/python3')).kind).toBe('allow');
    expect(decide(policy, to('a.test'), caller('/usr/bin/python3.12')).kind).toBe('deny');
  });

  test('is never known by its command line', () => {
    const policy = compile(rule('[{ path: /opt/tool }]'));
    const disguised = { ...caller('/usr/bin/python3'), cmdline: ['/opt/tool', '--password=secret'] };
    const decision = decide(policy, to('a.test'), disguised);
    expect(decision).toMatchObject({
      kind: 'deny',
      policy: 'a',
      rule: 'network_policies.a.endpoints[0]',
      reason: expect.stringContaining('which runs /opt/tool'),
    });
    expect(JSON.stringify(decision)).not.toContain('secret');
  });

  test('does not matter where callers cannot be told apart', () => {
    const policy = compile(rule('[]'), { relaxedIdentity: true });
    expect(granted(policy).destination.kind).toBe('exact-host');
    expect(decide(policy, to('b.test'), CURL).kind).toBe('deny');
  });
});

describe('credentials in a connection', () => {
  const guard = (fields: Record<string, unknown>) => {
    const policy = SandboxPolicy.fromPartial({
      version: 1,
      networkPolicies: {
        a: { endpoints: [{ host: 'a.test', port: 443, ...fields }], binaries: [{ path: '/**' }] },
      },
    });
    const document = policyFromWire(policy);
    if (!document.ok) throw new Error(JSON.stringify(document.error));
    return granted(compilePolicy(document.value, { generation: 1 })).credentials;
  };
  test.each([
    [{}, 'free'],
    [{ providerCredentialed: true }, 'refuse'],
    [{ providerCredentialed: true, protocol: 'rest', access: 'full' }, 'inspect-only'],
    [{ providerCredentialed: true, tls: 'skip' }, 'refuse'],
    [{ providerCredentialed: true, protocol: 'sql', access: 'full' }, 'refuse'],
    [{ providerCredentialed: true, allowUninspectedCredentials: true }, 'free'],
  ])('with %j: %s', (fields, expected) => {
    expect(guard(fields)).toBe(expected);
  });
});

describe('a grant', () => {
  test('carries every endpoint of every rule that matches, what tls is, and the middlewares in order', () => {
    const document = documentOf(
      `  b: { endpoints: [{ host: a.test, port: 443, tls: skip }], binaries: [{ path: "/**" }] }
  a: { endpoints: [{ host: "*.test.example", port: 443 }, { host: a.test, ports: [80, 443], tls: skip }], binaries: [{ path: "/bin/*" }] }
  c: { endpoints: [{ host: a.test, port: 443, tls: skip }], binaries: [{ path: "/other" }] }`,
      `network_middlewares:
  second: { middleware: m, order: 2, on_error: fail_open, endpoints: { include: ["**"] } }
  first: { middleware: m, order: 1, on_error: fail_open, endpoints: { include: [a.test] } }
  other: { middleware: m, order: 0, on_error: fail_open, endpoints: { include: [b.test] } }`,
    );
    const grant = granted(compilePolicy(document, { generation: 7 }));
    expect(grant).toMatchObject({
      policy: 'a',
      rule: 'network_policies.a.endpoints[1]',
      generation: 7,
      tls: 'skip',
      inspect: true,
    });
    expect(grant.endpoints.map(({ place }) => place)).toEqual([
      'network_policies.a.endpoints[1]',
      'network_policies.b.endpoints[0]',
    ]);
    expect(grant.middlewares.map(({ config }) => config.key)).toEqual(['first', 'second']);
  });

  test('of sql is not inspected', () => {
    const policy = compile(
      '  a: { endpoints: [{ host: a.test, port: 443, protocol: sql, access: full }], binaries: [{ path: "/**" }] }',
    );
    expect(granted(policy).inspect).toBe(false);
  });
});

/** Hosts, ports and binaries that are few enough to meet. */
const host = fc.constantFrom('a.x.test', 'b.x.test', 'a.b.x.test', 'x.test', 'y.test', '10.0.0.1');
const pattern = fc.constantFrom(
  'a.x.test',
  'x.test',
  '*.x.test',
  '**.x.test',
  'a*.x.test',
  '*.b.x.test',
  '10.0.0.1',
);
const path = fc.constantFrom('/bin/a', '/bin/b', '/opt/a', '/opt/x/a');
const glob = fc.constantFrom('/bin/a', '/bin/*', '/opt/**', '/opt/*', '/bin/b');
const rules = fc.array(
  fc.record({
    hosts: fc.array(pattern, { minLength: 1, maxLength: 3 }),
    ports: fc.subarray([80, 443], { minLength: 1 }),
    binaries: fc.array(glob, { maxLength: 3 }),
  }),
  { maxLength: 6 },
);

test('a decision agrees with trying every endpoint of every rule', () => {
  fc.assert(
    fc.property(
      rules,
      host,
      fc.constantFrom(80, 443),
      path,
      fc.array(path, { maxLength: 2 }),
      (all, name, port, binary, ancestors) => {
        const networkPolicies = Object.fromEntries(
          all.map(({ hosts, ports, binaries }, index) => [
            `r${index}`,
            {
              name: `r${index}`,
              endpoints: hosts.map((one) => ({ ...BLANK_ENDPOINT, host: one, ports })),
              binaries: binaries.map((one) => ({ path: one, advisorProposed: false })),
            },
          ]),
        );
        const policy = compilePolicy({ ...RESTRICTIVE_DEFAULT, networkPolicies }, { generation: 1 });
        const expected = all.flatMap(({ hosts, ports, binaries }, index) =>
          ports.includes(port) &&
          binaries.some((one) => [binary, ...ancestors].some(compileBinaryPattern(one)))
            ? hosts.flatMap((one, at) =>
                compileHostPattern(one)(name) && (one === name || name !== '10.0.0.1')
                  ? [`network_policies.r${index}.endpoints[${at}]`]
                  : [],
              )
            : [],
        );
        const decision = decide(policy, to(name, port), caller(binary, ...ancestors));
        const places = decision.kind === 'allow' ? decision.endpoints.map(({ place }) => place) : [];
        expect(places.toSorted()).toEqual(expected.toSorted());
      },
    ),
    { numRuns: 2000 },
  );
});
