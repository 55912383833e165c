import type { Socket } from 'node:net';
import type { SecureContext } from 'node:tls';
import { classifyAddress, parseIp } from '../../policy/addresses.ts';
import { err, type Result } from '../../result.ts';
import { dial } from '../destination.ts';
import { openUpstream, type Upstream } from '../http/upstream.ts';
import type { Resolve } from '../resolver.ts';
import { connectTls } from '../tls/upstream.ts';
import { dialByProxy, type UpstreamProxy } from '../upstream-proxy.ts';

export interface BackendsOptions {
  readonly resolve: Resolve;
  /** What providers are verified against. */
  readonly trust: () => SecureContext;
  /** The site's way out, where it has one. */
  readonly upstreamProxy: UpstreamProxy | undefined;
  /** Aliases of the machine that runs the sandbox, with their addresses. */
  readonly hostGateways: ReadonlyMap<string, string>;
}

/** When the idle connections to a provider that is none any more are closed; a call may take an hour. */
const FORGOTTEN_MS = 3_600_000;
/** Where clouds tell a machine who it is, beside the link-local address that all of them have. */
const METADATA: ReadonlySet<string> = new Set(['100.100.100.200', 'fd00:ec2::254', 'fd20:ce::254']);
/** Connections to one provider; the next calls wait for one of them. */
const MAX_CONNECTIONS = 64;

/** Connections to providers, kept for the calls that follow. HTTP/1.1 alone, as upstream speaks to them. */
export class Backends {
  readonly #options: BackendsOptions;
  readonly #open = new Map<string, Promise<Result<Upstream, string>>>();

  constructor(options: BackendsOptions) {
    this.#options = options;
  }

  /** The connections to a provider. The error says why there is none to be had. */
  async to(base: URL): Promise<Result<Upstream, string>> {
    const kept = this.#open.get(base.origin);
    if (kept !== undefined) return kept;
    const opening = openUpstream(() => this.#connect(base), MAX_CONNECTIONS);
    this.#open.set(base.origin, opening);
    const opened = await opening;
    if (!opened.ok && this.#open.get(base.origin) === opening) this.#open.delete(base.origin);
    return opened;
  }

  /** Forgets every provider but these; their calls go on to their end. */
  keep(bases: readonly URL[]): void {
    const origins = new Set(bases.map(({ origin }) => origin));
    for (const [origin, opening] of this.#open) {
      if (origins.has(origin)) continue;
      this.#open.delete(origin);
      // Long after its last call.
      setTimeout(() => void closed(opening), FORGOTTEN_MS).unref();
    }
  }

  close(): void {
    for (const opening of this.#open.values()) void closed(opening);
    this.#open.clear();
  }

  async #connect(base: URL): Promise<Result<Socket, string>> {
    const { resolve, trust, upstreamProxy } = this.#options;
    const host = base.hostname.replace(/^\[|\]$/g, '');
    const secure = base.protocol === 'https:';
    const port = base.port === '' ? (secure ? 443 : 80) : Number(base.port);
    const addresses = await resolve(host);
    if (!addresses.ok) return addresses;
    const refused = addresses.value.find((address) => !this.#mayDial(host, address));
    if (refused !== undefined) return err(`${host} has the address ${refused}, which no provider has`);
    const dialled =
      upstreamProxy === undefined
        ? await dial(addresses.value, port)
        : await dialByProxy(upstreamProxy, host, port, addresses.value);
    return dialled.ok && secure ? connectTls(dialled.value, host, trust(), ['http/1.1']) : dialled;
  }

  /** An operator may have a provider inside; the address of a machine's own metadata is none. */
  #mayDial(host: string, address: string): boolean {
    if (this.#options.hostGateways.get(host) === address) return true;
    const ip = parseIp(address);
    if (ip === undefined || METADATA.has(address.toLowerCase())) return false;
    // Loopback only where the operator has written it.
    return classifyAddress(ip) !== 'blocked' || /^(localhost|127(\.\d{1,3}){3}|::1)$/.test(host);
  }
}

async function closed(opening: Promise<Result<Upstream, string>>): Promise<void> {
  const opened = await opening;
  if (opened.ok) opened.value.close();
}
