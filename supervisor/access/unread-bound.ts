import type { ServerChannel } from 'ssh2';

/** From here on a channel lets its client send no more than the window that it has been given: 2 MiB in ssh2. */
const HIGH_WATER = 256 * 1024;
/** More than both together, and so more than a client was ever allowed to send. */
const MAX_UNREAD = 4 << 20;
/** Of all channels. */
const MAX_TOGETHER = 64 << 20;

/**
 * What clients have sent and nobody in the sandbox has read yet. ssh2 hands out windows of 2 MiB, and does not hold a
 * client to them; a client that goes further, or that adds to 64 MiB of all clients, loses its connection.
 */
export class UnreadBound {
  readonly #channels = new Set<ServerChannel>();

  /** From now on; until the function that it returns is called, when the channel has gone. */
  bound(channel: ServerChannel, drop: (reason: string) => void): () => void {
    const state = (channel as unknown as { readonly _readableState: { highWaterMark: number } })
      ._readableState;
    state.highWaterMark = HIGH_WATER;
    this.#channels.add(channel);
    const push = channel.push.bind(channel);
    channel.push = (chunk: Buffer | null) => {
      if (chunk === null || this.#takes(channel.readableLength + chunk.length)) return push(chunk);
      drop('it sends more than it may');
      return false;
    };
    return () => void this.#channels.delete(channel);
  }

  #takes(unread: number): boolean {
    if (unread <= HIGH_WATER) return true;
    if (unread > MAX_UNREAD) return false;
    let together = 0;
    for (const { readableLength } of this.#channels) together += readableLength;
    return together <= MAX_TOGETHER;
  }
}
