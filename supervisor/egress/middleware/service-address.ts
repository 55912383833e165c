import { isIP } from 'node:net';
import { err, ok, type Result } from '../../result.ts';

/** Where a service is. */
export type ServiceAddress =
  | { readonly kind: 'host'; readonly host: string; readonly port: number; readonly secure: boolean }
  | { readonly kind: 'socket'; readonly path: string };

/**
 * Reads `http://`, `https://` or `unix://`. Without TLS a service is anybody who answers, and the workload may listen
 * on loopback and make sockets: so that takes the operator's word, or a place that nothing secret is sent to
 * (contract.md, 1.9).
 */
export function serviceAddress(
  endpoint: string,
  { insecure, authenticated }: { readonly insecure: boolean; readonly authenticated: boolean },
): Result<ServiceAddress, string> {
  const unsafe = err(
    `its grpc_endpoint is not https, so ${authenticated ? 'its credential could be read' : 'requests could be read'} on the way: use https://, or accept that with allow_insecure_transport`,
  );
  if (endpoint.startsWith('unix://')) {
    const path = endpoint.slice('unix://'.length);
    if (!path.startsWith('/') || path.length > 107 || path.includes('\0'))
      return err('its grpc_endpoint names no absolute path of at most 107 bytes');
    return authenticated ? unsafe : ok({ kind: 'socket', path });
  }
  const url = URL.canParse(endpoint) ? new URL(endpoint) : undefined;
  if (url === undefined || !['http:', 'https:'].includes(url.protocol) || url.hostname === '')
    return err('its grpc_endpoint must begin with https://, http:// or unix://');
  if ((url.pathname !== '/' && url.pathname !== '') || url.search !== '' || url.username !== '')
    return err('its grpc_endpoint must hold nothing behind host and port');
  const secure = url.protocol === 'https:';
  const host = url.hostname.replace(/^\[|\]$/g, '');
  if (!secure && !insecure && (authenticated || !isLoopback(host))) return unsafe;
  return ok({
    kind: 'host',
    host,
    port: url.port === '' ? (secure ? 443 : 80) : Number(url.port),
    secure,
  });
}

/** A name may lead anywhere, `localhost` too: only addresses count. */
const isLoopback = (host: string): boolean => (isIP(host) === 4 ? host.startsWith('127.') : host === '::1');
