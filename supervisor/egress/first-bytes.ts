import type { Socket } from 'node:net';

/** How long a client may take to say which protocol it speaks. */
const FIRST_BYTES_MS = 30_000;

/** What a client says first, left in its socket; undefined when it ends, or says nothing for `withinMs` milliseconds. */
export function firstBytes(client: Socket, withinMs = FIRST_BYTES_MS): Promise<Buffer | undefined> {
  return new Promise((resolve) => {
    const done = (bytes: Buffer | undefined): void => {
      clearTimeout(timer);
      client.off('readable', look);
      client.off('end', none);
      client.off('close', none);
      resolve(bytes);
    };
    const none = (): void => done(undefined);
    const look = (): void => {
      const bytes: Buffer | null = client.read();
      if (bytes === null) return;
      client.unshift(bytes);
      done(bytes);
    };
    const timer = setTimeout(none, withinMs);
    client.on('readable', look);
    client.once('end', none);
    client.once('close', none);
    look();
  });
}
