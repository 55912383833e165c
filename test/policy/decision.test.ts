import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  classifyAddress,
  judgeAddress,
  parseIp,
  parseIpv4,
  parseIpv6,
  parseRange,
} from '../../supervisor/policy/addresses.ts';
import { compilePolicy, quarantined } from '../../supervisor/policy/compilation.ts';
import { decide } from '../../supervisor/policy/decision.ts';
import type { DestinationRule } from '../../supervisor/policy/intent.ts';
import { parsePolicyYaml } from '../../supervisor/policy/yaml.ts';

const compile = (rules: string) => {
  const parsed = parsePolicyYaml(`version: 1\nnetwork_policies:\n${rules}`);
  if (!parsed.ok) throw new Error(JSON.stringify(parsed.error));
  return compilePolicy(parsed.value, { generation: 4 });
};
const caller = (binary: string, ...ancestors: string[]) => ({ pid: 9, binary, ancestors, cmdline: [] });
const to = (host: string, port = 443) => ({ host, port, via: 'connect' as const });
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

describe('an address', () => {
  test.each([
    ['127.0.0.1', 'blocked'],
    ['127.64.0.5', 'blocked'],
    ['0.0.0.0', 'blocked'],
    ['169.254.169.254', 'blocked'],
    ['224.0.0.1', 'blocked'],
    ['::', 'blocked'],
    ['::1', 'blocked'],
    ['fe80::1', 'blocked'],
    ['ff02::1', 'blocked'],
    ['::ffff:127.0.0.1', 'blocked'],
    ['::127.0.0.1', 'blocked'],
    ['64:ff9b::169.254.169.254', 'blocked'],
    ['2002:7f00:1::', 'blocked'],
    ['2001:0:0:0:0:0:5601:5601', 'blocked'], // Teredo inverts the client's address: 169.254.169.254
    ['10.1.2.3', 'internal'],
    ['172.31.0.1', 'internal'],
    ['192.168.0.1', 'internal'],
    ['100.64.0.1', 'internal'],
    ['198.51.100.1', 'internal'],
    ['203.0.113.1', 'internal'],
    ['198.18.0.1', 'internal'],
    ['192.0.0.1', 'internal'],
    ['255.255.255.255', 'internal'],
    ['fd00::1', 'internal'],
    ['::ffff:10.0.0.1', 'internal'],
    ['64:ff9b:1::10.0.0.1', 'internal'],
    ['2002:0a00:1::', 'internal'],
    ['8.8.8.8', 'public'],
    ['172.32.0.1', 'public'],
    ['2606:4700::1', 'public'],
    ['::ffff:8.8.8.8', 'public'],
  ] as const)('%s is %s', (text, expected) => {
    const ip = parseIp(text);
    expect(ip && classifyAddress(ip)).toBe(expected);
  });

  const ranges = [parseRange('10.0.0.0/8'), parseRange('169.254.0.0/16')].filter(
    (range) => range !== undefined,
  );
  test.each<[DestinationRule, string, number, boolean]>([
    [{ kind: 'public-only' }, '8.8.8.8', 443, true],
    [{ kind: 'public-only' }, '10.0.0.1', 443, false],
    [{ kind: 'exact-host' }, '10.0.0.1', 443, true],
    [{ kind: 'exact-host' }, '127.0.0.1', 443, false],
    [{ kind: 'exact-host' }, '10.0.0.1', 6443, false],
    [{ kind: 'allowed-ips', ranges }, '10.200.0.1', 80, true],
    [{ kind: 'allowed-ips', ranges }, '8.8.8.8', 80, false],
    [{ kind: 'allowed-ips', ranges }, '169.254.169.254', 80, false],
    [{ kind: 'literal', address: '10.0.0.9' }, '10.0.0.9', 80, true],
    [{ kind: 'literal', address: '10.0.0.9' }, '10.0.0.8', 80, false],
    [{ kind: 'exact-host' }, 'not an address', 80, false],
  ])('is judged by the rule: %o %s:%i is %s', (rule, address, port, allowed) => {
    expect(judgeAddress(rule, address, port).ok).toBe(allowed);
  });

  test.each([
    '1.2.3',
    '1.2.3.4.5',
    '01.2.3.4',
    '256.1.1.1',
    '1.2.3.4 ',
    '0x1.2.3.4',
    '',
    ':::',
    '1::2::3',
    '12345::',
    '1:2:3:4:5:6:7:8:9',
    '::1.2.3',
    '1.2.3.4::',
  ])('%j is none', (text) => {
    expect(parseIp(text)).toBeUndefined();
  });

  test('is read as it was written', () => {
    fc.assert(
      fc.property(fc.ipV4(), (text) => {
        const value = parseIpv4(text);
        const back = [24n, 16n, 8n, 0n].map((shift) => Number(((value ?? 0n) >> shift) & 0xffn)).join('.');
        expect(back).toBe(text);
      }),
    );
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 0xffff }), { minLength: 8, maxLength: 8 }), (groups) => {
        const expected = groups.reduce((sum, group) => (sum << 16n) | BigInt(group), 0n);
        expect(parseIpv6(groups.map((group) => group.toString(16)).join(':'))).toBe(expected);
      }),
    );
    fc.assert(fc.property(fc.string(), (text) => void [parseIp(text), parseRange(text)]));
  });
});
