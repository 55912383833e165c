import { describe, expect, test } from 'vitest';
import type { BodyFacts, GraphqlOperation } from '../../supervisor/policy/request.ts';
import { routeRequest } from '../../supervisor/policy/request-decision.ts';
import { ask, caller, compile, granted, grantOf } from './grants.ts';

const AT = 'network_policies.a.endpoints[0]';
const rest = (rules: string, more = '') =>
  grantOf(`protocol: rest, enforcement: enforce, rules: [${rules}]${more}`);

describe('a rest request', () => {
  const grant = rest(
    '{allow: {method: GET, path: "/repos/*"}}, {allow: {method: post, path: "/q/**", query: {page: "*", tag: {any: ["v1.*", x]}}}}',
    ', deny_rules: [{method: "*", path: "/repos/secret"}, {method: POST, path: "/q/**", query: {tag: "v1.0"}}]',
  );
  test.each([
    ['GET /repos/a', 'allow', `${AT}.rules[0]`],
    ['HEAD /repos/a', 'allow', `${AT}.rules[0]`], // the same without a body
    ['get /repos/a', 'allow', `${AT}.rules[0]`],
    ['GET /repos/a?page=1', 'allow', `${AT}.rules[0]`], // keys that no rule names do not matter
    ['GET /repos/a/b', 'deny', undefined],
    ['POST /repos/a', 'deny', undefined],
    ['WEBSOCKET_TEXT /repos/a', 'deny', undefined],
    ['POST /q/x?page=1&tag=v1.2', 'allow', `${AT}.rules[1]`],
    ['POST /q/x?page=1&tag=v1.2&tag=x', 'allow', `${AT}.rules[1]`],
    ['POST /q/x?page=1&tag=v1.2&tag=y', 'deny', undefined], // every value must match
    ['POST /q/x?tag=v1.2', 'deny', undefined], // every named key must be there
    ['POST /q/x?page=1&tag=v1.2.3', 'deny', undefined], // * does not cross a dot
    ['GET /repos/secret', 'deny', `${AT}.deny_rules[0]`],
    ['HEAD /repos/secret', 'deny', `${AT}.deny_rules[0]`],
    ['POST /q/x?page=1&tag=x&tag=v1.0', 'deny', `${AT}.deny_rules[1]`], // any value is enough to deny
  ])('%s: %s', (line, kind, rule) => {
    expect(ask(grant, line)).toMatchObject({ kind, rule, policy: 'a', generation: 4 });
  });

  test('gets a reason that names it and the rule', () => {
    expect(ask(grant, 'PUT /repos/a').reason).toBe('PUT /repos/a is allowed by no rule');
    expect(ask(grant, 'PUT /repos/secret').reason).toBe(`PUT /repos/secret is denied by ${AT}.deny_rules[0]`);
    expect(ask(grant, 'GET /repos/a').reason).toBe(`allowed by ${AT}.rules[0]`);
  });

  test('needs a rule with both method and path', () => {
    const half = rest('{allow: {method: GET}}, {allow: {path: "/x"}}, {allow: {method: GET, path: /y}}');
    expect(ask(half, 'GET /x').kind).toBe('deny');
    expect(ask(half, 'GET /y').kind).toBe('allow');
    const denying = grantOf(
      'protocol: rest, enforcement: enforce, access: full, deny_rules: [{method: GET}]',
    );
    expect(ask(denying, 'GET /x').kind).toBe('allow');
  });
});

describe('a preset', () => {
  test.each([
    ['rest', 'read-only', ['GET', 'HEAD', 'OPTIONS'], ['POST', 'PUT', 'PATCH', 'DELETE', 'TRACE']],
    [
      'rest',
      'read-write',
      ['GET', 'HEAD', 'OPTIONS', 'POST', 'PUT', 'PATCH'],
      ['DELETE', 'WEBSOCKET_TEXT', 'PROPFIND'],
    ],
    ['rest', 'full', ['GET', 'DELETE', 'PROPFIND'], []],
    ['websocket', 'read-only', ['GET'], ['WEBSOCKET_TEXT', 'POST']],
    ['websocket', 'read-write', ['GET', 'WEBSOCKET_TEXT'], ['POST']],
    ['websocket', 'full', ['GET', 'WEBSOCKET_TEXT', 'POST'], []],
  ])('of %s, %s, allows and denies methods', (protocol, access, allowed, denied) => {
    const grant = grantOf(`protocol: ${protocol}, enforcement: enforce, access: ${access}`);
    for (const method of allowed)
      expect(ask(grant, `${method} /any/path`)).toMatchObject({ kind: 'allow', rule: `${AT}.access` });
    for (const method of denied) expect(ask(grant, `${method} /any/path`).kind).toBe('deny');
  });

  test.each([
    ['read-only', ['query'], ['mutation', 'subscription']],
    ['read-write', ['query', 'mutation'], ['subscription']],
    ['full', ['query', 'mutation', 'subscription'], []],
  ] as const)('of graphql, %s, allows and denies operations', (access, allowed, denied) => {
    const grant = grantOf(`protocol: graphql, enforcement: enforce, access: ${access}`);
    for (const type of allowed) expect(ask(grant, 'POST /g', graphql({ type })).kind).toBe('allow');
    for (const type of denied) expect(ask(grant, 'POST /g', graphql({ type })).kind).toBe('deny');
  });
});

describe('audit', () => {
  const grant = grantOf(
    'protocol: rest, rules: [{allow: {method: GET, path: "/a"}}], deny_rules: [{method: GET, path: "/b"}]',
  );
  test('lets a denied request pass and says what would have been', () => {
    expect(ask(grant, 'GET /x')).toMatchObject({ kind: 'audit', reason: 'GET /x is allowed by no rule' });
    expect(ask(grant, 'GET /b')).toMatchObject({ kind: 'audit', rule: `${AT}.deny_rules[0]` });
    expect(ask(grant, 'GET /a').kind).toBe('allow');
  });

  test.each<[string, string, string, BodyFacts]>([
    ['what cannot be parsed', 'protocol: rest, access: full', 'POST /', { kind: 'malformed', error: 'no' }],
    [
      'GraphQL that cannot be parsed',
      'protocol: graphql, access: full',
      'POST /',
      { kind: 'malformed', error: 'no' },
    ],
    [
      'JSON-RPC responses',
      'protocol: json-rpc, rules: [{allow: {method: "*"}}]',
      'POST /',
      { kind: 'json-rpc', calls: [], hasResponse: true },
    ],
    [
      'an empty JSON-RPC body',
      'protocol: json-rpc, rules: [{allow: {method: "*"}}]',
      'POST /',
      { kind: 'json-rpc', calls: [], hasResponse: false },
    ],
    ['an encoded slash that is not allowed', 'protocol: rest, access: full', 'GET /a%2Fb', { kind: 'none' }],
    [
      'a tool name out of shape',
      'protocol: mcp, mcp: {allow_all_known_mcp_methods: true}',
      'POST /',
      { kind: 'json-rpc', calls: [{ method: 'tools/call', tool: 'a b' }], hasResponse: false },
    ],
    [
      'a path that no endpoint covers',
      'protocol: rest, access: full, path: "/v1/**"',
      'GET /v2',
      { kind: 'none' },
    ],
  ])('still blocks %s', (_what, fields, line, body) => {
    expect(ask(grantOf(fields), line, body).kind).toBe('deny');
  });
});

const graphql = (...operations: readonly Partial<GraphqlOperation>[]): BodyFacts => ({
  kind: 'graphql',
  operations: operations.map((one) => ({ type: 'query', name: '', fields: ['viewer'], ...one })),
});

describe('a GraphQL request', () => {
  const grant = grantOf(
    'protocol: graphql, enforcement: enforce, rules: [{allow: {operation_type: query, fields: [viewer, "repo*"]}}, {allow: {operation_type: mutation, operation_name: "Add*"}}, {allow: {operation_type: "*", fields: [ping]}}], deny_rules: [{operation_type: mutation, fields: [deleteRepo]}]',
  );
  test.each<[string, BodyFacts, string, string | undefined]>([
    ['fields that all match', graphql({ fields: ['viewer', 'repository'] }), 'allow', `${AT}.rules[0]`],
    ['one field that does not', graphql({ fields: ['viewer', 'secrets'] }), 'deny', undefined],
    ['no field at all', graphql({ fields: [] }), 'deny', undefined],
    ['a name that matches', graphql({ type: 'mutation', name: 'AddStar' }), 'allow', `${AT}.rules[1]`],
    ['another name', graphql({ type: 'mutation', name: 'DropStar' }), 'deny', undefined],
    ['any type', graphql({ type: 'subscription', fields: ['ping'] }), 'allow', `${AT}.rules[2]`],
    ['operations that are all allowed', graphql({}, { fields: ['ping'] }), 'allow', `${AT}.rules[0]`],
    ['one operation that is not', graphql({}, { type: 'subscription' }), 'deny', undefined],
    [
      'any field that is denied',
      graphql({ type: 'mutation', name: 'AddAndDelete', fields: ['add', 'deleteRepo'] }),
      'deny',
      `${AT}.deny_rules[0]`,
    ],
    ['no operation', { kind: 'graphql', operations: [] }, 'deny', undefined],
    ['no GraphQL', { kind: 'none' }, 'deny', undefined],
  ])('with %s', (_what, body, kind, rule) => {
    expect(ask(grant, 'POST /graphql', body)).toMatchObject({ kind, rule });
  });

  test('is not let through by a broader rest endpoint, nor by a laxer one beside it', () => {
    const broader = grantOf(
      'protocol: rest, enforcement: enforce, access: full',
      'protocol: graphql, path: /graphql, enforcement: enforce, access: read-only',
    );
    expect(ask(broader, 'POST /graphql', graphql({ type: 'mutation' })).kind).toBe('deny');
    expect(ask(broader, 'POST /graphql', graphql({})).kind).toBe('allow');
    expect(ask(broader, 'POST /other').kind).toBe('allow');
    const laxer = grantOf(
      'protocol: graphql, path: /graphql, enforcement: enforce, access: read-only',
      'protocol: graphql, path: /graphql, enforcement: enforce, access: full',
    );
    expect(ask(laxer, 'POST /graphql', graphql({ type: 'mutation' })).kind).toBe('deny');
  });

  test('with a saved query is what the registry says it is', () => {
    const registry =
      'graphql_persisted_queries: {h1: {operation_type: query, fields: [viewer]}, h2: {operation_type: mutation, fields: [deleteRepo]}}';
    const fields = `protocol: graphql, enforcement: enforce, access: read-only, ${registry}`;
    const saved = (persisted: string) => graphql({ type: '', fields: [], persisted });
    const registered = grantOf(`${fields}, persisted_queries: allow_registered`);
    expect(ask(registered, 'POST /', saved('h1')).kind).toBe('allow');
    expect(ask(registered, 'POST /', saved('h2')).kind).toBe('deny');
    expect(ask(registered, 'POST /', saved('h3'))).toMatchObject({
      kind: 'deny',
      reason: 'the saved query h3 is not registered',
    });
    expect(ask(registered, 'POST /', saved('constructor')).kind).toBe('deny');
    expect(ask(grantOf(fields), 'POST /', saved('h1')).kind).toBe('deny');
  });
});

describe('a message on a websocket', () => {
  test('is text on the handshake’s path', () => {
    const grant = grantOf(
      'protocol: websocket, enforcement: enforce, rules: [{allow: {method: GET, path: "/ws/*"}}, {allow: {method: WEBSOCKET_TEXT, path: "/ws/chat"}}]',
    );
    expect(ask(grant, 'GET /ws/news').kind).toBe('allow');
    expect(ask(grant, 'WEBSOCKET_TEXT /ws/news').kind).toBe('deny');
    expect(ask(grant, 'WEBSOCKET_TEXT /ws/chat').kind).toBe('allow');
    expect(grant.endpoints[0]?.graphqlMessages).toBe(false);
  });

  test('is an operation where the endpoint names operations', () => {
    const grant = grantOf(
      'protocol: websocket, enforcement: enforce, rules: [{allow: {method: GET, path: "/ws"}}, {allow: {operation_type: subscription, fields: [news]}}]',
    );
    const operation = (field: string) => graphql({ type: 'subscription', fields: [field] });
    expect(grant.endpoints[0]?.graphqlMessages).toBe(true);
    expect(ask(grant, 'WEBSOCKET_TEXT /ws', operation('news')).kind).toBe('allow');
    expect(ask(grant, 'WEBSOCKET_TEXT /ws', operation('secrets')).kind).toBe('deny');
    expect(ask(grant, 'WEBSOCKET_TEXT /ws').kind).toBe('deny');
  });
});

const calls = (...methods: readonly (string | readonly [string, string])[]): BodyFacts => ({
  kind: 'json-rpc',
  calls: methods.map((one) => (typeof one === 'string' ? { method: one } : { method: one[0], tool: one[1] })),
  hasResponse: false,
});

describe('a JSON-RPC request', () => {
  const grant = grantOf(
    'protocol: json-rpc, enforcement: enforce, rules: [{allow: {method: eth_call}}, {allow: {method: eth_send}}], deny_rules: [{method: eth_send}]',
  );
  test.each<[string, string, BodyFacts, string]>([
    ['a method that is named', 'POST /', calls('eth_call'), 'allow'],
    ['another one', 'POST /', calls('eth_callx'), 'deny'],
    ['one that only differs in case', 'POST /', calls('ETH_CALL'), 'deny'],
    ['one that is denied as well', 'POST /', calls('eth_send'), 'deny'],
    ['a batch of allowed ones', 'POST /', calls('eth_call', 'eth_call'), 'allow'],
    ['a batch with one that is not', 'POST /', calls('eth_call', 'eth_sign'), 'deny'],
    ['another HTTP method', 'GET /', calls('eth_call'), 'deny'],
    ['no call', 'POST /', { kind: 'none' }, 'deny'],
    ['a stream', 'GET /', { kind: 'receive-stream' }, 'deny'],
  ])('with %s', (_what, line, body, kind) => {
    expect(ask(grant, line, body).kind).toBe(kind);
  });

  test('may name any method where the rule does', () => {
    const any = grantOf('protocol: json-rpc, enforcement: enforce, rules: [{allow: {method: "*"}}]');
    expect(ask(any, 'POST /', calls('a.b/c')).kind).toBe('allow');
  });

  test('is not let through by a broader rest endpoint', () => {
    const broader = grantOf(
      'protocol: rest, enforcement: enforce, access: full',
      'protocol: mcp, path: /mcp, enforcement: enforce, rules: [{allow: {method: initialize}}]',
    );
    expect(ask(broader, 'POST /mcp', calls('initialize')).kind).toBe('allow');
    expect(ask(broader, 'POST /mcp', calls('tools/list')).kind).toBe('deny');
  });
});

describe('an mcp request', () => {
  const open = 'mcp: {allow_all_known_mcp_methods: true}';
  test.each<[string, string, string, BodyFacts, string]>([
    ['a glob of methods', 'rules: [{allow: {method: "tools/*"}}]', 'POST /', calls('tools/list'), 'allow'],
    [
      'a method beside the glob',
      'rules: [{allow: {method: "tools/*"}}]',
      'POST /',
      calls('initialize'),
      'deny',
    ],
    ['any method when all are allowed', open, 'POST /', calls('initialize', 'x.y'), 'allow'],
    ['any tool when all are allowed', open, 'POST /', calls(['tools/call', 'rm']), 'allow'],
    [
      'a tool that is named',
      `${open}, rules: [{allow: {tool: "read_*"}}]`,
      'POST /',
      calls(['tools/call', 'read_file']),
      'allow',
    ],
    [
      'a tool that is not, though all methods are allowed',
      `${open}, rules: [{allow: {tool: "read_*"}}]`,
      'POST /',
      calls(['tools/call', 'write_file']),
      'deny',
    ],
    [
      'another method beside named tools',
      `${open}, rules: [{allow: {tool: "read_*"}}]`,
      'POST /',
      calls('tools/list'),
      'allow',
    ],
    [
      'a tool that is denied',
      `${open}, deny_rules: [{tool: rm}]`,
      'POST /',
      calls(['tools/call', 'rm']),
      'deny',
    ],
    ['one beside it', `${open}, deny_rules: [{tool: rm}]`, 'POST /', calls(['tools/call', 'ls']), 'allow'],
    [
      'a batch with a denied tool',
      `${open}, deny_rules: [{tool: rm}]`,
      'POST /',
      calls('initialize', ['tools/call', 'rm']),
      'deny',
    ],
    ['a response', open, 'POST /', { kind: 'json-rpc', calls: [], hasResponse: true }, 'allow'],
    ['a stream', open, 'GET /', { kind: 'receive-stream' }, 'allow'],
    ['a stream by another method', open, 'POST /', { kind: 'receive-stream' }, 'deny'],
    ['a GET that is none', open, 'GET /', { kind: 'none' }, 'deny'],
    ['a tool with a blank', open, 'POST /', calls(['tools/call', 'r m']), 'deny'],
    [
      'a tool with a blank where names are not strict',
      'mcp: {allow_all_known_mcp_methods: true, strict_tool_names: false}',
      'POST /',
      calls(['tools/call', 'r m']),
      'allow',
    ],
  ])('with %s', (_what, fields, line, body, kind) => {
    expect(ask(grantOf(`protocol: mcp, enforcement: enforce, ${fields}`), line, body).kind).toBe(kind);
  });
});

describe('several endpoints on one host', () => {
  const grant = grantOf(
    'protocol: rest, enforcement: enforce, access: read-only',
    'protocol: rest, path: "/api/**", access: read-only',
    'protocol: rest, path: "/api/admin/**", enforcement: enforce, allow_encoded_slash: true, rules: [{allow: {method: POST, path: "/api/admin/**"}}], deny_rules: [{method: GET, path: "**"}]',
  );
  test.each([
    ['/', 0],
    ['/api', 1],
    ['/api/x', 1],
    ['/api/admin', 2],
    ['/api/admin/x/y', 2],
  ])('%s belongs to the most specific one', (path, index) => {
    expect(routeRequest(grant, path)?.place).toBe(`network_policies.a.endpoints[${index}]`);
  });

  test('take the enforcement and the encoded slash from the most specific, and rules from all', () => {
    expect(ask(grant, 'POST /x').kind).toBe('deny');
    expect(ask(grant, 'POST /api/x').kind).toBe('audit');
    expect(ask(grant, 'POST /api/admin/x').kind).toBe('allow');
    expect(ask(grant, 'POST /api/admin/a%2Fb').kind).toBe('allow');
    expect(ask(grant, 'POST /api/a%2Fb').kind).toBe('deny');
    // The preset of the broader ones allows it, and the deny rule of the narrower beats them.
    expect(ask(grant, 'GET /api/admin/x')).toMatchObject({
      kind: 'deny',
      rule: 'network_policies.a.endpoints[2].deny_rules[0]',
    });
    expect(ask(grant, 'GET /api/x').kind).toBe('allow');
  });

  test('of rules that do not name the caller do not count', () => {
    const policy =
      compile(`  a: { endpoints: [{ host: a.test, port: 443, protocol: rest, enforcement: enforce, access: read-only }], binaries: [{ path: /bin/a }] }
  b: { endpoints: [{ host: a.test, port: 443, protocol: rest, enforcement: enforce, access: full }], binaries: [{ path: /bin/b }] }`);
    expect(ask(granted(policy, 'a.test', 443, caller('/bin/a')), 'POST /').kind).toBe('deny');
    expect(ask(granted(policy, 'a.test', 443, caller('/bin/b')), 'POST /').kind).toBe('allow');
    expect(ask(granted(policy, 'a.test', 443, caller('/bin/a', '/bin/b')), 'POST /')).toMatchObject({
      kind: 'allow',
      policy: 'b',
    });
  });
});

test('a request where no endpoint is inspected is not decided on', () => {
  expect(ask(grantOf('tls: skip'), 'DELETE /x')).toMatchObject({ kind: 'allow', rule: AT });
});
