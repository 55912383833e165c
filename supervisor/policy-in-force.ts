import type { GetSandboxConfigResponse } from '../proto/generated/openshell/sandbox/v1/sandbox.ts';
import { PolicySource } from '../proto/generated/openshell/sandbox/v1/sandbox.ts';
import { compilePolicy, type PolicyGeneration, quarantined } from './policy/compilation.ts';
import { decide } from './policy/decision.ts';
import { describeFault, type PolicyDocument, type PolicyFault } from './policy/document.ts';
import type { CallerIdentity, Decision, Intent } from './policy/intent.ts';
import { policyFromWire } from './policy/wire.ts';
import type { Result } from './result.ts';

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

/** The one policy that decisions are made by, and how it changes. */
export class PolicyInForce {
  #generation: PolicyGeneration;
  #document: PolicyDocument;
  #hash = '';
  #version = 0;
  /** Whether the policy in force is a valid one, rather than a quarantine. */
  #valid = true;

  constructor(document: PolicyDocument) {
    this.#document = document;
    this.#generation = compilePolicy(document, { generation: 1 });
  }

  get document(): PolicyDocument {
    return this.#document;
  }

  get generation(): number {
    return this.#generation.generation;
  }

  /** Version of the sandbox's policy at the gateway; 0 when it did not come from there. */
  get version(): number {
    return this.#version;
  }

  decide(intent: Intent, identity: CallerIdentity): Decision {
    return decide(this.#generation, intent, identity);
  }

  /** Denies everything from now on. */
  quarantine(reason: string): void {
    this.#valid = false;
    this.#generation = quarantined(reason, this.generation + 1);
  }

  /**
   * Takes a configuration of the gateway: a valid policy is swapped in whole; an invalid one is either
   * refused, keeping the last valid one (`retain_last_valid`), or closes everything (contract.md, 7.9).
   * Static parts (files, process) stay as the workload was started with; the caller reports that.
   */
  apply(config: GetSandboxConfigResponse): Outcome {
    const version = reportable(config);
    // Nothing to take; and while everything is denied there is nothing that could be called loaded.
    if (config.policy === undefined) return { kind: 'unchanged', version: this.#valid ? version : 0 };
    if (config.policyHash !== '' && config.policyHash === this.#hash && this.#valid) {
      this.#version = version;
      return { kind: 'unchanged', version };
    }
    const parsed = policyFromWire(config.policy);
    if (!parsed.ok) {
      const reason = faultsOf(parsed);
      const keep = config.policyValidationFailureMode === 'retain_last_valid' && this.#valid;
      if (!keep) this.quarantine(`policy version ${config.version} was rejected: ${reason}`);
      return { kind: 'rejected', version, hash: config.policyHash, reason, kept: keep };
    }
    this.#generation = compilePolicy(parsed.value, { generation: this.generation + 1 });
    this.#document = parsed.value;
    this.#hash = config.policyHash;
    this.#version = version;
    this.#valid = true;
    return { kind: 'loaded', version, hash: config.policyHash };
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
