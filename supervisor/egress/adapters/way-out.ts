import type { Socket } from 'node:net';
import type { Intent } from '../../policy/intent.ts';
import type { Result } from '../../result.ts';
import type { Granted } from '../pipeline.ts';
import type { ProxyAnswer } from '../responses.ts';

/** What an adapter needs of the pipeline: a decision and a connection for an intent, and then its bytes carried. */
export interface WayOut {
  /** Identifies the client, decides and dials, or says what the client is to be told instead. */
  open(intent: Intent, client: Socket): Promise<Result<Granted, ProxyAnswer>>;
  /** Takes over both sockets; `head` is what has been read of the client already. */
  carry(granted: Granted, client: Socket, head: Buffer): void;
}
