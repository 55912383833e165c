import * as fc from 'fast-check';
import { describe, expect, test, vi } from 'vitest';
import { findAmbiguities } from '../../supervisor/policy/ambiguity.ts';
import { BLANK_ENDPOINT, type Endpoint } from '../../supervisor/policy/document.ts';
import { hostsOverlap } from '../../supervisor/policy/host-pattern.ts';
import { RESTRICTIVE_DEFAULT } from '../../supervisor/policy/restrictive-default.ts';
import { faults } from './documents.ts';

// Thousands of cases, on a machine that may be busy.
vi.setConfig({ testTimeout: 60_000 });

describe('a policy', () => {
  const pair = (first: string, second: string) =>
    `version: 1\nnetwork_policies:\n  a: { endpoints: [{ ${first} }] }\n  b: { endpoints: [{ ${second} }] }\n`;
  const REST = 'protocol: rest, access: full';
  test.each([
    ['tls', 'host: a.x.test, port: 443, tls: skip', 'host: "*.x.test", ports: [80, 443]', 'tls'],
    ['tcp', 'host: a.test, port: 1, protocol: tcp', 'host: a.test, port: 1', 'protocol (tcp or not)'],
    ['ranges', 'host: a.test, port: 1, allowed_ips: [10.0.0.1]', 'host: A.test, port: 1', 'allowed_ips'],
    ['ranges of any host', 'port: 1, allowed_ips: [10.0.0.1]', 'host: a.test, port: 1', 'allowed_ips'],
    [
      'enforcement',
      `host: a.test, port: 1, ${REST}`,
      `host: a.test, port: 1, ${REST}, enforcement: enforce`,
      'enforcement',
    ],
    [
      'two wildcards',
      `host: "a*.x.test", port: 1, ${REST}`,
      `host: "*b.x.test", port: 1, ${REST}, allow_encoded_slash: true`,
      'allow_encoded_slash',
    ],
    [
      'protocols',
      `host: a.test, port: 1, ${REST}`,
      'host: a.test, port: 1, protocol: graphql, access: full',
      'protocol',
    ],
    [
      'equally specific paths',
      `host: a.test, port: 1, path: "/a*/b", ${REST}`,
      `host: a.test, port: 1, path: "/a/*b", ${REST}, request_body_credential_rewrite: true`,
      'request_body_credential_rewrite',
    ],
    [
      'bindings',
      'host: a.test, port: 1, credential_binding: {provider: p}',
      'host: a.test, port: 1, credential_binding: {provider: q}',
      'credential_binding',
    ],
    [
      'limits',
      'host: a.test, port: 1, protocol: graphql, access: full',
      'host: a.test, port: 1, protocol: graphql, access: full, graphql_max_body_bytes: 7',
      'graphql_max_body_bytes',
    ],
    [
      'tool names',
      'host: a.test, port: 1, protocol: mcp, mcp: {allow_all_known_mcp_methods: true}',
      'host: a.test, port: 1, protocol: mcp, mcp: {allow_all_known_mcp_methods: true, strict_tool_names: false}',
      'mcp.strict_tool_names',
    ],
  ])('whose endpoints overlap and differ in %s is refused', (_what, first, second, differs) => {
    expect(faults(pair(first, second))).toEqual([
      `network_policies.b.endpoints[0] (line 4, column 20): differs in ${differs} from network_policies.a.endpoints[0], which covers the same host and port`,
    ]);
  });

  test.each([
    ['another port', 'host: a.test, port: 1, tls: skip', 'host: a.test, port: 2'],
    ['another host', 'host: "*.a.test", port: 1, tls: skip', 'host: "*.b.test", port: 1'],
    ['a deeper host', 'host: "*.a.test", port: 1, tls: skip', 'host: x.y.a.test, port: 1'],
    [
      'a more specific path',
      `host: a.test, port: 1, path: "/a/**", ${REST}`,
      `host: a.test, port: 1, ${REST}, enforcement: enforce`,
    ],
    [
      'another path',
      `host: a.test, port: 1, path: "/a/**", ${REST}`,
      `host: a.test, port: 1, path: "/b/**", ${REST}, enforcement: enforce`,
    ],
    [
      'no more than a plain endpoint',
      'host: a.test, port: 1',
      `host: a.test, port: 1, ${REST}, enforcement: enforce`,
    ],
    [
      'nothing but rules',
      `host: a.test, port: 1, ${REST}`,
      'host: a.test, port: 1, protocol: rest, access: read-only',
    ],
    [
      'the same ranges, written otherwise',
      'host: a.test, port: 1, allowed_ips: [FD00::1, 10.0.0.1]',
      'host: a.test, port: 1, allowed_ips: [10.0.0.1, "fd00::1 "]',
    ],
  ])('whose endpoints differ in %s is valid', (_what, first, second) => {
    expect(faults(pair(first, second))).toEqual([]);
  });

  test('is searched for overlaps as if every pair were compared', () => {
    const endpoints = fc.array(
      fc.record({
        host: fc.constantFrom(
          '',
          'x.test',
          'a.x.test',
          '*.x.test',
          '**.x.test',
          'a.*.test',
          '*.b.x.test',
          'b.x.test',
          'a.b.x.test',
          '*.y.*',
        ),
        ports: fc.subarray([1, 2], { minLength: 1 }),
        tls: fc.constantFrom<Endpoint['tls']>('auto', 'skip'),
      }),
      { maxLength: 8 },
    );
    fc.assert(
      fc.property(endpoints, (all) => {
        const placed = all.map((fields) => ({ ...BLANK_ENDPOINT, ...fields }));
        const document = {
          ...RESTRICTIVE_DEFAULT,
          networkPolicies: { a: { name: 'a', endpoints: placed, binaries: [] } },
        };
        const expected = placed.flatMap((second, index) =>
          placed
            .slice(0, index)
            .some(
              (first) =>
                first.tls !== second.tls &&
                first.ports.some((port) => second.ports.includes(port)) &&
                hostsOverlap(first.host, second.host),
            )
            ? [`network_policies.a.endpoints[${index}]`]
            : [],
        );
        expect(findAmbiguities(document).map(({ path }) => path)).toEqual(expected);
      }),
      { numRuns: 3000 },
    );
  });
});
