import type { ServerChannel } from 'ssh2';

/**
 * Ends our side of a channel and closes it, after what was written. What the client still sends is dropped, and no window is
 * given for it: ssh2 1.17 would send one behind the close, where it is a breach of the protocol (RFC 4254, 5.3).
 */
export function closeChannel(channel: ServerChannel): void {
  channel.incoming.window = Number.POSITIVE_INFINITY;
  channel.end();
  channel.resume();
}
