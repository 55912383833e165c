import type { GetSandboxConfigResponse } from '../proto/generated/openshell/sandbox/v1/sandbox.ts';
import { PolicySource } from '../proto/generated/openshell/sandbox/v1/sandbox.ts';
import { compilePolicy, type PolicyGeneration, quarantined } from './policy/compilation.ts';
import { decide } from './policy/decision.ts';
import type { PolicyDocument } from './policy/document.ts';
import { describeFault, type PolicyFault } from './policy/fault.ts';
import type { CallerIdentity, Decision, Intent } from './policy/intent.ts';
import { reachablePorts } from './policy/reachable.ts';
import { RESTRICTIVE_DEFAULT } from './policy/restrictive-default.ts';
import { policyFromWire } from './policy/wire.ts';
import type { Result } from './result.ts';
import type { SandboxFacts } from './sandbox-facts.ts';

/** What became of a configuration that came from the gateway. */
export type Outcome =
  | { readonly kind: 'loaded'; readonly version: number; readonly hash: string }
  | { readonly kind: 'unchanged'; readonly version: number }
  | {
      readonly kind: 'rejected';
      readonly version: number;
      readonly hash: string;
      readonly reason: string;
      readonly kept: boolean;
    };

/** Why everything may be denied although there is a valid policy; both can hold at once. */
export type Closure = 'rejected' | 'offline';

/** The one policy that decisions are made by, and how it changes. */
export class PolicyInForce {
  #generation: PolicyGeneration;
  #document: PolicyDocument;
  /** Whether `#document` is a policy that somebody gave, rather than what stands in for one. */
  #valid: boolean;
  readonly #closures = new Map<Closure, string>();
  #hash = '';
  #version = 0;

  readonly #facts: SandboxFacts;

  /** Without a document everything is denied as the restrictive default does, until a valid one is applied. */
  constructor(document?: PolicyDocument, facts: SandboxFacts = {}) {
    this.#document = document ?? RESTRICTIVE_DEFAULT;
    this.#valid = document !== undefined;
    this.#facts = facts;
    this.#generation = compilePolicy(this.#document, { generation: 1, ...facts });
  }

  get document(): PolicyDocument {
    return this.#document;
  }

  /** Rises with every change of what is decided. */
  get generation(): number {
    return this.#generation.generation;
  }

  /** Version of the sandbox's policy at the gateway; 0 when it did not come from there. */
  get version(): number {
    return this.#version;
  }

  /** Why everything is denied; undefined while the policy decides. */
  get closed(): string | undefined {
    return this.#generation.kind === 'quarantine' ? this.#generation.reason : undefined;
  }

  decide(intent: Intent, identity: CallerIdentity): Decision {
    return decide(this.#generation, intent, identity);
  }

  /** At which ports the policy names a host, whoever may call; none while everything is denied. */
  reachablePorts(host: string): readonly number[] {
    return reachablePorts(this.#generation, host);
  }

  /** What requests must pass has changed: nothing is to go by a decision of before. */
  renew(): void {
    this.#renew();
  }

  /** Denies everything from now on, for this reason, until that closure is lifted. */
  close(closure: Closure, reason: string): void {
    this.#closures.set(closure, reason);
    this.#renew();
  }

  /** Lifts a closure; without another one the policy decides again. */
  open(closure: Closure): void {
    if (this.#closures.delete(closure)) this.#renew();
  }

  /**
   * Takes a configuration of the gateway: a valid policy is swapped in whole; an invalid one is either
   * refused, keeping the last valid one (`retain_last_valid`), or closes everything (contract.md, 7.9). Either
   * mode acts at once, also on a policy that was rejected before.
   * Static parts (files, process) stay as the workload was started with; the caller reports that.
   */
  apply(config: GetSandboxConfigResponse): Outcome {
    const version = reportable(config);
    const rejected = this.#closures.has('rejected');
    // Nothing to take; and while a rejected one closes everything there is nothing that could be called loaded.
    if (config.policy === undefined) return { kind: 'unchanged', version: rejected ? 0 : version };
    if (config.policyHash !== '' && config.policyHash === this.#hash && this.#valid && !rejected) {
      this.#version = version;
      return { kind: 'unchanged', version };
    }
    const parsed = policyFromWire(config.policy);
    if (!parsed.ok) {
      const reason = faultsOf(parsed);
      const kept = config.policyValidationFailureMode === 'retain_last_valid' && this.#valid;
      if (kept) this.open('rejected');
      else this.close('rejected', `policy version ${config.version} was rejected: ${reason}`);
      return { kind: 'rejected', version, hash: config.policyHash, reason, kept };
    }
    this.#document = parsed.value;
    this.#valid = true;
    this.#hash = config.policyHash;
    this.#version = version;
    this.#closures.delete('rejected');
    this.#renew();
    return { kind: 'loaded', version, hash: config.policyHash };
  }

  #renew(): void {
    const generation = this.generation + 1;
    const [reason] = this.#closures.values();
    this.#generation =
      reason === undefined
        ? compilePolicy(this.#document, { generation, ...this.#facts })
        : quarantined(reason, generation);
  }
}

/** Only revisions of the sandbox's own policy are reported (contract.md, 7.9). */
function reportable(config: GetSandboxConfigResponse): number {
  return config.policySource === PolicySource.POLICY_SOURCE_SANDBOX ? config.version : 0;
}

/** Up to three faults in one line. */
export function faultsOf(parsed: Result<unknown, readonly PolicyFault[]>): string {
  if (parsed.ok) return '';
  const shown = parsed.error.slice(0, 3).map(describeFault).join('; ');
  return parsed.error.length > 3 ? `${shown}; and ${parsed.error.length - 3} more` : shown;
}
