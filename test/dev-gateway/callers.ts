import { type Metadata, status } from '@grpc/grpc-js';
import { type Fault, failure, faultError } from './status-errors.ts';
import type { Principal, Tokens } from './tokens.ts';

/** How many tokens that name no sandbox are remembered with the one that they were first used for. */
const BOUND = 2_560;

/** Who calls, and for which sandbox it may speak. */
export class Callers {
  readonly #tokens: Tokens;
  readonly #bound = new Map<string, string>();
  /** What every call gets instead of its answer. */
  fault: Fault | undefined;

  constructor(tokens: Tokens) {
    this.#tokens = tokens;
  }

  /** Throws unless the call has a token that is one. */
  principal(metadata: Metadata): Exclude<Principal, { kind: 'none' }> {
    if (this.fault !== undefined) throw faultError(this.fault);
    const principal = this.#tokens.principal(metadata.get('authorization')[0]?.toString());
    if (principal.kind === 'none') throw failure(status.UNAUTHENTICATED, 'no valid token');
    return principal;
  }

  /** The caller's sandbox. Throws unless its token is ours and belongs to `sandboxId` (empty = none named). */
  authorize(metadata: Metadata, sandboxId: string): string {
    const principal = this.principal(metadata);
    if (principal.kind !== 'sandbox') throw failure(status.UNAUTHENTICATED, 'not a token of this gateway');
    const own = principal.sandboxId || this.#bound.get(principal.token) || '';
    if (sandboxId === '' || own === sandboxId) return own;
    if (own !== '') throw failure(status.PERMISSION_DENIED, 'the token belongs to another sandbox');
    this.#bound.set(principal.token, sandboxId);
    const [oldest] = this.#bound.keys();
    if (this.#bound.size > BOUND && oldest !== undefined) this.#bound.delete(oldest);
    return sandboxId;
  }

  /** A person has no token here: this gateway listens where only they are. Throws for whoever has one. */
  person(metadata: Metadata): void {
    if (metadata.get('authorization').length > 0)
      throw failure(status.PERMISSION_DENIED, 'a sandbox has no say in this');
  }
}
