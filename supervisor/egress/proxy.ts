import { createServer, type Server } from 'node:http';
import type { AddressInfo, Server as ListeningServer, Socket } from 'node:net';
import { Fault } from '../fault.ts';
import { err, ok, type Result } from '../result.ts';
import { handleConnect } from './adapters/connect.ts';
import { handleForward } from './adapters/forward.ts';
import type { WayOut } from './adapters/way-out.ts';
import { ConnectionSlots, type Slot } from './connection-slots.ts';
import { LocalServices } from './local-services.ts';
import { EgressPipeline, type PipelineOptions } from './pipeline.ts';
import { answerText } from './responses.ts';
import { type TunnelOptions, Tunnels } from './tunnels.ts';

export interface ExplicitProxyOptions extends PipelineOptions, TunnelOptions {
  readonly host: string;
  readonly port: number;
  /** Listens already, where this process cannot; else one is made on `host` and `port`. */
  readonly listener?: ListeningServer;
  /** Hosts that the supervisor is itself; none by default. */
  readonly local?: LocalServices;
  /** What connections share with those of the other adapters; 1024 by default. One without a slot is answered 503. */
  readonly slots?: ConnectionSlots;
}

/** A running proxy. */
export interface ExplicitProxy {
  readonly host: string;
  readonly port: number;
  readonly openConnections: () => number;
  /** The same way out, for adapters that listen elsewhere. */
  readonly wayOut: WayOut;
  /**
   * Closes every tunnel that an older policy generation granted. A plain request that is under way
   * finishes: it is one request, and it was allowed (contract.md, 7.9).
   */
  closeStale(generation: number): void;
  stop(): Promise<void>;
}

const MAX_HEAD_BYTES = 8192;
const HEAD_TIMEOUT_MS = 15_000;

/**
 * Starts the explicit proxy (CONNECT and absolute-form HTTP) on a loopback address. Fails with a Fault of
 * kind `listen` when the address is taken or not allowed.
 */
export async function startExplicitProxy(
  options: ExplicitProxyOptions,
): Promise<Result<ExplicitProxy, Fault>> {
  const pipeline = new EgressPipeline(options);
  const sockets = new Set<Socket>();
  const slots = options.slots ?? new ConnectionSlots(1024);
  const taken = new WeakMap<object, Slot>();
  const tunnels = new Tunnels(options);
  const local = options.local ?? new LocalServices([], undefined);
  const wayOut: WayOut = {
    async open(intent, client) {
      const service = local.find(intent);
      if (service !== undefined) return ok(local.way(service));
      const opened = await pipeline.open(intent, client);
      return opened.ok ? ok(tunnels.way(opened.value)) : opened;
    },
  };

  // One request a connection: what follows the first one could be meant for another pair of eyes.
  const used = new WeakSet<object>();
  const server: Server = createServer(
    {
      maxHeaderSize: MAX_HEAD_BYTES,
      headersTimeout: HEAD_TIMEOUT_MS,
      requestTimeout: 0,
      keepAlive: false,
      insecureHTTPParser: false,
    },
    (request, response) => {
      // A later one is never answered: the first answer closes the connection.
      if (used.has(request.socket)) return;
      used.add(request.socket);
      taken.get(request.socket)?.busy();
      const startedAt = options.clock.monotonic();
      handleForward(request, response, pipeline, tunnels, local, false, (intent, totals) => {
        const durationMs = Math.round(options.clock.monotonic() - startedAt);
        options.observe({ kind: 'closed', intent, ...totals, durationMs });
      }).catch(() => request.socket.destroy());
    },
  );
  server.on('connect', (request, socket, head: Buffer) => {
    if (used.has(socket)) return void socket.destroy();
    used.add(socket);
    taken.get(socket)?.busy();
    handleConnect(request, socket as Socket, head, wayOut).catch(() => socket.destroy());
  });
  server.on('connection', (socket: Socket) => {
    const slot = slots.take(socket);
    if (slot === undefined) {
      options.observe({ kind: 'refused', reason: 'too-many-connections' });
      const detail = `${slots.max} connections are open already`;
      socket.end(answerText({ status: 503, error: 'too_many_connections', detail }));
      socket.on('error', () => undefined);
      socket.destroySoon();
      return;
    }
    socket.setNoDelay(true);
    socket.allowHalfOpen = true;
    taken.set(socket, slot);
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
  });
  server.on('clientError', (error: NodeJS.ErrnoException, socket) => {
    options.observe({ kind: 'refused', reason: 'malformed' });
    const tooLarge = error.code === 'HPE_HEADER_OVERFLOW';
    const detail = tooLarge ? `the request head exceeds ${MAX_HEAD_BYTES} bytes` : 'the request is malformed';
    // After a request an answer may be under way: a second head inside it would be a lie.
    if (socket.writable && !used.has(socket))
      socket.end(answerText({ status: tooLarge ? 431 : 400, error: 'invalid_request', detail }));
    else socket.destroy();
  });

  const failure = await new Promise<NodeJS.ErrnoException | undefined>((resolve) => {
    server.once('error', resolve);
    const done = (): void => resolve(undefined);
    if (options.listener !== undefined) server.listen(options.listener, done);
    else server.listen({ host: options.host, port: options.port, backlog: 511 }, done);
  });
  if (failure !== undefined) {
    const why = failure.code === 'EADDRINUSE' ? 'the address is taken' : (failure.code ?? failure.message);
    const message = `the proxy cannot listen on ${options.host}:${options.port}: ${why}; choose another port with --proxy-port`;
    return err(new Fault('listen', message, { cause: failure }));
  }
  server.removeAllListeners('error');
  server.on('error', () => undefined); // accept(2) running out of descriptors is passing: keep listening
  const address = server.address() as AddressInfo;
  return ok({
    host: options.host,
    port: address.port,
    openConnections: () => sockets.size,
    wayOut,
    closeStale: (generation) => tunnels.closeStale(generation),
    async stop() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      for (const socket of sockets) socket.destroy();
      tunnels.close();
      local.close();
      await closed;
    },
  });
}
