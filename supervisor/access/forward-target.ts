import { isIPv4, isIPv6 } from 'node:net';
import { err, ok, type Result } from '../result.ts';

/** Where a forwarded connection may go: an address of the sandbox's own loopback. */
export interface ForwardTarget {
  readonly host: string;
  readonly port: number;
}

/**
 * Judges where a client wants to be forwarded to: `localhost` or a literal loopback address, and no port of the
 * supervisor itself, whose proxy would take a person for the workload. 127.64.0.0/10 are the supervisor's own
 * listeners too: addresses that stand for names of the policy.
 */
export function judgeForward(
  host: string,
  port: number,
  reservedPorts: ReadonlySet<number>,
): Result<ForwardTarget, string> {
  if (!Number.isInteger(port) || port < 1 || port > 65_535) return err(`${port} is no port`);
  const address = loopbackOf(host);
  if (address === undefined) return err('only loopback addresses of the sandbox can be forwarded to');
  if (isIPv4(address) && (Number(address.split('.')[1]) & 0xc0) === 64)
    return err('127.64.0.0/10 stands for names outside the sandbox');
  if (reservedPorts.has(port)) return err(`port ${port} is the supervisor's own`);
  return ok({ host: address, port });
}

/** The loopback address that a host is, in its plain form; undefined when it is none. */
function loopbackOf(host: string): string | undefined {
  if (host.toLowerCase() === 'localhost') return '127.0.0.1';
  if (isIPv4(host)) return host.startsWith('127.') ? host : undefined;
  if (!isIPv6(host) || host.includes('%')) return undefined;
  const plain = new URL(`http://[${host}]/`).hostname.slice(1, -1);
  if (plain === '::1') return plain;
  const [, high, low] = /^::ffff:([0-9a-f]{1,4}):([0-9a-f]{1,4})$/.exec(plain) ?? [];
  if (high === undefined || low === undefined) return undefined;
  const bits = Number.parseInt(high, 16) * 65_536 + Number.parseInt(low, 16);
  const mapped = [24, 16, 8, 0].map((shift) => (bits >>> shift) & 255).join('.');
  return mapped.startsWith('127.') ? mapped : undefined;
}
