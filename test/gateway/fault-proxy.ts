import { connect, createServer, type Server, type Socket } from 'node:net';

/** What the proxy does to new connections and to what flows through the old ones. */
export type Weather =
  | { readonly kind: 'fair' }
  /** Nothing that comes is passed on, and nobody is told: a host or a route that is gone. */
  | { readonly kind: 'silent' }
  /** A few bytes at a time, each after a while. */
  | { readonly kind: 'slow'; readonly delayMs: number; readonly bytes: number };

export interface FaultProxy {
  readonly port: number;
  /** Connections that were ever accepted. */
  readonly accepted: () => number;
  readonly open: () => number;
  setWeather(weather: Weather): void;
  /** Resets every connection, so that both ends see ECONNRESET. */
  reset(): void;
  /** Closes the port: the kernel refuses new connections. Old ones go on. */
  refuse(): Promise<void>;
  accept(): Promise<void>;
  stop(): Promise<void>;
}

/** A TCP proxy on loopback that spoils what passes it. */
export async function startFaultProxy(target: number): Promise<FaultProxy> {
  const pairs = new Set<readonly [Socket, Socket]>();
  let weather: Weather = { kind: 'fair' };
  let accepted = 0;
  let server: Server | undefined;
  const onConnection = (client: Socket): void => {
    accepted += 1;
    const upstream = connect(target, '127.0.0.1');
    const pair = [client, upstream] as const;
    pairs.add(pair);
    const over = (): void => {
      // In silence the end of one side is not told to the other either.
      if (weather.kind === 'silent') return;
      pairs.delete(pair);
      client.destroy();
      upstream.destroy();
    };
    for (const [from, to] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      let queue: Promise<void> = Promise.resolve();
      from.setNoDelay(true);
      from.on('error', () => undefined);
      from.on('close', over);
      from.on('data', (chunk: Buffer) => {
        queue = queue.then(() => pass(chunk, to, () => weather));
      });
    }
  };
  const listen = (port: number): Promise<Server> =>
    new Promise((resolve, reject) => {
      const fresh = createServer(onConnection);
      fresh.once('error', reject);
      fresh.listen(port, '127.0.0.1', () => resolve(fresh));
    });
  server = await listen(0);
  const address = server.address();
  const port = typeof address === 'object' && address !== null ? address.port : 0;
  const close = async (): Promise<void> => {
    const old = server;
    server = undefined;
    // Only the listener: the connections are what the faults are for.
    if (old !== undefined) old.close();
    await new Promise(setImmediate);
  };
  return {
    port,
    accepted: () => accepted,
    open: () => pairs.size,
    setWeather: (next) => {
      weather = next;
    },
    reset: () => {
      for (const [client, upstream] of pairs) {
        client.resetAndDestroy();
        upstream.resetAndDestroy();
      }
      pairs.clear();
    },
    refuse: close,
    accept: async () => {
      server ??= await listen(port);
    },
    stop: async () => {
      await close();
      for (const pair of pairs) for (const socket of pair) socket.destroy();
    },
  };
}

async function pass(chunk: Buffer, to: Socket, weather: () => Weather): Promise<void> {
  const now = weather();
  if (now.kind === 'silent' || to.destroyed) return;
  if (now.kind === 'fair') {
    to.write(chunk);
    return;
  }
  for (let from = 0; from < chunk.length && !to.destroyed; from += now.bytes) {
    await new Promise((resolve) => setTimeout(resolve, now.delayMs));
    if (weather().kind !== 'silent') to.write(chunk.subarray(from, from + now.bytes));
  }
}
