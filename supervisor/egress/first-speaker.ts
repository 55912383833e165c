import type { Socket } from 'node:net';

const textOf = (bytes: Buffer): string => bytes.toString('latin1', 0, 33);

/** Whether a lenient server could take these first bytes for HTTP/1. */
export const mayBeHttp = (bytes: Buffer): boolean =>
  /^(?:[\r\n]|[A-Za-z][A-Za-z0-9_-]{0,31}[ \t])/.test(textOf(bytes));

/** Whether they could still become a method. A client that sends them one by one must not choose to be passed over. */
const mayBecomeHttp = (bytes: Buffer): boolean => /^[A-Za-z][A-Za-z0-9_-]{0,31}$/.test(textOf(bytes));

/**
 * Waits for the first bytes of either side: those of the client, left in its socket, as many as it takes to tell HTTP
 * from other protocols; or `server`. Undefined when one side ends, or neither has spoken within so many milliseconds.
 */
export function firstSpeaker(
  client: Socket,
  server: Socket,
  withinMs: number,
): Promise<Buffer | 'server' | undefined> {
  return new Promise((resolve) => {
    let said = Buffer.alloc(0);
    const done = (speaker: Buffer | 'server' | undefined): void => {
      clearTimeout(timer);
      for (const one of [client, server]) {
        one.off('readable', one === client ? lookAtClient : lookAtServer);
        one.off('end', none);
        one.off('close', none);
      }
      if (said.length > 0) client.unshift(said);
      resolve(speaker);
    };
    const none = (): void => done(undefined);
    const lookAtClient = (): void => {
      const bytes: Buffer | null = client.read();
      if (bytes === null) return;
      said = Buffer.concat([said, bytes]);
      if (!mayBecomeHttp(said)) done(said);
    };
    const lookAtServer = (): void => {
      const bytes: Buffer | null = server.read();
      if (bytes === null) return;
      server.unshift(bytes);
      done('server');
    };
    const timer = setTimeout(none, withinMs);
    for (const one of [client, server]) {
      one.once('end', none);
      one.once('close', none);
    }
    client.on('readable', lookAtClient);
    server.on('readable', lookAtServer);
    lookAtClient();
  });
}
