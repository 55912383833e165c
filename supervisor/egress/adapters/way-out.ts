import type { Socket } from 'node:net';
import type { Intent } from '../../policy/intent.ts';
import type { Result } from '../../result.ts';
import type { ProxyAnswer } from '../responses.ts';

/** A connection that may be: to a granted upstream, or to a service of the supervisor's own. */
export interface Way {
  /** Takes over the client; `head` is what has been read of it already. */
  carry(client: Socket, head: Buffer): void;
  /** The client went away before it could be carried. */
  abandon(): void;
}

/** What an adapter needs of the pipeline: a way for an intent, or what the client is to be told instead. */
export interface WayOut {
  open(intent: Intent, client: Socket): Promise<Result<Way, ProxyAnswer>>;
}
