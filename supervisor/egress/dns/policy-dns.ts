import type { Socket as DatagramSocket } from 'node:dgram';
import type { Clock } from '../../clock.ts';
import { err, ok, type Result } from '../../result.ts';
import { TransparentListeners } from '../adapters/transparent.ts';
import type { WayOut } from '../adapters/way-out.ts';
import type { ConnectionSlots } from '../connection-slots.ts';
import type { EgressObserver } from '../events.ts';
import type { Listen } from '../listen.ts';
import { DeniedNames } from './denied-names.ts';
import { ANSWER_TTL, PolicyZone } from './policy-zone.ts';
import { createDnsServer } from './server.ts';
import { SyntheticNames } from './synthetic-names.ts';

/** Where the workload's resolver is told to ask. */
export const DNS_HOST = '127.0.0.1';
export const DNS_PORT = 53;

export interface PolicyDnsOptions {
  readonly listen: Listen;
  /** A bound UDP socket, where the workload can have any: in the namespace fence. */
  readonly bind?: (host: string, port: number) => Promise<Result<DatagramSocket, string>>;
  /** At which ports the policy in force lets anybody reach a name. */
  readonly reachablePorts: (name: string) => readonly number[];
  readonly wayOut: WayOut;
  /** Shared with the other adapters. */
  readonly slots?: ConnectionSlots;
  readonly clock: Clock;
  readonly observe: EgressObserver;
  /** Suffixes that the workload's resolver tries, of its resolv.conf. */
  readonly search: readonly string[];
  /** 53 by default. */
  readonly port?: number;
}

/** Names without a proxy: a resolver of the policy's names, and listeners on the addresses that it gives them. */
export interface PolicyDns {
  /** Another generation is in force: names that it drops lose their addresses, the others change their ports. */
  policyChanged(): void;
  /** Connections to synthetic addresses. */
  readonly openConnections: () => number;
  stop(): void;
}

/** A client may use an answer for so long, and some (Java's) keep it for longer than its time to live. */
const KEEP_MS = 4 * ANSWER_TTL * 1000;

/** Starts the resolver on 127.0.0.1. The error says why it cannot listen there. */
export async function startPolicyDns(options: PolicyDnsOptions): Promise<Result<PolicyDns, string>> {
  const { listen, bind, reachablePorts, wayOut, clock, observe, search, port = DNS_PORT } = options;
  const overTcp = await listen(DNS_HOST, port);
  if (!overTcp.ok) return overTcp;
  // At once, before the next turn of the event loop could bring a connection.
  const denied = new DeniedNames(() => clock.monotonic());
  const reasons = new Set<string>();
  const names: SyntheticNames = new SyntheticNames({
    now: () => clock.monotonic(),
    keepMs: KEEP_MS,
    isBusy: (address) => listeners.isBusy(address),
    onDropped: (address) => listeners.close(address),
  });
  const listeners = new TransparentListeners({
    listen,
    wayOut,
    ...(options.slots === undefined ? {} : { slots: options.slots }),
    nameOf: (address) => names.nameOf(address),
    makeRoom: () => names.evict(),
    onUnavailable: (address, at, reason) => {
      // The same reason for every name and port tells nothing more the second time.
      const general = reason.replaceAll(address, 'an address');
      if (reasons.has(general) || reasons.size >= 16) return;
      reasons.add(general);
      observe({ kind: 'name-failed', name: `${names.nameOf(address) ?? address}:${at}`, reason });
    },
    onTooMany: () => observe({ kind: 'refused', reason: 'too-many-connections' }),
  });
  const zone = new PolicyZone({
    reachablePorts,
    names,
    open: (address, ports) => listeners.set(address, ports),
    onDenied: (name) => {
      // The resolver's own tries of suffixes, for a name that works or that was told of.
      const bare = search
        .filter((suffix) => name.endsWith(`.${suffix}`))
        .map((s) => name.slice(0, -s.length - 1));
      if (bare.some((tried) => denied.has(tried) || reachablePorts(tried).length > 0)) return;
      const told = denied.tell(name);
      if (told !== undefined) observe({ kind: 'name-denied', name, ...told });
    },
    onFailed: (name, reason) => {
      const told = denied.tell(name);
      if (told !== undefined) observe({ kind: 'name-failed', name, reason });
    },
  });
  const server = createDnsServer({ answer: (question) => zone.answer(question) });
  server.serveTcp(overTcp.value);
  const stop = (): void => {
    server.stop();
    listeners.stop();
  };
  if (bind !== undefined) {
    const overUdp = await bind(DNS_HOST, port);
    if (!overUdp.ok) {
      stop();
      return err(overUdp.error);
    }
    server.serveUdp(overUdp.value);
  }
  return ok({
    policyChanged() {
      for (const { name, address } of names.entries()) {
        const ports = reachablePorts(name);
        if (ports.length === 0) names.drop(name);
        else void listeners.set(address, ports);
      }
    },
    openConnections: () => listeners.openConnections,
    stop,
  });
}
