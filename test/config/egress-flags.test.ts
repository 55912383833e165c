import { describe, expect, test } from 'vitest';
import { parseCommandLine } from '../../supervisor/config.ts';
import { upstreamServers } from '../../supervisor/egress/resolver.ts';

const configOf = (...flags: readonly string[]) => {
  const parsed = parseCommandLine([...flags, '--', 'true'], {});
  if (!parsed.ok) throw parsed.error;
  if (parsed.value.kind !== 'run') throw new Error(parsed.value.kind);
  return parsed.value.config;
};

describe('--socks-port', () => {
  test('is 1080 unless given, and 0 is none', () => {
    expect(configOf().socksPort).toEqual({ port: 1080, given: false });
    expect(configOf('--socks-port', '9050').socksPort).toEqual({ port: 9050, given: true });
    expect(configOf('--socks-port', '0').socksPort).toEqual({ port: 0, given: true });
  });
  test.each(['-1', '65536', 'x'])('%s is none', (port) => {
    expect(() => configOf('--socks-port', port)).toThrow(/--socks-port/);
  });
});

describe('--upstream-dns', () => {
  test('takes addresses with commas between them', () => {
    expect(configOf().upstreamDns).toEqual([]);
    expect(configOf('--upstream-dns', '10.96.0.10, fd00::a').upstreamDns).toEqual(['10.96.0.10', 'fd00::a']);
  });
  test('takes no names', () => {
    expect(() => configOf('--upstream-dns', '10.96.0.10,dns.test')).toThrow(/"dns\.test" is none/);
  });
});

test.each<[string, readonly string[], string, readonly string[] | undefined]>([
  ['what was configured comes first', ['10.0.0.1'], 'nameserver 10.0.0.2', ['10.0.0.1']],
  ['what resolv.conf names is left to c-ares', [], 'nameserver 10.0.0.2\nnameserver 10.0.0.3', undefined],
  ['never ourselves when there is another', [], 'nameserver 127.0.0.1\nnameserver 10.0.0.2', ['10.0.0.2']],
  ['a local resolver that is the only one', [], 'nameserver 127.0.0.1', undefined],
  ['a local resolver at another address', [], 'nameserver 127.0.0.11', undefined],
])('name servers: %s', (_, configured, text, servers) => {
  expect(upstreamServers(configured, text)).toEqual(servers);
});
