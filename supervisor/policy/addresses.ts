import { err, ok, type Result } from '../result.ts';
import type { DestinationRule, IpRange } from './intent.ts';

/** A parsed address: its family and its value as an unsigned integer of that family's width. */
export interface IpAddress {
  readonly family: 4 | 6;
  readonly value: bigint;
}

/** Strict dotted-decimal IPv4: four parts of 0..255 without leading zeros. No octal, hex or short forms. */
export function parseIpv4(text: string): bigint | undefined {
  const parts = text.split('.');
  if (parts.length !== 4) return undefined;
  let value = 0n;
  for (const part of parts) {
    if (!/^(0|[1-9]\d{0,2})$/.test(part) || Number(part) > 255) return undefined;
    value = (value << 8n) | BigInt(part);
  }
  return value;
}

/** IPv6 text as in RFC 4291 section 2.2, without zone and without brackets. */
export function parseIpv6(text: string): bigint | undefined {
  const halves = text.split('::');
  if (halves.length > 2 || text.length > 45) return undefined;
  const groups = (half: string): bigint[] | undefined => {
    if (half === '') return [];
    const result: bigint[] = [];
    const parts = half.split(':');
    for (const [index, part] of parts.entries()) {
      if (part.includes('.')) {
        const embedded = index === parts.length - 1 ? parseIpv4(part) : undefined;
        if (embedded === undefined) return undefined;
        result.push(embedded >> 16n, embedded & 0xffffn);
      } else {
        if (!/^[0-9a-fA-F]{1,4}$/.test(part)) return undefined;
        result.push(BigInt(`0x${part}`));
      }
    }
    return result;
  };
  const head = groups(halves[0] ?? '');
  const tail = halves.length === 2 ? groups(halves[1] ?? '') : [];
  if (head === undefined || tail === undefined) return undefined;
  const missing = 8 - head.length - tail.length;
  if (halves.length === 2 ? missing < 1 : missing !== 0) return undefined;
  if (halves.length === 2 && halves[0]?.includes('.')) return undefined;
  const all = [...head, ...Array<bigint>(missing).fill(0n), ...tail];
  return all.reduce((value, group) => (value << 16n) | group, 0n);
}

/** Parses either family; `undefined` when the text is no address literal. */
export function parseIp(text: string): IpAddress | undefined {
  const v4 = parseIpv4(text);
  if (v4 !== undefined) return { family: 4, value: v4 };
  const v6 = text.includes(':') ? parseIpv6(text) : undefined;
  return v6 === undefined ? undefined : { family: 6, value: v6 };
}

/** Parses an address or a CIDR block; `undefined` when it is neither. Host bits are ignored. */
export function parseRange(text: string): IpRange | undefined {
  const [address = '', bits, ...rest] = text.split('/');
  const ip = parseIp(address);
  if (ip === undefined || rest.length > 0) return undefined;
  const width = ip.family === 4 ? 32 : 128;
  if (bits !== undefined && !/^(0|[1-9]\d{0,2})$/.test(bits)) return undefined;
  const length = bits === undefined ? width : Number(bits);
  if (length > width) return undefined;
  return { family: ip.family, base: networkOf(ip.value, width, length), bits: length };
}

const networkOf = (value: bigint, width: number, bits: number): bigint =>
  (value >> BigInt(width - bits)) << BigInt(width - bits);

export function inRange(ip: IpAddress, range: IpRange): boolean {
  const width = ip.family === 4 ? 32 : 128;
  return ip.family === range.family && networkOf(ip.value, width, range.bits) === range.base;
}

const ranges = (...texts: string[]): readonly IpRange[] =>
  texts.map((text) => {
    const range = parseRange(text);
    if (range === undefined) throw new Error(`not a range: ${text}`);
    return range;
  });

const BLOCKED = ranges(
  '127.0.0.0/8',
  '169.254.0.0/16',
  '0.0.0.0/8',
  '224.0.0.0/4',
  '::/128',
  '::1/128',
  'fe80::/10',
  'ff00::/8',
);
const INTERNAL = ranges(
  '10.0.0.0/8',
  '172.16.0.0/12',
  '192.168.0.0/16',
  '100.64.0.0/10',
  '192.0.0.0/24',
  '192.0.2.0/24',
  '198.18.0.0/15',
  '198.51.100.0/24',
  '203.0.113.0/24',
  '240.0.0.0/4',
  'fc00::/7',
  'fec0::/10',
  '2001:db8::/32',
);

/** Embeddings of an IPv4 address in an IPv6 one, with how far to shift to find it, and whether inverted. */
const EMBEDDED: readonly { readonly range: IpRange; readonly shift: bigint; readonly inverted?: boolean }[] =
  [
    { range: ranges('::ffff:0:0/96')[0] as IpRange, shift: 0n }, // mapped, RFC 4291 2.5.5.2
    { range: ranges('::/96')[0] as IpRange, shift: 0n }, // compatible, RFC 4291 2.5.5.1
    { range: ranges('64:ff9b::/96')[0] as IpRange, shift: 0n }, // NAT64, RFC 6052
    { range: ranges('64:ff9b:1::/48')[0] as IpRange, shift: 0n }, // local NAT64, RFC 8215
    { range: ranges('2002::/16')[0] as IpRange, shift: 80n }, // 6to4, RFC 3056
    { range: ranges('2001::/32')[0] as IpRange, shift: 0n, inverted: true }, // Teredo, RFC 4380
  ];

export type AddressClass = 'blocked' | 'internal' | 'public';

/** Classifies an address, and what it embeds: the worse of the two counts. */
export function classifyAddress(ip: IpAddress): AddressClass {
  if (BLOCKED.some((range) => inRange(ip, range))) return 'blocked';
  for (const { range, shift, inverted } of EMBEDDED) {
    if (ip.family === 4 || !inRange(ip, range)) continue;
    const low = (ip.value >> shift) & 0xffffffffn;
    return classifyAddress({ family: 4, value: inverted ? low ^ 0xffffffffn : low });
  }
  return INTERNAL.some((range) => inRange(ip, range)) ? 'internal' : 'public';
}

/** Control planes that nothing in a sandbox has business with (contract.md, 7.6). */
const CONTROL_PORTS: ReadonlySet<number> = new Set([2379, 2380, 6443, 10250, 10255]);

/** The cloud's metadata service: never, whatever names it. */
const METADATA = parseIpv4('169.254.169.254');

/** Whether a granted endpoint may be dialled at this address; the error says why not. */
export function judgeAddress(rule: DestinationRule, address: string, port: number): Result<void, string> {
  const parsed = parseIp(address);
  if (parsed === undefined) return err(`${address} is not an address`);
  const ip = unmapped(parsed);
  if (rule.kind !== 'public-only' && CONTROL_PORTS.has(port))
    return err(`port ${port} belongs to a cluster's control plane`);
  if (rule.kind === 'host-gateway')
    return ip.value !== METADATA && isSame(rule.address, ip)
      ? ok(undefined)
      : err(`${address} is not the address of the machine that runs the sandbox`);
  const kind = classifyAddress(ip);
  if (kind === 'blocked')
    return err(`${address} is a loopback, link-local, multicast or unspecified address`);
  switch (rule.kind) {
    case 'allowed-ips':
      if (rule.fault !== undefined) return err(rule.fault);
      return rule.ranges.some((range) => inRange(ip, range))
        ? ok(undefined)
        : err(`${address} is outside the endpoint's allowed_ips`);
    case 'literal':
      return isSame(rule.address, ip)
        ? ok(undefined)
        : err(`${address} is not the address that the policy names`);
    case 'exact-host':
      return ok(undefined);
    case 'public-only':
      return kind === 'public'
        ? ok(undefined)
        : err(`${address} is an internal address; name the host exactly or list it in allowed_ips`);
  }
}

/** `::ffff:a.b.c.d` is `a.b.c.d` to the kernel, and so to every range of IPv4. */
const unmapped = (ip: IpAddress): IpAddress =>
  ip.family === 6 && ip.value >> 32n === 0xffffn ? { family: 4, value: ip.value & 0xffffffffn } : ip;

function isSame(text: string, ip: IpAddress): boolean {
  const other = parseIp(text);
  return other !== undefined && sameAddress(unmapped(other), ip);
}

const sameAddress = (a: IpAddress, b: IpAddress): boolean => a.family === b.family && a.value === b.value;

/** Whether no address of a range can ever be dialled. */
export function isBlockedRange(range: IpRange): boolean {
  return BLOCKED.some((blocked) => blocked.bits <= range.bits && inRange(startOf(range), blocked));
}

const startOf = (range: IpRange): IpAddress => ({ family: range.family, value: range.base });

/** Whether a range is broader than a /16: more than somebody means who lists addresses. */
export const isBroadRange = (range: IpRange): boolean => range.bits < 16;

/** What `allowed_ips` grants; an entry that is no range, or can never be dialled, grants nothing at all. */
export function allowedIps(texts: readonly string[]): DestinationRule {
  const ranges: IpRange[] = [];
  for (const text of texts) {
    const range = parseRange(text.trim());
    if (range === undefined || isBlockedRange(range))
      return {
        kind: 'allowed-ips',
        ranges: [],
        fault: `the entry ${text} of allowed_ips can never be allowed, so none of them is`,
      };
    ranges.push(range);
  }
  return { kind: 'allowed-ips', ranges };
}

/** Whether a host looks like a number to inet_aton(3), well-formed or not: its last label is one. */
export function isAddressLike(host: string): boolean {
  const last = host.slice(host.lastIndexOf('.') + 1);
  const first = last.charCodeAt(0);
  return first >= 48 && first <= 57 && /^(\d+|0x[0-9a-f]*)$/i.test(last);
}

/**
 * What inet_aton(3) takes a host for that is no address in our own, strict spelling: octal, hexadecimal,
 * short and dotless forms. Undefined when it is a name, or an address as it should be written.
 */
export function disguisedAddress(host: string): string | undefined {
  if (!isAddressLike(host) || parseIpv4(host) !== undefined) return undefined;
  const parts = host.split('.').map((part) => {
    if (/^0x[0-9a-f]+$/i.test(part)) return BigInt(part);
    if (/^0[0-7]+$/.test(part)) return BigInt(`0o${part.slice(1)}`);
    return /^(0|[1-9]\d*)$/.test(part) ? BigInt(part) : undefined;
  });
  const last = parts.pop();
  if (last === undefined || parts.length > 3 || host.length > 64) return 'no address';
  let value = 0n;
  for (const part of parts) {
    if (part === undefined || part > 255n) return 'no address';
    value = (value << 8n) | part;
  }
  const rest = BigInt(8 * (4 - parts.length));
  return last >> rest === 0n ? ipv4Text((value << rest) | last) : 'no address';
}

const ipv4Text = (value: bigint): string =>
  [24n, 16n, 8n, 0n].map((shift) => String((value >> shift) & 0xffn)).join('.');

/** The names by which a container finds the machine that runs it. */
const HOST_ALIASES = ['host.openshell.internal', 'host.containers.internal', 'host.docker.internal'];

/**
 * The machine that runs the sandbox, by alias, from the text of `/etc/hosts` at start (contract.md, 7.6):
 * only link-local addresses count, and the metadata service never.
 */
export function hostGateways(hosts: string): ReadonlyMap<string, string> {
  const gateways = new Map<string, string>();
  for (const line of hosts.split('\n')) {
    const [address = '', ...names] = (line.split('#', 1)[0] ?? '').trim().split(/\s+/);
    const ip = parseIp(address);
    if (ip === undefined || ip.value === METADATA || !LINK_LOCAL.some((range) => inRange(ip, range)))
      continue;
    for (const name of names) {
      const alias = name.toLowerCase();
      if (HOST_ALIASES.includes(alias) && !gateways.has(alias)) gateways.set(alias, address);
    }
  }
  return gateways;
}

const LINK_LOCAL = ranges('169.254.0.0/16', 'fe80::/10');
