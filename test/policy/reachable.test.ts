import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { compilePolicy, quarantined } from '../../supervisor/policy/compilation.ts';
import { decide } from '../../supervisor/policy/decision.ts';
import { reachablePorts } from '../../supervisor/policy/reachable.ts';
import { parsePolicyYaml } from '../../supervisor/policy/yaml.ts';

const parsed = parsePolicyYaml(`version: 1
network_policies:
  exact:
    endpoints: [{ host: API.test, ports: [443, 80] }, { host: api.test, port: 22 }, { host: 10.0.0.1, port: 80 }]
    binaries: [{ path: /usr/bin/curl }]
  globs:
    endpoints: [{ host: "*.wild.test", port: 80 }, { host: "**.deep.test", port: 81 }, { host: "db-*.wild.test", port: 5432 }]
    binaries: [{ path: /usr/bin/psql }]
  networks:
    endpoints: [{ port: 9999, allowed_ips: [10.0.0.0/8] }]
    binaries: [{ path: /usr/bin/nc }]
`);
if (!parsed.ok) throw new Error(JSON.stringify(parsed.error));
const policy = compilePolicy(parsed.value, { generation: 1 });

describe('the ports at which a policy names a host', () => {
  test.each<[string, readonly number[]]>([
    ['api.test', [22, 80, 443]],
    ['a.wild.test', [80]],
    ['db-1.wild.test', [80, 5432]],
    ['a.b.wild.test', []],
    ['wild.test', []],
    ['a.deep.test', [81]],
    ['a.b.c.deep.test', [81]],
    ['deep.test', []],
    ['api.test.cluster.test', []],
    ['other.test', []],
    ['test', []],
    ['', []],
    ['10.0.0.1', []],
    ['10.1.2.3', []],
  ])('%j: %j', (host, ports) => {
    expect(reachablePorts(policy, host)).toEqual(ports);
  });
  test('are none while everything is denied', () => {
    expect(reachablePorts(quarantined('closed', 2), 'api.test')).toEqual([]);
  });
  test('are those at which some caller is granted the host by its name', () => {
    const part = fc.constantFrom('api', 'a', 'db-1', 'wild', 'deep', 'test', 'b');
    const host = fc.array(part, { minLength: 1, maxLength: 4 }).map((labels) => labels.join('.'));
    const port = fc.constantFrom(22, 80, 81, 443, 5432);
    fc.assert(
      fc.property(host, port, (name, at) => {
        const granted = ['/usr/bin/curl', '/usr/bin/psql'].some((binary) => {
          const caller = { pid: 1, binary, ancestors: [], cmdline: [] };
          return decide(policy, { host: name, port: at, via: 'transparent' }, caller).kind === 'allow';
        });
        expect(reachablePorts(policy, name).includes(at)).toBe(granted);
      }),
    );
  });
});
