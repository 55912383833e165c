import type { CallerIdentity, Grant, Intent } from '../../policy/intent.ts';
import type { RequestDecision } from '../../policy/request.ts';
import type { CredentialStore } from '../credentials/credential-store.ts';
import type { TokenGrants } from '../credentials/token-grants.ts';
import type { Evaluation } from '../middleware/evaluation.ts';
import type { Middlewares } from '../middleware/middlewares.ts';
import type { MessageAssembly } from '../protocols/message-assembly.ts';
import type { Field } from './fields.ts';
import type { Upstream } from './upstream.ts';

/** What happened to one request inside a connection. */
export interface RequestEvent {
  readonly outcome: 'allowed' | 'denied' | 'audited' | 'malformed' | 'failed';
  readonly method: string;
  /** Canonical, without its query. */
  readonly path: string;
  readonly policy: string;
  readonly rule: string | undefined;
  readonly reason: string | undefined;
  /** Who denied it, where that was not policy: then no rule would allow it. */
  readonly by?: 'middleware';
}

/** A request that was allowed, on its way out. */
export interface OutgoingHead {
  readonly method: string;
  readonly path: string;
  readonly rawQuery: string | undefined;
  readonly fields: readonly Field[];
}

/** An answer that is given instead of the server's. */
export interface LocalAnswer {
  readonly status: number;
  readonly body: Readonly<Record<string, unknown>>;
  readonly headers?: readonly Field[];
}

/** What is told to whoever may propose policy. */
export interface ProposalGuide {
  /** Where the skill lies that says how; undefined where it could be written nowhere. */
  readonly skillPath: string | undefined;
}

/** What is known of a connection whose requests are looked at. */
export interface ConnectionContext {
  readonly intent: Intent;
  readonly identity: CallerIdentity;
  readonly grant: Grant;
  readonly scheme: 'http' | 'https';
  readonly upstream: Upstream;
  /** Whether the policy that granted the connection is still the one in force. */
  readonly current: () => boolean;
  readonly observe: (event: RequestEvent) => void;
  readonly middlewares: Middlewares;
  readonly observeMiddleware: (evaluation: Evaluation) => void;
  readonly bodies: BodyBudget;
  readonly assembly: MessageAssembly;
  /** What whoever is denied is told of proposals, while they may be made. */
  readonly proposals?: () => ProposalGuide | undefined;
  /** Undefined where the gateway has none to give. */
  readonly credentials?: CredentialStore;
  /** Tokens that are fetched for requests. */
  readonly grants?: TokenGrants;
}

export type Decided = RequestDecision;

/** Bounds what all requests together hold in memory of their bodies, in bytes. */
export class BodyBudget {
  readonly #maxBytes: number;
  #used = 0;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** Takes so many bytes, or none and says false. */
  take(bytes: number): boolean {
    if (this.#used + bytes > this.#maxBytes) return false;
    this.#used += bytes;
    return true;
  }

  give(bytes: number): void {
    this.#used -= bytes;
  }
}
