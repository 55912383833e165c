import { isIP } from 'node:net';

export interface Authority {
  /** Lower case, without brackets and trailing dot. */
  readonly host: string;
  readonly port: number;
}

/** Reads "host:port" as CONNECT has it (RFC 9112, 3.2.3); the port is not optional there. */
export function parseAuthority(text: string): Authority | undefined {
  const match = /^(?:\[([0-9a-fA-F:.]{2,45})\]|([^\s:/?#@[\]\\]{1,253})):(\d{1,5})$/.exec(text);
  if (match === null) return undefined;
  const port = Number(match[3]);
  if (port < 1 || port > 65_535) return undefined;
  if (match[1] !== undefined)
    return isIP(match[1]) === 6 ? { host: match[1].toLowerCase(), port } : undefined;
  const host = (match[2] ?? '').toLowerCase().replace(/\.$/, '');
  return host === '' || !/^[\x21-\x7e]+$/.test(host) ? undefined : { host, port };
}
