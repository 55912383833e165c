import { describe, expect, test } from 'vitest';
import { describeFault } from '../../supervisor/policy/fault.ts';
import { policyWarnings } from '../../supervisor/policy/warnings.ts';
import { parsePolicyYaml } from '../../supervisor/policy/yaml.ts';
import { endpoint, faults } from './documents.ts';

describe('a policy', () => {
  test.each([
    [
      'tcp with request rules',
      endpoint('{host: a.test, port: 80, protocol: tcp, access: full, path: /x, enforcement: enforce}'),
      /access.*means nothing where protocol is tcp[\s\S]*path.*means nothing/,
    ],
    ['tcp without a host', endpoint('{port: 80, protocol: tcp, allowed_ips: [10.0.0.1]}'), /host.*needed/],
    [
      'a protocol without rules',
      endpoint('{host: a.test, port: 80, protocol: rest}'),
      /needs rules or access/,
    ],
    ['an unknown protocol', endpoint('{host: a.test, port: 80, protocol: quic}'), /protocol.*"quic"/],
    [
      'rules that allow nothing',
      endpoint('{host: a.test, port: 80, protocol: rest, rules: [{allow: {}}]}'),
      /rules \(line 5, column 50\): allow nothing/,
    ],
    [
      'an empty list of rules',
      endpoint('{host: a.test, port: 80, protocol: rest, rules: []}'),
      /rules.*must not be empty/,
    ],
    [
      'an empty list of deny rules',
      endpoint('{host: a.test, port: 80, protocol: rest, access: full, deny_rules: []}'),
      /deny_rules.*must not be empty/,
    ],
    [
      'a glob that is not closed',
      endpoint('{host: a.test, port: 80, protocol: rest, rules: [{allow: {method: GET, path: "/{a"}}]}'),
      /rules\[0\]\.allow\.path \(line 5, column \d+\): has a \{ without its \}/,
    ],
    [
      'a query glob that is not closed',
      endpoint(
        '{host: a.test, port: 80, protocol: rest, rules: [{allow: {method: GET, path: /, query: {k: {any: ["[a"]}}}}]}',
      ),
      /allow\.query\.k .*: has a \[ without its \]/,
    ],
    [
      'a matcher that is none',
      endpoint(
        '{host: a.test, port: 80, protocol: rest, rules: [{allow: {method: GET, path: /, query: {k: {all: [x]}}}}]}',
      ),
      /allow\.query\.k\.(all|any)/,
    ],
    [
      'an endpoint path without a slash',
      endpoint('{host: a.test, port: 80, protocol: rest, access: full, path: v1}'),
      /path.*begin with a slash/,
    ],
    ['a wildcard over addresses', endpoint('{host: "10.*.0.1", port: 80}'), /wildcard over addresses/],
    ['a brace in a host', endpoint('{host: "{a,b}.x.test", port: 80}'), /braces/],
    ['a blank in a host', endpoint('{host: "a .test", port: 80}'), /blanks/],
    ['an empty label in a host', endpoint('{host: "a..test", port: 80}'), /empty label/],
    ['half a wildcard in a later label', endpoint('{host: "a.b*.x.test", port: 80}'), /whole label/],
    [
      'signing without a service',
      endpoint('{host: a.test, port: 80, protocol: rest, access: full, credential_signing: sigv4}'),
      /signing_service.*needed/,
    ],
    [
      'signing and a rewritten body',
      endpoint(
        '{host: a.test, port: 80, protocol: rest, access: full, credential_signing: sigv4, signing_service: s3, request_body_credential_rewrite: true}',
      ),
      /request_body_credential_rewrite.*excludes/,
    ],
    [
      'an unknown signing',
      endpoint('{host: a.test, port: 80, protocol: rest, access: full, credential_signing: sigv5}'),
      /credential_signing.*sigv5/,
    ],
    [
      'mcp options elsewhere',
      endpoint('{host: a.test, port: 80, protocol: rest, access: full, mcp: {strict_tool_names: true}}'),
      /mcp.*protocol mcp alone/,
    ],
    ['mcp without rules', endpoint('{host: a.test, port: 80, protocol: mcp}'), /protocol.*needs rules/],
    [
      'mcp with a preset',
      endpoint('{host: a.test, port: 80, protocol: mcp, access: full}'),
      /access.*means nothing to mcp/,
    ],
    [
      'an mcp glob outside tools/',
      endpoint('{host: a.test, port: 80, protocol: mcp, rules: [{allow: {method: "resources/*"}}]}'),
      /method.*within tools/,
    ],
    [
      'an mcp tool with another method',
      endpoint('{host: a.test, port: 80, protocol: mcp, rules: [{allow: {method: tools/list, tool: x}}]}'),
      /method.*tools\/call/,
    ],
    [
      'an mcp rule without a method',
      endpoint('{host: a.test, port: 80, protocol: mcp, rules: [{allow: {tool: x}}]}'),
      /method.*allow_all_known_mcp_methods/,
    ],
    [
      'a tool glob without strict names',
      endpoint(
        '{host: a.test, port: 80, protocol: mcp, mcp: {strict_tool_names: false}, rules: [{allow: {method: tools/call, tool: "x*"}}]}',
      ),
      /tool.*strict_tool_names/,
    ],
    [
      'tool and params.name',
      endpoint(
        '{host: a.test, port: 80, protocol: mcp, rules: [{allow: {method: tools/call, tool: x, params: {name: y}}}]}',
      ),
      /tool.*keep one/,
    ],
    [
      'arguments of tools',
      endpoint(
        '{host: a.test, port: 80, protocol: mcp, rules: [{allow: {method: tools/call, params: {arguments: {path: x}}}}]}',
      ),
      /params.*arguments\.path/,
    ],
    [
      'a rule that undoes the others’ tools',
      endpoint(
        '{host: a.test, port: 80, protocol: mcp, rules: [{allow: {method: tools/call, tool: x}}, {allow: {method: "tools/*"}}]}',
      ),
      /rules\[1\]\.allow\.method.*every tool call/,
    ],
    [
      'a json-rpc glob',
      endpoint('{host: a.test, port: 80, protocol: json-rpc, rules: [{allow: {method: "eth_*"}}]}'),
      /method.*not a glob/,
    ],
    [
      'json-rpc params',
      endpoint('{host: a.test, port: 80, protocol: json-rpc, rules: [{allow: {method: x, params: {a: b}}}]}'),
      /params.*mcp alone/,
    ],
    [
      'a json-rpc path',
      endpoint('{host: a.test, port: 80, protocol: json-rpc, rules: [{allow: {method: x, path: /a}}]}'),
      /path.*JSON-RPC/,
    ],
    [
      'a tool elsewhere',
      endpoint('{host: a.test, port: 80, protocol: rest, rules: [{allow: {method: GET, path: /, tool: x}}]}'),
      /tool.*mcp alone/,
    ],
    [
      'a graphql rule without its type',
      endpoint('{host: a.test, port: 80, protocol: graphql, rules: [{allow: {fields: [a]}}]}'),
      /operation_type.*query, mutation, subscription/,
    ],
    [
      'a saved query without its type',
      endpoint(
        '{host: a.test, port: 80, protocol: graphql, access: full, graphql_persisted_queries: {h: {fields: [a]}}}',
      ),
      /graphql_persisted_queries\.h\.operation_type/,
    ],
    [
      'websocket rules that name both',
      endpoint(
        '{host: a.test, port: 80, protocol: websocket, rules: [{allow: {method: GET, path: /, operation_type: query}}]}',
      ),
      /must not name method/,
    ],
    [
      'websocket text beside operations',
      endpoint(
        '{host: a.test, port: 80, protocol: websocket, rules: [{allow: {operation_type: query}}, {allow: {method: WEBSOCKET_TEXT, path: "**"}}]}',
      ),
      /WEBSOCKET_TEXT would let/,
    ],
    [
      'a binding without a provider',
      endpoint('{host: a.test, port: 80, credential_binding: {provider: ""}}'),
      /provider.*empty/,
    ],
    [
      'what only the gateway sets',
      endpoint('{host: a.test, port: 80, advisor_proposed: true}'),
      /advisor_proposed.*not a key/,
    ],
    [
      'a limit that is no number',
      endpoint('{host: a.test, port: 80, protocol: graphql, access: full, graphql_max_body_bytes: -1}'),
      /graphql_max_body_bytes/,
    ],
    [
      'a name that JavaScript keeps',
      'version: 1\nnetwork_policies: {__proto__: {}}',
      /network_policies\.__proto__ \(line 2, column 20\): cannot be used/,
    ],
    [
      'a middleware without a selector',
      'version: 1\nnetwork_middlewares: {m: {middleware: x}}',
      /^network_middlewares\.m\.endpoints .*needed/,
    ],
    [
      'a middleware that selects nothing',
      'version: 1\nnetwork_middlewares: {m: {middleware: x, endpoints: {include: []}}}',
      /include.*at least one/,
    ],
    [
      'middlewares of the same order',
      'version: 1\nnetwork_middlewares:\n  m: {middleware: x, order: 3, endpoints: {include: [a.test]}}\n  n: {middleware: x, order: 3, endpoints: {include: [b.test]}}',
      /^network_middlewares\.n\.order \(line 4, column 22\): is 3, as that of m/,
    ],
    [
      'an unknown on_error',
      'version: 1\nnetwork_middlewares: {m: {middleware: x, on_error: shrug, endpoints: {include: [a.test]}}}',
      /on_error/,
    ],
    [
      'too many middlewares',
      `version: 1\nnetwork_middlewares:\n${Array.from({ length: 11 }, (_, index) => `  m${index}: {middleware: x, order: ${index}, endpoints: {include: [a.test]}}`).join('\n')}`,
      /^network_middlewares .*more than 10/,
    ],
    [
      'too many patterns of a middleware',
      `version: 1\nnetwork_middlewares: {m: {middleware: x, endpoints: {include: [${Array(33).fill('a.test').join(', ')}]}}}`,
      /more than 32 patterns/,
    ],
    [
      'a middleware that fails closed before an endpoint that skips TLS',
      `${endpoint('{host: x.a.test, port: 443, tls: skip}')}network_middlewares: {m: {middleware: x, endpoints: {include: ["*.a.test"], exclude: [y.a.test]}}}`,
      /endpoints\[0\]\.tls .*fails closed/,
    ],
  ])('with %s is refused at its place', (_what, text, expected) => {
    expect(faults(text).join('\n')).toMatch(expected);
  });
});

describe('a warning', () => {
  const warnings = (text: string) => {
    const read = parsePolicyYaml(text);
    if (!read.ok) throw new Error(read.error.map(describeFault).join('\n'));
    return policyWarnings(read.value).map(describeFault).join('\n');
  };
  test.each([
    ['a rule without binaries', endpoint('{host: a.test, port: 80}'), /names no binaries/],
    [
      'a broad range',
      endpoint('{port: 80, allowed_ips: [10.0.0.0/8]}'),
      /allowed_ips\[0\]: is broader than a \/16/,
    ],
    [
      'a range that is never allowed',
      endpoint('{port: 80, allowed_ips: [127.0.0.0/30]}'),
      /can never be allowed/,
    ],
    [
      'a deprecated tls',
      endpoint('{host: a.test, port: 80, tls: terminate}'),
      /tls: tls: terminate means nothing/,
    ],
    [
      'a rule that matches nothing',
      endpoint('{host: a.test, port: 80, protocol: rest, access: full, deny_rules: [{method: GET}]}'),
      /deny_rules\[0\]: matches nothing/,
    ],
    [
      'an odd method',
      endpoint('{host: a.test, port: 80, protocol: rest, rules: [{allow: {method: GTE, path: /}}]}'),
      /method GTE/,
    ],
    [
      'a name that the gateway keeps',
      'version: 1\nnetwork_policies: {_provider_x: {binaries: [{path: /x}]}}',
      /_provider_/,
    ],
  ])('is given for %s', (_what, text, expected) => {
    expect(warnings(text)).toMatch(expected);
  });
});
