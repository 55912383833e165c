import type { CallerIdentity, Intent } from '../policy/intent.ts';
import type { RequestEvent } from './http/connection-context.ts';

/** Where in the pipeline a connection was refused; the names are the contract's denial stages. */
export type DenialStage =
  | 'connect'
  | 'forward'
  | 'ssrf'
  | 'connect-l7-parse-rejection'
  | 'forward-l7-parse-rejection';

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
  | { readonly kind: 'refused'; readonly reason: 'too-many-connections' | 'malformed' };

export type EgressObserver = (event: EgressEvent) => void;
