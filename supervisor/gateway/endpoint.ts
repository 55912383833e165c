import { isIP } from 'node:net';
import type { Random } from '../clock.ts';
import { Fault } from '../fault.ts';
import { err, ok, type Result } from '../result.ts';

/** Where the gateway is. */
export interface Endpoint {
  readonly host: string;
  readonly port: number;
  readonly secure: boolean;
}

/** One address of one endpoint. */
export interface Candidate {
  readonly endpoint: Endpoint;
  readonly address: string;
}

/** Turns the endpoint's host into addresses, never through getaddrinfo(3). */
export type ResolveHost = (host: string) => Promise<Result<readonly string[], string>>;

/** More addresses than this are not tried in one dial. */
const MAX_CANDIDATES = 32;

/** Host, port and security of a gateway URL; the scheme has been checked by the configuration. */
export function endpointOf(url: URL): Endpoint {
  const secure = url.protocol === 'https:';
  const port = url.port === '' ? (secure ? 443 : 80) : Number(url.port);
  return { host: url.hostname.replace(/^\[|\]$/g, ''), port, secure };
}

/** Host and port as the gateway is called, with an IPv6 address in brackets (RFC 3986, section 3.2.2). */
export function authorityOf({ host, port }: Endpoint): string {
  return isIP(host) === 6 ? `[${host}]:${port}` : `${host}:${port}`;
}

/**
 * Every address of every endpoint, each once, in an order that is random anew at each call: the members of
 * a fleet that lost one replica must not all go to the same next one. A name that does not resolve is left
 * out; only when none does is that the fault.
 */
export async function resolveCandidates(
  endpoints: readonly Endpoint[],
  resolve: ResolveHost,
  random: Random,
): Promise<Result<readonly Candidate[], Fault>> {
  const resolved = await Promise.all(
    endpoints.map(async (endpoint) => ({ endpoint, addresses: await resolve(endpoint.host) })),
  );
  const found = new Map<string, Candidate>();
  for (const { endpoint, addresses } of resolved)
    for (const address of addresses.ok ? addresses.value : [])
      found.set(`${address} ${endpoint.port}`, { endpoint, address });
  if (found.size === 0) {
    const names = endpoints.map(({ host }) => host).join(', ');
    return err(new Fault('gateway', `the gateway's name ${names} cannot be resolved`));
  }
  return ok(shuffle([...found.values()], random).slice(0, MAX_CANDIDATES));
}

/** A fair shuffle (Fisher and Yates). */
export function shuffle<T>(items: readonly T[], random: Random): T[] {
  const shuffled = [...items];
  for (let last = shuffled.length - 1; last > 0; last -= 1) {
    const other = Math.floor(random() * (last + 1));
    const [a, b] = [shuffled[last], shuffled[other]];
    if (a === undefined || b === undefined) continue;
    shuffled[last] = b;
    shuffled[other] = a;
  }
  return shuffled;
}
