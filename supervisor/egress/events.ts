import type { CallerIdentity, Intent } from '../policy/intent.ts';
import type { RequestEvent } from './http/connection-context.ts';
import type { Evaluation } from './middleware/evaluation.ts';

/** Where in the pipeline a connection was refused; the names are the contract's denial stages. */
export type DenialStage =
  | 'connect'
  | 'forward'
  | 'transparent-tcp'
  | 'ssrf'
  | 'connect-l7-parse-rejection'
  | 'forward-l7-parse-rejection';

/** The stage that denies before any destination is known. Upstream has no SOCKS; what it does is what CONNECT does. */
export function stageOf(via: Intent['via']): DenialStage {
  if (via === 'transparent') return 'transparent-tcp';
  return via === 'socks' ? 'connect' : via;
}

/** What happened to one connection. Logs, metrics and denial summaries are made of these. */
export type EgressEvent =
  | {
      readonly kind: 'denied';
      readonly stage: DenialStage;
      readonly intent: Intent;
      readonly identity: CallerIdentity | undefined;
      readonly policy: string | undefined;
      readonly reason: string;
    }
  /** One request inside a connection that is looked at. */
  | {
      readonly kind: 'request';
      readonly intent: Intent;
      readonly identity: CallerIdentity;
      readonly request: RequestEvent;
    }
  /** A middleware was asked about a request or message; what became of that is a `request` of its own. */
  | {
      readonly kind: 'middleware';
      readonly intent: Intent;
      readonly identity: CallerIdentity;
      readonly policy: string;
      readonly evaluation: Evaluation;
    }
  | {
      readonly kind: 'opened';
      readonly intent: Intent;
      readonly identity: CallerIdentity;
      readonly policy: string;
      readonly address: string;
    }
  | {
      readonly kind: 'failed';
      readonly intent: Intent;
      readonly identity: CallerIdentity;
      readonly policy: string;
      readonly reason: string;
    }
  | {
      readonly kind: 'closed';
      readonly intent: Intent;
      readonly sentBytes: number;
      readonly receivedBytes: number;
      readonly durationMs: number;
    }
  /** The sandbox's resolver was asked for a name outside the policy; so many others before it were not told of. */
  | { readonly kind: 'name-denied'; readonly name: string; readonly passedOver: number }
  /** A name of the policy got no address. */
  | { readonly kind: 'name-failed'; readonly name: string; readonly reason: string }
  | { readonly kind: 'refused'; readonly reason: 'too-many-connections' | 'malformed' };

export type EgressObserver = (event: EgressEvent) => void;
