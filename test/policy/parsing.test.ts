import * as fc from 'fast-check';
import { describe, expect, test, vi } from 'vitest';
import { parse, stringify } from 'yaml';
import { compilePolicy } from '../../supervisor/policy/compilation.ts';
import { describeFault, type PolicyFault } from '../../supervisor/policy/fault.ts';
import { parsePolicyYaml } from '../../supervisor/policy/yaml.ts';
import { EVERYTHING, endpoint, faults } from './documents.ts';

// Thousands of cases, on a machine that may be busy.
vi.setConfig({ testTimeout: 60_000 });

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
      'a whole document of something else',
      `some words ${'x'.repeat(5_000)}`,
      /^the document .* must be a mapping, is "some words x{1,80}…$/,
    ],
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

  test('is told all of its faults at once, of shape and of meaning', () => {
    const text = `version: 1
filesystem_policy: { read_only: [relative, 7] }
network_policies:
  a: { endpoints: [{ host: "*", prot: x }, { host: b.test, port: 80, tls: 3 }] }
  b: { endpoints: [{ host: c.test, port: 0 }], binaries: [{ path: curl }] }
`;
    expect(faults(text).map((fault) => fault.replace(/: .*/, ''))).toEqual([
      'filesystem_policy.read_only[0] (line 2, column 34)',
      'filesystem_policy.read_only[1] (line 2, column 44)',
      'network_policies.a.endpoints[0].port (line 4, column 20)',
      'network_policies.a.endpoints[0].host (line 4, column 22)',
      'network_policies.a.endpoints[0].prot (line 4, column 33)',
      'network_policies.a.endpoints[1].tls (line 4, column 70)',
      'network_policies.b.endpoints[0].port (line 5, column 36)',
      'network_policies.b.binaries[0].path (line 5, column 61)',
    ]);
  });

  test('is read with everything that the schema knows', () => {
    const parsed = parsePolicyYaml(EVERYTHING);
    expect(parsed.ok ? parsed.value.networkPolicies['git.hub'] : parsed.error).toMatchObject({
      name: 'GitHub',
      binaries: [{ path: '/usr/bin/git', advisorProposed: false }],
      endpoints: [
        {
          host: 'api.github.test',
          ports: [443, 8443],
          protocol: 'rest',
          enforcement: 'enforce',
          allowEncodedSlash: true,
          path: '/api/**',
          requestBodyCredentialRewrite: true,
          websocketCredentialRewrite: true,
          credentialBinding: 'gh',
          allowUninspectedCredentials: true,
          rules: [{ method: 'GET', path: '/**', query: { a: ['x'], b: ['y', 'z'] } }],
          denyRules: [{ method: '*', path: '/api/secret' }],
        },
        {
          protocol: 'graphql',
          persistedQueries: 'allow_registered',
          graphqlPersistedQueries: { h1: { operationType: 'query', operationName: 'Q', fields: ['f'] } },
          graphqlMaxBodyBytes: 1000,
          rules: [{ operationType: 'query', operationName: 'Q*', fields: ['f', 'g*'] }],
        },
        {
          protocol: 'mcp',
          jsonRpcMaxBodyBytes: 2000,
          mcp: { strictToolNames: true, allowAllKnownMethods: true },
          rules: [{ method: '', params: { name: ['read_*', 'list'] } }],
        },
        { protocol: 'json-rpc', jsonRpcMaxBodyBytes: 3000, rules: [{ method: 'eth_call' }] },
        { credentialSigning: 'sigv4:body', signingService: 's3', signingRegion: 'eu-1', tls: 'auto' },
        { host: '', allowedIps: ['10.0.0.0/8', 'fd00::/8'], jsonRpcMaxBodyBytes: 65_536 },
      ],
    });
    expect(parsed.ok && parsed.value.networkMiddlewares).toEqual([
      {
        key: 'redact',
        name: 'Redactor',
        middleware: 'openshell/regex',
        config: { mode: 'redact', deep: { list: [1, true, null, 'x'] } },
        onError: 'fail_open',
        include: ['**'],
        exclude: ['x.test'],
        order: -2,
      },
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

  test('that names the same again and again, or nests without end, is refused in bounded time', () => {
    const aliases = Array.from({ length: 90 }, (_, index) => `  r${index}: { endpoints: *a }`).join('\n');
    const endpoints = Array(3000).fill('{host: "*"}').join(',');
    expect(
      faults(`version: 1\nnetwork_policies:\n  r: { endpoints: &a [${endpoints}] }\n${aliases}`),
    ).toEqual([expect.stringContaining('expands to more than 200000')]);
    for (const text of ['['.repeat(100_000), `version: ${'['.repeat(1000)}${']'.repeat(1000)}`])
      expect(faults(text).length).toBeGreaterThan(0);
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

  test('that is changed anywhere is read, or refused with places, and never crashes the parser', () => {
    const whole: unknown = parse(EVERYTHING);
    const places = placesOf(whole, []);
    const odd = fc.oneof(
      fc.constantFrom<unknown>(
        undefined,
        null,
        {},
        [],
        '',
        'x',
        0,
        -1,
        1.5,
        70_000,
        true,
        [null],
        { any: [] },
        [[]],
      ),
      fc.jsonValue(),
    );
    fc.assert(
      fc.property(fc.constantFrom(...places), odd, (at, replacement) => {
        const text = stringify(replaced(structuredClone(whole), at, replacement));
        const read = parsePolicyYaml(text);
        if (read.ok) compilePolicy(read.value, { generation: 1 });
        else
          for (const { message, line, column } of read.error) {
            expect(message).toMatch(/^[a-zA-Z]/);
            expect([line, column], describeFault(read.error[0] as PolicyFault)).toEqual([
              expect.any(Number),
              expect.any(Number),
            ]);
          }
      }),
      { numRuns: 600 },
    );
  });
});

type Key = string | number;

/** Every place of a document, the leaves included, but not the whole. */
function placesOf(value: unknown, at: readonly Key[]): readonly (readonly Key[])[] {
  const inside: readonly (readonly [Key, unknown])[] = Array.isArray(value)
    ? [...value.entries()]
    : typeof value === 'object' && value !== null
      ? Object.entries(value)
      : [];
  return [
    ...(at.length === 0 ? [] : [at]),
    ...inside.flatMap(([key, inner]) => placesOf(inner, [...at, key])),
  ];
}

function replaced(root: unknown, at: readonly Key[], value: unknown): unknown {
  let holder = root as Record<Key, unknown>;
  for (const key of at.slice(0, -1)) holder = holder[key] as Record<Key, unknown>;
  const last = at.at(-1) as Key;
  if (value === undefined && !Array.isArray(holder)) delete holder[last];
  else holder[last] = value ?? null;
  return root;
}
