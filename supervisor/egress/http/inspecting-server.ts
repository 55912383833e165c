import {
  createServer as createHttp1,
  type IncomingMessage,
  type Server,
  type ServerResponse,
} from 'node:http';
import {
  createServer as createHttp2,
  type Http2Server,
  type Http2Stream,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from 'node:http2';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { TLSSocket } from 'node:tls';
import { type ClientExchange, http1Exchange, http2Exchange } from './client-exchange.ts';

/** Of the head of a request, in bytes (contract.md, 13). */
const MAX_HEAD_BYTES = 16 * 1024;
const MAX_FIELDS = 200;
const HEAD_MS = 15_000;
const IDLE_BETWEEN_MS = 60_000;
const MAX_STREAMS = 64;
/** Requests of one HTTP/1.1 connection that wait for their answer: each costs memory, and the client none. */
const MAX_PIPELINED = 32;
const IDLE_MS = 3_600_000;
/** Of one HTTP/2 connection, in megabytes as Node counts it. */
const MAX_SESSION_MB = 8;

const isServerStream = (stream: Http2Stream): stream is ServerHttp2Stream => 'respond' in stream;

/** What becomes of the requests of one connection. What rejects breaks off what it was to handle. */
export interface ConnectionService {
  exchange(client: ClientExchange): Promise<void>;
  /** Takes over an upgrade that a client asks for, with what has been read behind its head; absent, none is had. */
  upgrade?(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void>;
  closed(): void;
}

/** Reads the requests of the connections that are given to it. */
export interface InspectingServer {
  serve(client: Socket, service: ConnectionService): void;
  close(): void;
}

/**
 * HTTP/1.1 by Node's strict parser and HTTP/2 by nghttp2, on connections that are already there. What a parser refuses
 * ends the connection without an answer (contract.md, 7.7): whoever sends it is not to learn how it was read. A head
 * has `headMs` milliseconds, give or take a third.
 */
export function createInspectingServer(headMs = HEAD_MS): InspectingServer {
  const services = new WeakMap<object, ConnectionService>();

  /** Responses of a connection that are not sent yet, and the latest one. */
  const pipelines = new WeakMap<object, { waiting: number; latest: ServerResponse }>();

  const handle = (request: IncomingMessage, response: ServerResponse, expectsContinue: boolean): void => {
    const { socket } = request;
    const service = services.get(socket);
    if (service === undefined) return void socket.destroy();
    // The parser goes on through what it was given, also when an earlier request has ended the connection.
    const before = pipelines.get(socket);
    const last = before?.latest.headersSent === true && !before.latest.shouldKeepAlive;
    if (socket.destroyed || last) return;
    const pipeline = before ?? { waiting: 0, latest: response };
    pipelines.set(socket, pipeline);
    pipeline.latest = response;
    pipeline.waiting += 1;
    response.once('close', () => {
      pipeline.waiting -= 1;
    });
    // Fields past the bound are left out of what Node tells, and its parser may have gone by them.
    if (pipeline.waiting > MAX_PIPELINED || request.rawHeaders.length > 2 * MAX_FIELDS)
      return void socket.destroy();
    socket.setMaxListeners(0);
    service.exchange(http1Exchange(request, response, expectsContinue)).catch(() => request.socket.destroy());
  };
  const http1: Server = createHttp1(
    {
      maxHeaderSize: MAX_HEAD_BYTES,
      headersTimeout: headMs,
      connectionsCheckingInterval: headMs / 3,
      requestTimeout: 0,
      keepAliveTimeout: IDLE_BETWEEN_MS,
      insecureHTTPParser: false,
      requireHostHeader: true,
      shouldUpgradeCallback: (request) => request.headers.upgrade?.toLowerCase() === 'websocket',
    },
    (request, response) => handle(request, response, false),
  );
  http1.maxHeadersCount = MAX_FIELDS + 1;
  // Node sets a socket's time back to this when a kept connection is used again.
  http1.timeout = IDLE_MS;
  // Only a server that listens looks for slow heads; this one gets its connections by hand.
  http1.emit('listening');
  http1.on('checkContinue', (request, response) => handle(request, response, true));
  // Another expectation than 100-continue cannot be met (RFC 9110, 10.1.1).
  http1.on('checkExpectation', (request) => request.socket.destroy());
  http1.on('upgrade', (request, socket, head) => {
    const service = services.get(request.socket);
    const waiting = pipelines.get(request.socket)?.waiting ?? 0;
    if (service?.upgrade === undefined || waiting > 0 || request.rawHeaders.length > 2 * MAX_FIELDS)
      return void socket.destroy();
    service.upgrade(request, socket, head).catch(() => socket.destroy());
  });
  http1.on('connect', (_request, socket) => socket.destroy());
  http1.on('clientError', (_error, socket) => socket.destroy());
  http1.on('dropRequest', (_request, socket) => socket.destroy());

  const http2: Http2Server = createHttp2({
    maxSessionMemory: MAX_SESSION_MB,
    maxHeaderListPairs: MAX_FIELDS,
    settings: { maxConcurrentStreams: MAX_STREAMS, maxHeaderListSize: MAX_HEAD_BYTES, enablePush: false },
    unknownProtocolTimeout: 1,
  });
  http2.on('session', (session) => {
    session.on('error', () => session.destroy());
    session.on('frameError', () => undefined);
    session.setTimeout(IDLE_BETWEEN_MS * 10, () => session.close());
  });
  http2.on('sessionError', () => undefined);
  const sessions = new WeakMap<object, ConnectionService>();
  http2.on('stream', (stream, headers, flags, raw) => {
    // First of all: a session may be gone by now, and take its streams with it.
    stream.on('error', () => undefined);
    if (!isServerStream(stream)) return;
    const service = stream.session === undefined ? undefined : sessions.get(stream.session);
    if (service === undefined) return void stream.destroy(new Error('nobody serves it'));
    // END_STREAM on HEADERS: no body follows (RFC 9113, 6.2).
    const endsAtOnce = (flags & 1) === 1;
    service
      .exchange(http2Exchange(stream, headers, raw, endsAtOnce))
      .catch(() => stream.destroy(new Error('broken off')));
  });

  return {
    serve(client, service) {
      services.set(client, service);
      client.once('close', () => service.closed());
      if (client instanceof TLSSocket && client.alpnProtocol === 'h2') {
        // Emitted at once, or not at all: then the next one is not to be taken for it.
        const take = (session: ServerHttp2Session): void => void sessions.set(session, service);
        http2.once('session', take);
        try {
          http2.emit('connection', client);
        } finally {
          http2.off('session', take);
        }
      } else http1.emit('connection', client);
    },
    close() {
      http1.closeAllConnections();
      http1.close();
      http2.close();
    },
  };
}
