import type { Clock } from './clock.ts';
import type { Config } from './config.ts';
import type { Anchor } from './confinement/anchor.ts';
import { serveSocks } from './egress/adapters/socks.ts';
import type { WayOut } from './egress/adapters/way-out.ts';
import type { ConnectionSlots } from './egress/connection-slots.ts';
import type { CredentialStore } from './egress/credentials/credential-store.ts';
import { DNS_HOST, type PolicyDns, startPolicyDns } from './egress/dns/policy-dns.ts';
import type { EgressObserver } from './egress/events.ts';
import { type Listen, listenHere } from './egress/listen.ts';
import {
  METADATA_HOST,
  METADATA_KEY,
  METADATA_PORT,
  serveGoogleMetadata,
} from './egress/metadata/google-metadata.ts';
import { parseResolvConf } from './egress/resolver.ts';
import { Fault } from './fault.ts';
import type { Logger } from './observability/log.ts';
import { err, ok, type Result } from './result.ts';

export interface EgressAdaptersOptions {
  readonly config: Pick<Config, 'socksPort'>;
  /** Holds the workload's network, in the namespace fence. */
  readonly anchor: Anchor | undefined;
  /** Text of the container's resolv.conf. */
  readonly resolvConf: string;
  readonly wayOut: WayOut;
  readonly slots: ConnectionSlots;
  readonly reachablePorts: (name: string) => readonly number[];
  readonly credentials: CredentialStore;
  readonly clock: Clock;
  readonly observe: EgressObserver;
  readonly log: Logger;
}

/** The ways out beside the explicit proxy: SOCKS, and names without a proxy. */
export interface EgressAdapters {
  /** Another policy generation is in force. */
  policyChanged(): void;
  readonly openConnections: () => number;
  /** Whether clients of Google's find a metadata server. */
  readonly metadata: boolean;
  stop(): void;
}

/**
 * Starts SOCKS and the policy's resolver where the workload can reach them. Fails only when a SOCKS port was asked for
 * and is taken; what cannot be had besides is said in the log, and the explicit proxy works without it.
 */
export async function startEgressAdapters(
  options: EgressAdaptersOptions,
): Promise<Result<EgressAdapters, Fault>> {
  const { config, anchor, wayOut, slots, reachablePorts, clock, observe, log } = options;
  const listen = anchor === undefined ? listenHere : listenInside(anchor);
  let socks: ReturnType<typeof serveSocks> | undefined;
  if (config.socksPort.port !== 0) {
    const listener = await listen(DNS_HOST, config.socksPort.port);
    if (!listener.ok) {
      const message = `no SOCKS: ${listener.error}; choose another port with --socks-port, or none with 0`;
      if (config.socksPort.given) return err(new Fault('listen', message));
      log.warn(message);
    } else {
      const onRefused = (reason: 'malformed' | 'too-many-connections'): void =>
        observe({ kind: 'refused', reason });
      socks = serveSocks({ listener: listener.value, wayOut, slots, onRefused });
    }
  }
  const resolver = parseResolvConf(options.resolvConf);
  const started = await startPolicyDns({
    listen,
    ...(anchor === undefined ? {} : { bind: bindInside(anchor) }),
    reachablePorts,
    wayOut,
    slots,
    clock,
    observe,
    search: resolver.search,
  });
  let names: PolicyDns | undefined;
  if (started.ok) {
    names = started.value;
    log.debug('names resolve without a proxy', { overUdp: anchor !== undefined });
  } else {
    // Worth a warning only where somebody has told the workload to ask us.
    const wanted = anchor !== undefined || resolver.servers.includes(DNS_HOST);
    log[wanted ? 'warn' : 'info'](`names do not resolve without a proxy: ${started.error}`);
  }
  let metadata: ReturnType<typeof serveGoogleMetadata> | undefined;
  // A provider that wants it says so with a key of its own.
  if (options.credentials.workloadVariables().has(METADATA_KEY)) {
    const listener = await listen(METADATA_HOST, METADATA_PORT);
    if (listener.ok) metadata = serveGoogleMetadata(listener.value, options.credentials, () => clock.now());
    else log.warn(`no metadata server for Google's clients: ${listener.error}`);
  }
  return ok({
    metadata: metadata !== undefined,
    policyChanged: () => names?.policyChanged(),
    openConnections: () => (socks?.openConnections() ?? 0) + (names?.openConnections() ?? 0),
    stop() {
      socks?.stop();
      metadata?.stop();
      names?.stop();
    },
  });
}

const listenInside =
  (anchor: Anchor): Listen =>
  async (host, port) => {
    const made = await anchor.listen(host, port);
    return made.ok ? made : err(made.error.message);
  };

const bindInside = (anchor: Anchor) => async (host: string, port: number) => {
  const made = await anchor.bind(host, port);
  return made.ok ? made : err(made.error.message);
};
