import * as fc from 'fast-check';
import { describe, expect, test, vi } from 'vitest';
import {
  allowedIps,
  classifyAddress,
  disguisedAddress,
  hostGateways,
  inRange,
  judgeAddress,
  parseIp,
  parseIpv4,
  parseIpv6,
  parseRange,
} from '../../supervisor/policy/addresses.ts';
import type { DestinationRule } from '../../supervisor/policy/intent.ts';

// Thousands of cases, on a machine that may be busy.
vi.setConfig({ testTimeout: 60_000 });

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

describe('a list of allowed addresses', () => {
  test.each([
    [['10.0.0.0/8'], '10.1.2.3', true],
    [['10.0.0.0/8'], '::ffff:10.1.2.3', true], // the kernel reaches the same machine
    [['10.0.0.5', 'fd00::/8'], 'fd12::1', true],
    [['10.0.0.5'], '10.0.0.6', false],
    [['0.0.0.0/0'], '8.8.8.8', true],
    [['0.0.0.0/0'], '127.0.0.1', false],
    [['0.0.0.0/0'], '169.254.169.254', false],
    [['::/0'], '::1', false],
    [['10.0.0.0/8', '127.0.0.1'], '10.0.0.1', false], // one entry that can never be spoils all
    [['10.0.0.0/8', '169.254.1.0/24'], '10.0.0.1', false],
    [['10.0.0.0/8', 'nonsense'], '10.0.0.1', false],
    [[' 10.0.0.0/8 '], '10.0.0.1', true],
  ])('%j and %s: %s', (texts, address, allowed) => {
    expect(judgeAddress(allowedIps(texts), address, 443).ok).toBe(allowed);
  });
});

describe('a host that is a number in disguise', () => {
  test.each([
    ['0177.0.0.1', '127.0.0.1'],
    ['0x7f.0.0.1', '127.0.0.1'],
    ['0x7f000001', '127.0.0.1'],
    ['2130706433', '127.0.0.1'],
    ['017700000001', '127.0.0.1'],
    ['127.1', '127.0.0.1'],
    ['10.258', '10.0.1.2'],
    ['0xA9.0376.43518', '169.254.169.254'],
    ['256.1.1.1', 'no address'],
    ['1.2.3.4.5', 'no address'],
    ['a.1', 'no address'],
    ['09.0.0.1', 'no address'],
    ['4294967296', 'no address'],
    ['127.0.0.1', undefined],
    ['::1', undefined],
    ['a.test', undefined],
    ['1.test', undefined],
    ['0x.test', undefined],
    ['3com', undefined],
    ['', undefined],
  ])('%s is %s', (host, expected) => {
    expect(disguisedAddress(host)).toBe(expected);
  });

  test('is found whatever its parts are', () => {
    const spell = (part: number): fc.Arbitrary<string> =>
      fc.constantFrom(String(part), `0x${part.toString(16)}`, `0${part.toString(8)}`);
    const disguises = fc
      .tuple(fc.nat(255), fc.nat(255), fc.nat(255), fc.nat(255))
      .chain((parts) =>
        fc.tuple(...parts.map(spell)).map((spelled) => [parts.join('.'), spelled.join('.')] as const),
      )
      .filter(([plain, disguised]) => plain !== disguised);
    fc.assert(
      fc.property(disguises, ([plain, disguised]) => {
        expect(disguisedAddress(disguised)).toBe(plain);
      }),
    );
  });
});

describe('the machine that runs the sandbox', () => {
  const hosts = `127.0.0.1 localhost
169.254.1.2\tHost.Containers.Internal host.docker.internal # comment
169.254.9.9 host.docker.internal
10.0.0.1 host.openshell.internal
fe80::1 other.internal
169.254.169.254 host.openshell.internal`;

  test('is known by its aliases, when they are link-local, and never as the metadata service', () => {
    expect([...hostGateways(hosts)]).toEqual([
      ['host.containers.internal', '169.254.1.2'],
      ['host.docker.internal', '169.254.1.2'],
    ]);
  });

  test.each([
    ['169.254.1.2', 80, true],
    ['::ffff:169.254.1.2', 80, true],
    ['169.254.1.3', 80, false],
    ['169.254.1.2', 6443, false],
  ])('may be dialled at %s:%i: %s', (address, port, allowed) => {
    expect(judgeAddress({ kind: 'host-gateway', address: '169.254.1.2' }, address, port).ok).toBe(allowed);
  });

  test('is never the metadata service, even if somebody says so', () => {
    const rule: DestinationRule = { kind: 'host-gateway', address: '169.254.169.254' };
    expect(judgeAddress(rule, '169.254.169.254', 80).ok).toBe(false);
  });
});

describe('a range', () => {
  test('holds what shares its first bits, compared as text', () => {
    fc.assert(
      fc.property(
        fc.nat(0xffffffff),
        fc.nat(0xffffffff),
        fc.integer({ min: 0, max: 32 }),
        (base, value, bits) => {
          const text = (n: number) => [24, 16, 8, 0].map((shift) => (n >>> shift) & 255).join('.');
          const binary = (n: number) => n.toString(2).padStart(32, '0');
          const range = parseRange(`${text(base)}/${bits}`);
          const ip = parseIp(text(value));
          expect(range && ip && inRange(ip, range)).toBe(
            binary(base).slice(0, bits) === binary(value).slice(0, bits),
          );
        },
      ),
    );
  });
});

describe('an address that embeds another one', () => {
  test('is as bad as what it embeds', () => {
    const hex = (octets: readonly number[], invert = false): string => {
      const [a = 0, b = 0, c = 0, d = 0] = octets.map((octet) => (invert ? octet ^ 255 : octet));
      return `${((a << 8) | b).toString(16)}:${((c << 8) | d).toString(16)}`;
    };
    const worst = ['public', 'internal', 'blocked'];
    fc.assert(
      fc.property(fc.tuple(fc.nat(255), fc.nat(255), fc.nat(255), fc.nat(255)), (octets) => {
        const plain = parseIp(octets.join('.'));
        const expected = plain && worst.indexOf(classifyAddress(plain));
        for (const text of [
          `::ffff:${hex(octets)}`,
          `64:ff9b::${hex(octets)}`,
          `64:ff9b:1::${hex(octets)}`,
          `2002:${hex(octets)}::1`,
          `2001:0:1234:5678:0:0:${hex(octets, true)}`,
        ]) {
          const ip = parseIp(text);
          expect(ip && worst.indexOf(classifyAddress(ip)), text).toBeGreaterThanOrEqual(expected ?? 3);
        }
      }),
    );
  });
});
