import { randomUUID } from 'node:crypto';
import type { Duplex } from 'node:stream';
import type { GetSandboxConfigResponse } from '../proto/generated/openshell/sandbox/v1/sandbox.ts';
import type { Enforcement } from '../proto/generated/openshell/v1/openshell.ts';
import type { RecordBuffer } from './buffer/record-buffer.ts';
import type { Clock, Random } from './clock.ts';
import type { Config } from './config.ts';
import { DenialReporter } from './denials/denial-reporter.ts';
import type { CredentialStore } from './egress/credentials/credential-store.ts';
import { ProviderSync } from './egress/credentials/provider-sync.ts';
import type { TokenGrants } from './egress/credentials/token-grants.ts';
import type { Resolve } from './egress/resolver.ts';
import { GatewayLink } from './gateway/link.ts';
import type { RelayTarget } from './gateway/relay/target.ts';
import type { SessionState } from './gateway/session.ts';
import type { TokenSource } from './gateway/token.ts';
import type { Logging } from './observability/log.ts';
import type { Metrics } from './observability/metrics.ts';
import type { OfflineGrace } from './offline-grace.ts';
import { reportRelay } from './relay-report.ts';
import type { Result } from './result.ts';
import { VERSION } from './version.ts';

export interface GatewayPlaneOptions {
  readonly config: Config;
  readonly clock: Clock;
  readonly random: Random;
  /** One for each start of the supervisor. */
  readonly bootId: string;
  readonly buffer: RecordBuffer;
  readonly resolve: Resolve;
  readonly logging: Logging;
  readonly metrics: Metrics;
  /** Hears whether the session stands. */
  readonly grace: Pick<OfflineGrace, 'online' | 'offline'>;
  readonly readSecret: (path: string) => Buffer;
  readonly enforcement: () => readonly Enforcement[];
  readonly policyVersion: () => number;
  readonly credentials: CredentialStore;
  /** Undefined until what upstream servers are verified against is known. */
  readonly grants: () => TokenGrants | undefined;
  readonly onConfig: (config: GetSandboxConfigResponse) => void;
  readonly onExtensions: () => void;
  /** Connects a relay to its target inside the sandbox. */
  readonly connect: (target: RelayTarget) => Promise<Result<Duplex, string>>;
}

/** What the sandbox has of its gateway: the session with its relays, credentials, and where denials go. */
export interface GatewayPlane {
  readonly link: GatewayLink;
  readonly providers: ProviderSync;
  readonly denials: DenialReporter;
}

/** Puts it together. Nothing is dialled yet. */
export function createGatewayPlane(options: GatewayPlaneOptions): GatewayPlane {
  const { config, clock, random, buffer, metrics } = options;
  const log = options.logging.logger('gateway');
  const link = new GatewayLink({
    endpoints: config.endpoints,
    tls: config.tls,
    token: tokenSource(config.token),
    sandboxId: config.sandboxId,
    instanceId: randomUUID(),
    bootId: options.bootId,
    version: VERSION,
    enforcement: options.enforcement,
    readSecret: options.readSecret,
    policyVersion: options.policyVersion,
    clock,
    random,
    resolve: options.resolve,
    buffer,
    pollIntervalMs: config.pollIntervalMs,
    maxConnectionAgeMs: config.maxConnectionAgeMs,
    onConfig: async (received) => options.onConfig(received),
    onState(state) {
      metrics.sessionUp.set(stands(state) ? 1 : 0);
      if (stands(state)) options.grace.online();
      if (state.kind === 'offline' || state.kind === 'refused') options.grace.offline();
      if (state.kind === 'connecting') metrics.sessionDials.inc();
      if (state.kind === 'established') log.info('session established', { session: state.sessionId });
      if (state.kind === 'draining') log.info('session draining', { reason: state.reason });
      if (state.kind === 'offline' || state.kind === 'refused')
        log.warn(`session ${state.kind}: ${state.reason}`, { redialInMs: Math.round(state.redialInMs) });
    },
    onBeat: () => metrics.heartbeats.inc(),
    relays: {
      max: config.maxRelays,
      connect: options.connect,
      observe: reportRelay(metrics, options.logging.logger('supervisor')),
    },
    onExtensions: options.onExtensions,
    onError: (what, message) => log.debug(`${what}: ${message}`),
  });
  const providers = new ProviderSync({
    clock,
    random,
    store: options.credentials,
    async fetch() {
      const answer = await link.providerEnvironment();
      for (const fault of options.grants()?.update(answer.dynamicCredentials) ?? [])
        log.warn(`a token grant cannot be used: ${fault}`);
      return answer;
    },
    onError: (message) => log.warn(`the credentials are revoked until they can be fetched: ${message}`),
  });
  const denials = new DenialReporter({
    clock,
    random,
    sandboxId: config.sandboxId,
    sandboxName: config.sandboxName,
    append: (request) => buffer.append('audit', { kind: 'denials', at: Date.now(), request }),
  });
  return { link, providers, denials };
}

/** A session that is being replaced still stands. */
const stands = ({ kind }: SessionState): boolean => kind === 'established' || kind === 'draining';

function tokenSource(token: Config['token']): TokenSource {
  return token.kind === 'env' ? { kind: 'env', reveal: () => token.value.reveal() } : token;
}
