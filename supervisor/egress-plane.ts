import { systemClock } from './clock.ts';
import type { Config } from './config.ts';
import type { Anchor } from './confinement/anchor.ts';
import { ConnectionSlots, openFilesLimit, slotsFor } from './egress/connection-slots.ts';
import type { CredentialStore } from './egress/credentials/credential-store.ts';
import type { TokenGrants } from './egress/credentials/token-grants.ts';
import type { EgressObserver } from './egress/events.ts';
import type { ProposalGuide } from './egress/http/connection-context.ts';
import { CallerIdentification } from './egress/identity/caller.ts';
import type { SocketDiag } from './egress/identity/socket-diag.ts';
import { type LocalService, LocalServices } from './egress/local-services.ts';
import { Middlewares } from './egress/middleware/middlewares.ts';
import type { MiddlewareRegistry } from './egress/middleware/registry.ts';
import { type ExplicitProxy, startExplicitProxy } from './egress/proxy.ts';
import type { Resolve } from './egress/resolver.ts';
import type { Interception } from './egress/tunnels.ts';
import type { UpstreamProxy } from './egress/upstream-proxy.ts';
import { type EgressAdapters, startEgressAdapters } from './egress-adapters.ts';
import type { Fault } from './fault.ts';
import type { Logger } from './observability/log.ts';
import { judgeAddress } from './policy/addresses.ts';
import type { PolicyInForce } from './policy-in-force.ts';
import { ok, type Result } from './result.ts';

export interface EgressPlaneOptions {
  readonly config: Pick<Config, 'proxyPort' | 'socksPort' | 'sandboxId' | 'sandboxName'>;
  readonly host: string;
  /** Holds the workload's network, in the namespace fence. */
  readonly anchor: Anchor | undefined;
  readonly policy: PolicyInForce;
  /** Processes of ours, which are never callers. */
  readonly helpers: ReadonlySet<number>;
  /** Processes of ours that hide while they become the workload's. */
  readonly hiding: ReadonlySet<number>;
  readonly workloadUid: number | undefined;
  readonly mainPid: () => number | Promise<number | undefined>;
  readonly diag: SocketDiag | undefined;
  readonly resolve: Resolve;
  /** Text of /proc/self/limits; empty where there is none, as in gVisor. */
  readonly limits: string;
  /** Text of the container's resolv.conf. */
  readonly resolvConf: string;
  readonly interception: Interception | undefined;
  readonly upstreamProxy: UpstreamProxy | undefined;
  readonly credentials: CredentialStore;
  /** Whether there is a gateway, which alone has credentials to give. */
  readonly credentialed: boolean;
  readonly grants: TokenGrants | undefined;
  readonly registry: MiddlewareRegistry;
  readonly workspace: () => string;
  readonly proposals: () => ProposalGuide | undefined;
  readonly services: readonly LocalService[];
  readonly observe: EgressObserver;
  readonly log: Logger;
}

/** Every way out of the sandbox. */
export interface EgressPlane {
  readonly proxy: ExplicitProxy;
  readonly adapters: EgressAdapters;
  stop(): Promise<void>;
}

/** Starts the explicit proxy, then the other ways out. Fails when a port that somebody asked for cannot be had. */
export async function startEgressPlane(options: EgressPlaneOptions): Promise<Result<EgressPlane, Fault>> {
  const { config, anchor, policy, diag, grants, observe } = options;
  const listener = anchor === undefined ? ok(undefined) : await anchor.listen(options.host, config.proxyPort);
  if (!listener.ok) return listener;
  const slots = new ConnectionSlots(slotsFor(openFilesLimit(options.limits)));
  const local = new LocalServices(options.services, options.interception?.authority);
  const proxy = await startExplicitProxy({
    host: options.host,
    port: config.proxyPort,
    ...(listener.value === undefined ? {} : { listener: listener.value }),
    clock: systemClock,
    callers: new CallerIdentification({
      pause: (ms) => new Promise((resolve) => systemClock.after(ms, () => resolve())),
      proc: '/proc',
      excluded: options.helpers,
      hiding: options.hiding,
      ...(diag === undefined ? {} : { findSocket: (connection) => diag.find(connection) }),
      ...(options.workloadUid === undefined ? {} : { workloadUid: options.workloadUid }),
    }),
    mainPid: options.mainPid,
    authorize: (intent, identity) => policy.decide(intent, identity),
    judgeAddress,
    generation: () => policy.generation,
    resolve: options.resolve,
    ...(options.upstreamProxy === undefined ? {} : { upstreamProxy: options.upstreamProxy }),
    ...(options.interception === undefined ? {} : { interception: options.interception }),
    ...(options.credentialed ? { credentials: options.credentials } : {}),
    ...(options.credentialed && grants !== undefined ? { grants } : {}),
    proposals: options.proposals,
    local,
    slots,
    middlewares: new Middlewares({
      clock: systemClock,
      registry: options.registry,
      sandbox: () => ({ id: config.sandboxId, name: config.sandboxName, workspace: options.workspace() }),
    }),
    observe,
  });
  if (!proxy.ok) return proxy;
  const adapters = await startEgressAdapters({
    config,
    anchor,
    resolvConf: options.resolvConf,
    wayOut: proxy.value.wayOut,
    slots,
    reachablePorts: (name) => {
      const ours = local.portsOf(name);
      return ours.length > 0 ? ours : policy.reachablePorts(name);
    },
    credentials: options.credentials,
    clock: systemClock,
    observe,
    log: options.log,
  });
  if (!adapters.ok) {
    await proxy.value.stop();
    return adapters;
  }
  return ok({
    proxy: proxy.value,
    adapters: adapters.value,
    async stop() {
      adapters.value.stop();
      await proxy.value.stop();
    },
  });
}
