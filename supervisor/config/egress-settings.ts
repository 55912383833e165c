import { isIP } from 'node:net';
import { usage, type Values } from '../cli/flags.ts';
import { Fault } from '../fault.ts';
import type { Get } from './given.ts';

/** The site's proxy (contract.md, 8.6). */
export interface ConfiguredProxy {
  readonly host: string;
  readonly port: number;
  readonly authFile: string | undefined;
  readonly byHostname: boolean;
  readonly noProxy: string;
}

/** `http://host:port`, and what belongs to it (contract.md, 8.6): alone none of the others has a meaning. */
export function readUpstreamProxy(get: Get, values: Values): ConfiguredProxy | undefined {
  const text = get('upstream-proxy');
  const authFile = get('upstream-proxy-auth-file');
  const insecure = values['upstream-proxy-auth-allow-insecure'] === true;
  const byHostname = values['upstream-proxy-connect-by-hostname'] === true;
  if (text === undefined) {
    if (authFile !== undefined || insecure || byHostname || get('upstream-no-proxy') !== undefined)
      throw usage('the --upstream-… flags of a proxy need --upstream-proxy');
    return undefined;
  }
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const bare = url?.pathname === '/' && url.search === '' && url.hash === '';
  if (url?.protocol !== 'http:' || url.port === '' || !bare || url.username !== '' || url.password !== '')
    throw usage('--upstream-proxy must be http://host:port, without a path and without credentials');
  if (authFile !== undefined && !insecure)
    throw usage(
      '--upstream-proxy-auth-file sends a password over plain HTTP: accept that with --upstream-proxy-auth-allow-insecure',
    );
  const noProxy = get('upstream-no-proxy') ?? '';
  return {
    host: url.hostname.replace(/^\[|\]$/g, ''),
    port: Number(url.port),
    authFile,
    byHostname,
    noProxy,
  };
}

/** `--upstream-dns`: addresses with commas between them. Throws the Fault that names one that is none. */
export function readNameServers(value: string | undefined): readonly string[] {
  const servers = (value ?? '')
    .split(',')
    .map((one) => one.trim())
    .filter((one) => one !== '');
  const wrong = servers.find((server) => isIP(server) === 0);
  if (wrong !== undefined) throw usage(`--upstream-dns takes IP addresses, "${wrong}" is none`);
  return Object.freeze(servers);
}

/** A path, or a unix: URL of one, as SPIFFE's own variable has it. */
export function readSpiffeSocket(value: string | undefined): string | undefined {
  if (value === undefined) return undefined;
  const path = value.replace(/^unix:(\/\/)?(?=\/)/, '');
  if (path.startsWith('/')) return path;
  throw new Fault(
    'config',
    `OPENSHELL_PROVIDER_SPIFFE_WORKLOAD_API_SOCKET must be an absolute path or unix:///path, is "${value.slice(0, 200)}"`,
  );
}
