import type { Socket } from 'node:net';

/** Bytes each way, seen from the workload. */
export interface RelayTotals {
  readonly sentBytes: number;
  readonly receivedBytes: number;
}

/**
 * Relays opaque bytes between a client and an upstream socket until both directions have ended: half-close
 * is passed on, a failure or an abort of one side destroys the other. Memory is bounded by the streams'
 * own high-water marks (64 KiB each way), because `pipe` stops reading from a fast side.
 * Both sockets must have been made with `allowHalfOpen`.
 */
export function relay(client: Socket, upstream: Socket, onEnd: (totals: RelayTotals) => void): void {
  let open = 2;
  const closed = (): void => {
    client.destroy();
    upstream.destroy();
    open -= 1;
    if (open === 0) onEnd({ sentBytes: client.bytesRead, receivedBytes: upstream.bytesRead });
  };
  client.on('error', () => undefined); // 'close' follows and does the work
  upstream.on('error', () => undefined);
  client.once('close', closed);
  upstream.once('close', closed);
  // A socket that has both read its end and written its own closes by itself.
  client.pipe(upstream);
  upstream.pipe(client);
}
