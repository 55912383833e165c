import { Resolver } from 'node:dns/promises';
import { isIP } from 'node:net';
import { err, ok, type Result } from '../result.ts';

/** Turns a host into addresses. */
export type Resolve = (host: string) => Promise<Result<readonly string[], string>>;

export interface ResolverConfig {
  readonly search: readonly string[];
  readonly ndots: number;
  /** The name servers, as written. */
  readonly servers: readonly string[];
}

const MAX_ADDRESSES = 16;
const TIMEOUT_MS = 5_000;

/** The `nameserver`, `search` and `options ndots` of resolv.conf(5); at most six suffixes, as glibc once had it. */
export function parseResolvConf(text: string): ResolverConfig {
  let search: readonly string[] = [];
  const servers: string[] = [];
  let ndots = 1;
  for (const line of text.split('\n')) {
    const [word, ...rest] = line.trim().split(/\s+/);
    if (word === 'search' || word === 'domain')
      search = rest.slice(0, 6).map((name) => name.replace(/\.$/, ''));
    if (word === 'nameserver' && rest[0] !== undefined && isIP(rest[0].replace(/%.*$/, '')) !== 0)
      servers.push(rest[0]);
    if (word === 'options')
      for (const option of rest) {
        const match = /^ndots:(\d{1,2})$/.exec(option);
        if (match !== null) ndots = Math.min(Number(match[1]), 15);
      }
  }
  return { search: search.filter((name) => name !== '' && name !== '.'), ndots, servers };
}

/**
 * The name servers to ask for the workload. Where the container's own resolver is the sandbox's, on 127.0.0.1, those are the others
 * that resolv.conf names, unless some were configured. Undefined leaves it to c-ares, which reads resolv.conf itself.
 */
export function upstreamServers(
  configured: readonly string[],
  resolvText: string,
): readonly string[] | undefined {
  if (configured.length > 0) return configured;
  const { servers } = parseResolvConf(resolvText);
  const others = servers.filter((server) => server !== '127.0.0.1');
  return others.length === 0 || others.length === servers.length ? undefined : others;
}

/** hosts(5): name → addresses, in the order of the file. */
export function parseHosts(text: string): ReadonlyMap<string, readonly string[]> {
  const hosts = new Map<string, string[]>();
  for (const line of text.split('\n')) {
    const [address = '', ...names] = (line.split('#', 1)[0] ?? '').trim().split(/\s+/);
    if (isIP(address) === 0) continue;
    for (const name of names) {
      const key = name.toLowerCase();
      hosts.set(key, [...(hosts.get(key) ?? []), address]);
    }
  }
  return hosts;
}

/**
 * A resolver for what the policy has allowed: address literals, then the sandbox's hosts file as it was at
 * the start, then DNS. Uses c-ares, never getaddrinfo(3): an image's nsswitch.conf could make glibc load a
 * library of the image into the supervisor. At most 16 addresses, at most 5 s a name.
 */
export function createResolver(hostsText: string, resolvText: string, servers?: readonly string[]): Resolve {
  const hosts = parseHosts(hostsText);
  const config = parseResolvConf(resolvText);
  const resolver = new Resolver({ timeout: 2_000, tries: 2 });
  if (servers !== undefined) resolver.setServers(servers);

  const query = async (name: string): Promise<readonly string[]> => {
    const [v4, v6] = await Promise.allSettled([resolver.resolve4(name), resolver.resolve6(name)]);
    return [...(v4.status === 'fulfilled' ? v4.value : []), ...(v6.status === 'fulfilled' ? v6.value : [])];
  };

  return async (host) => {
    if (isIP(host) !== 0) return ok([host]);
    const listed = hosts.get(host);
    if (listed !== undefined) return ok(listed.slice(0, MAX_ADDRESSES));
    const suffixed = config.search.map((suffix) => `${host}.${suffix}`);
    const dots = host.split('.').length - 1;
    const candidates = dots >= config.ndots ? [host, ...suffixed] : [...suffixed, host];
    const deadline = Date.now() + TIMEOUT_MS;
    for (const name of candidates) {
      const left = deadline - Date.now();
      if (left <= 0) break;
      let timer: NodeJS.Timeout | undefined;
      const late = new Promise<readonly string[]>((resolve) => {
        timer = setTimeout(() => resolve([]), left);
      });
      const addresses = await Promise.race([query(name), late]);
      clearTimeout(timer);
      if (addresses.length > 0) return ok(addresses.slice(0, MAX_ADDRESSES));
    }
    return err(`${host} cannot be resolved`);
  };
}
