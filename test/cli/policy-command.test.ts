import { describe, expect, test } from 'vitest';
import { runPolicyCommand } from '../../supervisor/cli/policy-command.ts';
import { err, ok } from '../../supervisor/result.ts';

const POLICY = `version: 1
network_policies:
  github:
    endpoints:
      - host: api.github.test
        port: 443
        protocol: rest
        enforcement: enforce
        rules:
          - allow: { method: GET, path: "/repos/**" }
          - allow: { method: POST, path: "/q", query: { tag: "v1.*" } }
        deny_rules: [{ method: GET, path: "/repos/secret/**" }]
      - { host: "*.audit.test", port: 443, protocol: rest, access: read-only }
      - { host: gql.test, port: 443, protocol: graphql, enforcement: enforce, access: read-only }
      - { host: mcp.test, port: 443, protocol: mcp, enforcement: enforce, mcp: { allow_all_known_mcp_methods: true }, rules: [{ allow: { tool: "read_*" } }] }
    binaries: [{ path: /usr/bin/curl }]
  db:
    endpoints: [{ port: 5432, allowed_ips: [10.1.0.0/16] }, { host: raw.test, port: 443 }]
    binaries: [{ path: "/**" }]
`;

function run(argv: readonly string[], files: Readonly<Record<string, string>> = { 'p.yaml': POLICY }) {
  let out = '';
  let complaints = '';
  const code = runPolicyCommand(argv, {
    read: (path) => (files[path] === undefined ? err(`cannot read ${path}: ENOENT`) : ok(files[path])),
    out: (text) => {
      out += text;
    },
    complain: (text) => {
      complaints += text;
    },
  });
  return { code, out, complaints };
}

/** Explains with `--json`; fails unless exactly one object is printed, with the four keys in order. */
function explain(host: string, port: number, binary: string, ...more: readonly string[]) {
  const asked = ['--host', host, '--port', String(port), '--binary', binary, ...more, '--json'];
  const { code, out, complaints } = run(['explain', 'p.yaml', ...asked]);
  expect([code, complaints, out.split('\n').length]).toEqual([0, '', 2]);
  const answer = JSON.parse(out) as Record<string, unknown>;
  expect(Object.keys(answer)).toEqual(['decision', 'policy', 'rule', 'reason']);
  return answer;
}

const CURL = '/usr/bin/curl';
const GITHUB = 'network_policies.github.endpoints[0]';

describe('policy check', () => {
  test('summarises a valid policy', () => {
    expect(run(['check', 'p.yaml'])).toEqual({
      code: 0,
      out: 'p.yaml: valid: version 1, 2 network rules, 6 endpoints (4 with request rules), 0 middlewares\n',
      complaints: '',
    });
  });

  test('warns of what is probably not meant, with its place, and still calls it valid', () => {
    const text = 'version: 1\nnetwork_policies:\n  a: { endpoints: [{ host: a.test, port: 80 }] }\n';
    const { code, out } = run(['check', 'x'], { x: text });
    expect(code).toBe(0);
    expect(out).toContain(
      'warning: network_policies.a (line 3, column 3): names no binaries, so it lets nothing through\n',
    );
  });

  test('says every fault with its place', () => {
    const text = 'version: 1\nnope: 1\nnetwork_policies:\n  a: { endpoints: [{ host: "*", port: 80 }] }\n';
    expect(run(['check', 'x'], { x: text })).toEqual({
      code: 1,
      out: 'nope (line 2, column 1): is not a key of the policy schema\nnetwork_policies.a.endpoints[0].host (line 4, column 22): matches every host; name a domain\n',
      complaints: 'openshell-sandbox: x has 2 faults\n',
    });
  });

  test('says the same as JSON', () => {
    const { code, out } = run(['check', 'x', '--json'], { x: 'version: 0' });
    expect([code, JSON.parse(out)]).toEqual([
      1,
      {
        valid: false,
        faults: [{ path: 'version', line: 1, column: 1, message: 'must be a number from 1, is 0' }],
        warnings: [],
      },
    ]);
  });

  test('reads standard input for -', () => {
    expect(run(['check', '-'], { '-': POLICY }).code).toBe(0);
  });
});

describe('policy explain', () => {
  test.each([
    ['an allowed connection', 'api.github.test', 443, CURL, 'allow', 'github', GITHUB],
    ['the host in other spelling', 'API.GitHub.test.', 443, CURL, 'allow', 'github', GITHUB],
    ['another binary', 'api.github.test', 443, '/bin/nc', 'deny', 'github', GITHUB],
    ['an unknown host', 'evil.test', 443, CURL, 'deny', null, null],
    ['an address that is listed', '10.1.2.3', 5432, CURL, 'allow', 'db', 'network_policies.db.endpoints[0]'],
    ['an address that is not', '10.2.2.3', 5432, CURL, 'deny', 'db', 'network_policies.db.endpoints[0]'],
    ['loopback', '[::1]', 5432, CURL, 'deny', 'db', 'network_policies.db.endpoints[0]'],
    ['an address in disguise', '0x7f.1', 5432, CURL, 'deny', null, null],
    ['what the supervisor serves itself', 'inference.local', 443, CURL, 'allow', null, null],
  ])('judges %s', (_what, host, port, binary, decision, policy, rule) => {
    expect(explain(host, port, binary)).toMatchObject({ decision, policy, rule, reason: expect.any(String) });
  });

  test.each([
    ['GET', '/repos/a', 'allow', `${GITHUB}.rules[0]`],
    ['GET', '/repos/x/../secret/y', 'deny', `${GITHUB}.deny_rules[0]`],
    ['POST', '/q?tag=v1.2', 'allow', `${GITHUB}.rules[1]`],
    ['POST', '/q?tag=v2', 'deny', null],
    ['DELETE', '/repos/a', 'deny', null],
    ['GET', '/repos/%2e%2e/%2e%2e', 'deny', null],
    ['GET', 'repos', 'deny', null],
  ])('judges the request %s %s', (method, path, decision, rule) => {
    expect(explain('api.github.test', 443, CURL, '--method', method, '--path', path)).toMatchObject({
      decision,
      policy: 'github',
      rule,
    });
  });

  test('tells an audit from a denial', () => {
    expect(explain('x.audit.test', 443, CURL, '--method', 'POST', '--path', '/')).toMatchObject({
      decision: 'audit',
      policy: 'github',
    });
  });

  test('knows ancestors', () => {
    expect(
      explain('api.github.test', 443, '/bin/sh', '--ancestor', '/bin/a', '--ancestor', CURL),
    ).toMatchObject({
      decision: 'allow',
    });
  });

  test.each([
    ['gql.test', ['--operation-type', 'query', '--field', 'viewer'], 'allow'],
    ['gql.test', ['--operation-type', 'mutation'], 'deny'],
    ['gql.test', ['--method', 'POST', '--path', '/graphql'], 'deny'],
    ['mcp.test', ['--rpc-method', 'initialize'], 'allow'],
    ['mcp.test', ['--tool', 'read_file'], 'allow'],
    ['mcp.test', ['--tool', 'write_file'], 'deny'],
    ['mcp.test', ['--method', 'GET'], 'allow'],
    ['raw.test', ['--method', 'DELETE', '--path', '/x'], 'allow'],
  ])('judges what a body says: %s %j', (host, more, decision) => {
    expect(explain(host, 443, CURL, ...more)).toMatchObject({ decision });
  });

  test('is readable without --json', () => {
    const asked = ['--host', 'evil.test', '--port', '443', '--binary', CURL];
    expect(run(['explain', 'p.yaml', ...asked]).out).toBe(
      'deny\n  policy  -\n  rule    -\n  reason  no rule names evil.test:443\n',
    );
  });

  test('of an invalid policy says its faults instead', () => {
    const asked = ['--host', 'a.test', '--port', '1', '--binary', '/x', '--json'];
    expect(run(['explain', 'x', ...asked], { x: 'nope: 1' })).toMatchObject({
      code: 1,
      out: '',
      complaints: expect.stringContaining('nope (line 1, column 1): is not a key'),
    });
  });
});

describe('wrong usage', () => {
  const asked = ['--host', 'a.test', '--port', '1', '--binary', '/x'];
  test.each([
    [[], 'check or explain'],
    [['verify', 'p.yaml'], 'check or explain'],
    [['check'], 'FILE is missing'],
    [['check', 'a', 'b'], 'one FILE'],
    [['check', 'p.yaml', '--host', 'x'], 'host'],
    [['check', 'absent.yaml'], 'cannot read absent.yaml'],
    [['explain', 'p.yaml'], '--host is missing'],
    [['explain', 'p.yaml', '--host', 'a.test'], '--port is missing'],
    [['explain', 'p.yaml', '--host', 'a.test', '--port', '70000', '--binary', '/x'], '--port must be'],
    [['explain', 'p.yaml', '--host', 'a.test', '--port', 'https', '--binary', '/x'], '--port must be'],
    [['explain', 'p.yaml', '--host', 'a.test', '--port', '1'], '--binary is missing'],
    [['explain', 'p.yaml', ...asked, '--nope'], 'nope'],
    [['explain', 'p.yaml', ...asked, '--operation-type', 'x'], '--operation-type must be'],
    [['explain', 'p.yaml', ...asked, '--field', 'x'], 'need --operation-type'],
    [['explain', 'absent.yaml', ...asked], 'cannot read absent.yaml'],
  ])('%j ends with 2 and says why', (argv, why) => {
    const { code, out, complaints } = run(argv);
    expect([code, out]).toEqual([2, '']);
    expect(complaints).toContain(why);
  });

  test('is helped', () => {
    for (const argv of [['--help'], ['-h'], ['check', '--help']])
      expect(run(argv)).toMatchObject({ code: 0, out: expect.stringContaining('Usage: ') });
  });
});
