import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { SandboxPolicy } from '../../proto/generated/openshell/sandbox/v1/sandbox.ts';
import { describeFault } from '../../supervisor/policy/fault.ts';
import { policyFromWire } from '../../supervisor/policy/wire.ts';
import { parsePolicyYaml } from '../../supervisor/policy/yaml.ts';

const faults = (text: string): readonly string[] => {
  const parsed = parsePolicyYaml(text);
  return parsed.ok ? [] : parsed.error.map(describeFault);
};
const endpoint = (fields: string) =>
  `version: 1\nnetwork_policies:\n  a:\n    endpoints:\n      - ${fields}\n`;
const AT = 'network_policies.a.endpoints[0]';

describe('a policy in YAML', () => {
  test.each([
    ['no version', 'network_policies: {}', /^version.*: is needed$/],
    [
      'an unknown key at the top',
      'version: 1\nnope: 1',
      /^nope \(line 2, column 1\): is not a key of the policy schema$/,
    ],
    [
      'an unknown key of an endpoint',
      endpoint('{host: a.test, port: 80, prot: tcp}'),
      /\.prot \(line 5, column 34\): is not a key/,
    ],
    ['a duplicate key', 'version: 1\nversion: 1', /^the document \(line 2, column 1\): .*unique/i],
    ['a text for a number', 'version: one', /^version \(line 1, column 1\): must be a number, is "one"$/],
    [
      'an unknown compatibility',
      'version: 1\nlandlock: {compatibility: maybe}',
      /^landlock\.compatibility .*best_effort/,
    ],
    [
      'a relative path',
      'version: 1\nfilesystem_policy:\n  read_only: [/a, b]',
      /^filesystem_policy\.read_only\[1\] \(line 3, column 19\): must be an absolute path/,
    ],
    ['a climbing path', 'version: 1\nfilesystem_policy: {read_write: [/a/../b]}', /must not climb/],
    ['a writable root', 'version: 1\nfilesystem_policy: {read_write: ["//"]}', /whole root writable/],
    ['the user root', 'version: 1\nprocess: {run_as_user: root}', /^process\.run_as_user .*root is refused/],
    ['the user 0', 'version: 1\nprocess: {run_as_group: 0}', /^process\.run_as_group/],
    ['an endpoint without a port', endpoint('{host: a.test}'), /\.port.*: is needed/],
    ['a port that is none', endpoint('{host: a.test, port: 70000}'), /\.port.*between 1 and 65535/],
    ['an endpoint without a host', endpoint('{port: 80}'), /\.host.*unless allowed_ips/],
    ['every host', endpoint('{host: "*", port: 80}'), /matches every host/],
    ['every host of a top-level domain', endpoint('{host: "*.com", port: 80}'), /too broad/],
    ['** behind the first label', endpoint('{host: "a.**.example.com", port: 80}'), /\*\*/],
    [
      'a hexadecimal address',
      endpoint('{host: "0x7f000001", port: 80}'),
      /no address in dotted-decimal form/,
    ],
    ['a short address', endpoint('{host: "127.1", port: 80}'), /no address in dotted-decimal form/],
    [
      'an allowed_ips that is none',
      endpoint('{host: a.test, port: 80, allowed_ips: [10.0.0.0/33]}'),
      /allowed_ips\[0\]/,
    ],
    [
      'rules beside access',
      endpoint(
        '{host: a.test, port: 80, protocol: rest, access: full, rules: [{allow: {method: GET, path: /}}]}',
      ),
      /rules.*excludes access/,
    ],
    [
      'rules without a protocol',
      endpoint('{host: a.test, port: 80, rules: [{allow: {method: GET, path: /}}]}'),
      /protocol.*must name/,
    ],
    [
      'deny_rules without a base',
      endpoint('{host: a.test, port: 80, protocol: rest, deny_rules: [{method: GET, path: /}]}'),
      /deny_rules.*needs rules/,
    ],
    [
      'sql that enforces',
      endpoint('{host: a.test, port: 80, protocol: sql, enforcement: enforce}'),
      /enforcement.*sql/,
    ],
    ['tcp to an address', endpoint('{host: 10.0.0.1, port: 80, protocol: tcp}'), /host.*DNS name/],
    [
      'inspection with tls skip',
      endpoint('{host: a.test, port: 443, protocol: rest, tls: skip}'),
      /tls.*skip/,
    ],
    [
      'a binary that is not a path',
      'version: 1\nnetwork_policies: {a: {binaries: [{path: curl}]}}',
      /binaries\[0\]\.path/,
    ],
  ])('with %s is refused at its place', (_what, text, expected) => {
    expect(faults(text).join('\n')).toMatch(expected);
  });

  test('whose endpoints overlap must agree on what is done with the connection', () => {
    const text = `version: 1
network_policies:
  a: { endpoints: [{ host: a.example.com, port: 443, tls: skip }] }
  b: { endpoints: [{ host: "*.example.com", ports: [80, 443] }] }
`;
    expect(faults(text)).toEqual([
      'network_policies.b.endpoints[0] (line 4, column 20): differs in tls from network_policies.a.endpoints[0], which covers the same host and port',
    ]);
  });

  test('that is too large or expands without end is refused before it is read', () => {
    expect(faults(`version: 1 #${'x'.repeat(262_144)}`)).toEqual([
      expect.stringContaining('larger than 262144 bytes'),
    ]);
    const bomb = ['a: &a [x,x,x,x,x,x,x,x,x]'];
    for (let i = 0; i < 8; i++)
      bomb.push(
        `b${i}: &b${i} [${Array(9)
          .fill(i === 0 ? '*a' : `*b${i - 1}`)
          .join(',')}]`,
      );
    expect(faults(bomb.join('\n'))).toHaveLength(1);
  });

  test('never makes the parser throw', () => {
    fc.assert(fc.property(fc.string(), (text) => void parsePolicyYaml(text)));
    fc.assert(fc.property(fc.json(), (text) => void parsePolicyYaml(text)));
    fc.assert(
      fc.property(
        fc.dictionary(
          fc.constantFrom('version', 'process', 'landlock', 'network_policies', 'filesystem_policy'),
          fc.jsonValue(),
        ),
        (value) => void parsePolicyYaml(JSON.stringify(value)),
      ),
    );
  });
});

describe('a policy on the wire', () => {
  const wire = (fields: Record<string, unknown>) =>
    policyFromWire(
      SandboxPolicy.fromPartial({
        version: 1,
        networkPolicies: { a: { endpoints: [{ host: 'a.test', port: 80, ...fields }] } },
      }),
    );

  test('means the same as in YAML', () => {
    const yaml = parsePolicyYaml(
      endpoint('{host: "*.a.example", ports: [80, 81], allowed_ips: [10.0.0.0/8]}'),
    );
    const same = wire({ host: '*.a.example', port: 80, ports: [80, 81], allowedIps: ['10.0.0.0/8'] });
    expect(same.ok && yaml.ok && same.value.networkPolicies).toEqual(yaml.ok && yaml.value.networkPolicies);
  });

  test.each([
    [{ protocol: 'quic' }, `${AT}.protocol`],
    [{ protocol: 'opaque' }, `${AT}.protocol`],
    [{ tls: 'maybe' }, `${AT}.tls`],
    [{ access: 'some' }, `${AT}.access`],
  ])('with a word that this version does not know is refused, never weakened: %j', (fields, path) => {
    expect(wire(fields)).toMatchObject({
      ok: false,
      error: expect.arrayContaining([expect.objectContaining({ path })]),
    });
  });
});
