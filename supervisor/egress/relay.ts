import type { Socket } from 'node:net';

/** Bytes each way, seen from the workload. */
export interface RelayTotals {
  readonly sentBytes: number;
  readonly receivedBytes: number;
}

/**
 * Relays opaque bytes between a client and an upstream socket until both directions have ended. Half-close
 * is passed on; a reset or an error of one side resets the other, so that an abort never looks like an end.
 * Memory is bounded by the streams' own high-water marks (64 KiB each way), because `pipe` stops reading
 * from the faster side. Both sockets must have been made with `allowHalfOpen`. A tunnel without a byte
 * for `idleMs` is reset.
 */
export function relay(
  client: Socket,
  upstream: Socket,
  idleMs: number,
  onEnd: (totals: RelayTotals) => void,
): void {
  let open = 2;
  const follow = (one: Socket, other: Socket): void => {
    one.on('error', () => undefined); // 'close' follows and says that there was one
    one.once('close', (failed) => {
      if (failed) other.resetAndDestroy();
      else other.destroySoon(); // what is written already still goes out
      open -= 1;
      if (open === 0) onEnd({ sentBytes: client.bytesRead, receivedBytes: upstream.bytesRead });
    });
    // libuv keeps one timer a socket and moves it at each read and write: nothing is allocated a chunk.
    one.setTimeout(idleMs, () => abortRelay(client, upstream));
  };
  follow(client, upstream);
  follow(upstream, client);
  client.pipe(upstream);
  upstream.pipe(client);
}

/** Breaks a relay off so that neither side can take it for an end. */
export function abortRelay(client: Socket, upstream: Socket): void {
  client.resetAndDestroy();
  upstream.resetAndDestroy();
}
