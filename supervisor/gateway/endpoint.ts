import { isIP } from 'node:net';
import { Fault } from '../fault.ts';
import { err, ok, type Result } from '../result.ts';

/** Where the gateway is. */
export interface Endpoint {
  readonly host: string;
  readonly port: number;
  readonly secure: boolean;
}

/** Turns the endpoint's host into addresses, never through getaddrinfo(3). */
export type ResolveHost = (host: string) => Promise<Result<readonly string[], string>>;

/** Host, port and security of a gateway URL; the scheme has been checked by the configuration. */
export function endpointOf(url: URL): Endpoint {
  const secure = url.protocol === 'https:';
  const port = url.port === '' ? (secure ? 443 : 80) : Number(url.port);
  return { host: url.hostname.replace(/^\[|\]$/g, ''), port, secure };
}

/** The grpc-js target of one address: the ipv4 and ipv6 schemes resolve nothing. */
export function targetOf(address: string, port: number): string {
  return isIP(address) === 6 ? `ipv6:[${address}]:${port}` : `ipv4:${address}:${port}`;
}

/** Every address of the endpoint as one target, in random order: grpc-js tries them in turn. */
export async function resolveTarget(
  endpoint: Endpoint,
  resolve: ResolveHost,
  random: () => number,
): Promise<Result<string, Fault>> {
  const resolved = await resolve(endpoint.host);
  if (!resolved.ok || resolved.value.length === 0)
    return err(new Fault('gateway', `the gateway's name ${endpoint.host} cannot be resolved`));
  const addresses = shuffle(resolved.value, random);
  const family = isIP(addresses[0] ?? '');
  const same = addresses.filter((address) => isIP(address) === family);
  const list = same.map((address) =>
    family === 6 ? `[${address}]:${endpoint.port}` : `${address}:${endpoint.port}`,
  );
  return ok(`ipv${family}:${list.join(',')}`);
}

function shuffle<T>(items: readonly T[], random: () => number): T[] {
  return items
    .map((item) => ({ item, key: random() }))
    .sort((a, b) => a.key - b.key)
    .map(({ item }) => item);
}
