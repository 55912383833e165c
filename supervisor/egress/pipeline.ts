import type { Socket } from 'node:net';
import type { Clock } from '../clock.ts';
import type { CallerIdentity, Decision, Grant, Intent } from '../policy/intent.ts';
import { err, ok, type Result } from '../result.ts';
import { type DestinationFailure, dial, type JudgeAddress, planDestination } from './destination.ts';
import { type DenialStage, type EgressObserver, stageOf } from './events.ts';
import type { CallerIdentification } from './identity/caller.ts';
import type { Resolve } from './resolver.ts';
import type { ProxyAnswer } from './responses.ts';
import { dialByProxy, type UpstreamProxy } from './upstream-proxy.ts';

export interface PipelineOptions {
  readonly clock: Clock;
  readonly callers: CallerIdentification;
  /** Where the ancestors of every caller end; who comes before the main process waits for it, or is denied. */
  readonly mainPid: () => number | Promise<number | undefined>;
  readonly authorize: (intent: Intent, identity: CallerIdentity) => Decision;
  readonly judgeAddress: JudgeAddress;
  /** The generation now in force; a grant of an older one is not dialled. */
  readonly generation: () => number;
  readonly resolve: Resolve;
  /** The site's way out, where it has one. */
  readonly upstreamProxy?: UpstreamProxy;
  readonly observe: EgressObserver;
}

/** An upstream connection that policy has granted. */
export interface Granted {
  readonly intent: Intent;
  readonly identity: CallerIdentity;
  readonly grant: Grant;
  readonly upstream: Socket;
  /** Another connection to the same place, at the addresses that were judged; none under a newer policy. */
  readonly redial: () => Promise<Result<Socket, string>>;
}

/** intent → caller → decision → destination → dial: the one way out, whatever adapter asks. */
export class EgressPipeline {
  readonly #options: PipelineOptions;

  constructor(options: PipelineOptions) {
    this.#options = options;
  }

  /** Opens an upstream connection for the client behind `client`, or says what to answer instead. */
  async open(intent: Intent, client: Socket): Promise<Result<Granted, ProxyAnswer>> {
    const { mainPid, callers, authorize, judgeAddress, resolve, observe, generation } = this.#options;
    const denied = (
      stage: DenialStage,
      identity: CallerIdentity | undefined,
      policy: string | undefined,
      reason: string,
      error = 'policy_denied',
    ): Result<never, ProxyAnswer> => {
      observe({ kind: 'denied', stage, intent, identity, policy, reason });
      const detail = `${intent.host}:${intent.port} is not allowed by policy`;
      return err({ status: 403, error, detail: error === 'policy_denied' ? detail : reason, reason });
    };

    const known = mainPid();
    const root = typeof known === 'number' ? known : await known;
    if (root === undefined)
      return denied(stageOf(intent.via), undefined, undefined, 'the main process does not run yet');
    const caller = await callers.identify(connectionOf(client), root);
    if (!caller.ok) return denied(stageOf(intent.via), undefined, undefined, caller.error);
    const identity = caller.value;
    const decision = authorize(intent, identity);
    if (decision.kind === 'deny')
      return denied(stageOf(intent.via), identity, decision.policy, decision.reason);
    const required =
      decision.tls === 'skip'
        ? decision.middlewares.find(({ config }) => config.onError !== 'fail_open')
        : undefined;
    if (required !== undefined)
      return denied(
        stageOf(intent.via),
        identity,
        decision.policy,
        `requests to this host must pass the middleware ${required.config.name}, and tls: skip leaves nothing for it to look at: leave it out, or exclude the host there`,
        'middleware_required',
      );
    if (decision.credentials === 'refuse')
      return denied(
        stageOf(intent.via),
        identity,
        decision.policy,
        'credentials travel to this endpoint, and nobody could look at them: give it a protocol and leave tls: skip out, or accept it with allow_uninspected_credentials',
        'uninspected_credentials',
      );
    const planned = this.#excused(
      intent,
      decision,
      await planDestination(intent.host, intent.port, decision.destination, resolve, judgeAddress),
    );
    if (!planned.ok) {
      if (planned.error.kind === 'refused')
        return denied('ssrf', identity, decision.policy, planned.error.reason, 'ssrf_denied');
      return this.#failed(intent, identity, decision.policy, planned.error.reason);
    }
    if (generation() !== decision.generation)
      return denied(
        stageOf(intent.via),
        identity,
        decision.policy,
        'the policy changed meanwhile; try again',
      );
    const dialled = await this.#dial(intent, planned.value);
    if (!dialled.ok) return this.#failed(intent, identity, decision.policy, dialled.error);
    if (client.destroyed || generation() !== decision.generation) {
      dialled.value.destroy();
      return denied(
        stageOf(intent.via),
        identity,
        decision.policy,
        'the policy changed meanwhile; try again',
      );
    }
    const address = dialled.value.remoteAddress ?? '';
    observe({ kind: 'opened', intent, identity, policy: decision.policy, address });
    const redial = async (): Promise<Result<Socket, string>> =>
      generation() === decision.generation
        ? this.#dial(intent, planned.value)
        : err('the policy changed meanwhile');
    return ok({ intent, identity, grant: decision, upstream: dialled.value, redial });
  }

  /** Plain requests never take the site's proxy (contract.md, 8.6). */
  #dial({ host, port, via }: Intent, addresses: readonly string[]): Promise<Result<Socket, string>> {
    const { upstreamProxy } = this.#options;
    return upstreamProxy === undefined || via === 'forward'
      ? dial(addresses, port)
      : dialByProxy(upstreamProxy, host, port, addresses);
  }

  /** A name that only the site's proxy can resolve may be left to it, when the policy trusts the name whatever its addresses. */
  #excused(
    { via }: Intent,
    { destination }: Grant,
    planned: Result<readonly string[], DestinationFailure>,
  ): Result<readonly string[], DestinationFailure> {
    const { upstreamProxy } = this.#options;
    const unresolved = !planned.ok && planned.error.kind === 'unresolved';
    const trusted =
      upstreamProxy?.byHostname === true && via !== 'forward' && destination.kind === 'exact-host';
    return unresolved && trusted ? ok([]) : planned;
  }

  #failed(
    intent: Intent,
    identity: CallerIdentity,
    policy: string,
    reason: string,
  ): Result<never, ProxyAnswer> {
    this.#options.observe({ kind: 'failed', intent, identity, policy, reason });
    return err({ status: 502, error: 'upstream_unreachable', detail: reason });
  }
}

function connectionOf(client: Socket) {
  return {
    localAddress: client.localAddress ?? '',
    localPort: client.localPort ?? 0,
    remoteAddress: client.remoteAddress ?? '',
    remotePort: client.remotePort ?? 0,
  };
}
