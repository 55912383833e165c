import { isIP } from 'node:net';
import { err, ok, type Result } from '../result.ts';

/** A host and port in the form that policy is written in: see `Intent`. */
export interface Authority {
  readonly host: string;
  readonly port: number;
}

/** An absolute-form request target (RFC 9112, 3.2.2). */
export interface AbsoluteTarget {
  /** Lower case. */
  readonly scheme: string;
  readonly authority: Authority;
  /** What the origin server gets as request target: path and query. */
  readonly originForm: string;
  /** The path without its query; for logs. */
  readonly path: string;
}

const LABEL = /^[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?$/;

/**
 * Reads `host:port`, `name` or `[v6]:port`. Without `defaultPort` the port must be there, as in CONNECT.
 * Refuses user information, zone identifiers, escapes and non-ASCII, and the number spellings of IPv4
 * other than dotted decimal (`127.1`, `0x7f000001`): a resolver may read them as addresses, policy does not.
 */
export function parseAuthority(text: string, defaultPort?: number): Result<Authority, string> {
  const match = /^(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9._-]{1,254}))(?::([0-9]{1,5}))?$/.exec(text);
  if (match === null) return err('not of the form host:port');
  const [, v6, name, portText] = match;
  if (portText === undefined && defaultPort === undefined) return err('the port is missing');
  const port = portText === undefined ? (defaultPort ?? 0) : Number(portText);
  if (port < 1 || port > 65_535) return err('the port is not between 1 and 65535');
  if (v6 !== undefined) {
    if (isIP(v6) !== 6) return err('the host is not an IPv6 address');
    // The URL parser writes addresses in the canonical form of RFC 5952.
    return ok({ host: new URL(`http://[${v6}]/`).hostname.slice(1, -1), port });
  }
  const host = (name ?? '').toLowerCase().replace(/\.$/, '');
  if (isIP(host) === 4) return ok({ host, port });
  const labels = host.split('.');
  if (host.length > 253 || !labels.every((label) => LABEL.test(label)))
    return err('the host is not a DNS name');
  if (/^(?:[0-9]+|0x[0-9a-f]*)$/.test(labels.at(-1) ?? ''))
    return err('the host is a number, not a DNS name');
  return ok({ host, port });
}

/** Reads an absolute-form target. The authority's default port is 80: only scheme http is ever forwarded. */
export function parseAbsoluteTarget(method: string, text: string): Result<AbsoluteTarget, string> {
  if (!/^[\x21-\x7e]+$/.test(text)) return err('the request target holds characters that are not allowed');
  const match = /^([A-Za-z][A-Za-z0-9+.-]*):\/\/([^/?#]*)([^?#]*)(\?[^#]*)?$/.exec(text);
  if (match === null) return err('the request target is not an absolute URL; this is a proxy');
  const [, scheme = '', rawAuthority = '', path = '', query = ''] = match;
  const authority = parseAuthority(rawAuthority, 80);
  if (!authority.ok) return err(`bad host in the request target: ${authority.error}`);
  // RFC 9112, 3.2.4: an OPTIONS for the whole server has neither path nor query here, and is `*` at the origin.
  const wholeServer = method === 'OPTIONS' && path === '' && query === '';
  const originPath = path === '' ? '/' : path;
  return ok({
    scheme: scheme.toLowerCase(),
    authority: authority.value,
    originForm: wholeServer ? '*' : originPath + query,
    path: originPath,
  });
}

/** Writes an authority as the Host header has it: the port only when it is not 80. */
export function formatHostHeader({ host, port }: Authority): string {
  const name = isIP(host) === 6 ? `[${host}]` : host;
  return port === 80 ? name : `${name}:${port}`;
}
