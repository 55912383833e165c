import { Agent, request as httpRequest, type IncomingMessage } from 'node:http';
import { type ClientHttp2Session, type ClientHttp2Stream, connect as http2Connect } from 'node:http2';
import type { Socket } from 'node:net';
import type { Duplex, Readable } from 'node:stream';
import { TLSSocket } from 'node:tls';
import type { Result } from '../../result.ts';
import { endToEnd, type Field, fieldValue } from './fields.ts';

/** A request as it goes out: decided on, rewritten, framed by us. */
export interface UpstreamRequest {
  readonly method: string;
  /** Path and query. */
  readonly target: string;
  readonly authority: string;
  readonly fields: readonly Field[];
  /** Undefined without a body; a length of undefined is a body that ends when it ends. */
  readonly body: { readonly stream: Readable; readonly bytes: number | undefined } | undefined;
  /** Whether the client waits for 100 (Continue) before it sends the body. */
  readonly expectsContinue: boolean;
  /** The protocols of an upgrade, as the client wrote them. */
  readonly upgrade: string | undefined;
}

export interface UpstreamResponse {
  readonly status: number;
  readonly reason: string;
  readonly fields: readonly Field[];
  readonly bytes: number | undefined;
  readonly body: Readable;
  /** Trailer fields; complete when the body has ended. */
  readonly trailers: () => readonly Field[];
}

export type UpstreamAnswer =
  | { readonly kind: 'response'; readonly response: UpstreamResponse }
  /** The server took up another protocol. */
  | {
      readonly kind: 'upgraded';
      readonly response: Pick<UpstreamResponse, 'status' | 'reason' | 'fields'>;
      readonly socket: Duplex;
      readonly head: Buffer;
    };

export interface Exchange {
  /** Settles with the final response; rejects when there is none to be had. */
  readonly answer: Promise<UpstreamAnswer>;
  /** Gives the exchange up, so that the server sees an abort and no end. */
  abort(): void;
}

export interface Upstream {
  send(request: UpstreamRequest, onContinue: () => void): Exchange;
  /** Ends idle connections now and busy ones with their exchange. */
  close(): void;
}

/** Another connection to the one destination. */
export type OpenConnection = () => Promise<Result<Socket, string>>;

const MAX_HEAD_BYTES = 64 * 1024;
/**
 * Requests to the destination of one granted connection. The first connection decides the version: HTTP/2 when its
 * TLS negotiated that, else HTTP/1.1 with as many connections as there are requests at a time, up to `maxConnections`.
 */
export async function openUpstream(
  open: OpenConnection,
  maxConnections: number,
): Promise<Result<Upstream, string>> {
  const first = await open();
  if (!first.ok) return first;
  const socket = first.value;
  if (socket instanceof TLSSocket && socket.alpnProtocol === 'h2')
    return { ok: true, value: http2Upstream(socket, open) };
  return { ok: true, value: http1Upstream(socket, open, maxConnections) };
}

function http1Upstream(first: Socket, open: OpenConnection, maxSockets: number): Upstream {
  let spare: Socket | undefined = first;
  let closed = false;
  const agent = new Agent({ keepAlive: true, maxSockets, maxFreeSockets: maxSockets, scheduling: 'fifo' });
  agent.createConnection = (_options, callback) => {
    const ready = spare;
    spare = undefined;
    if (ready !== undefined && !ready.destroyed) return ready;
    open().then(
      (dialled) => {
        if (dialled.ok && closed) dialled.value.destroy();
        if (dialled.ok && !closed) callback?.(null, dialled.value);
        else
          callback?.(
            new Error(dialled.ok ? 'the client has gone' : dialled.error),
            undefined as unknown as Duplex,
          );
      },
      (error: Error) => callback?.(error, undefined as unknown as Duplex),
    );
    return undefined as unknown as Duplex;
  };
  // What comes while nothing was asked is no answer to what is asked next (RFC 9112, 9.2).
  const unasked = function (this: Socket): void {
    this.destroy();
  };
  const { keepSocketAlive, reuseSocket } = agent;
  agent.keepSocketAlive = (socket) => {
    socket.on('data', unasked);
    return keepSocketAlive.call(agent, socket);
  };
  agent.reuseSocket = (socket, request) => {
    socket.off('data', unasked);
    reuseSocket.call(agent, socket, request);
  };
  // The agent names sockets by host and port; all of ours go to one place.
  const place = { host: 'upstream', port: 1 };

  const exchange = (message: UpstreamRequest, onContinue: () => void): Exchange => {
    const headers: string[] = ['Host', message.authority];
    for (const [name, value] of oneCookieField(message.fields)) headers.push(name, value);
    if (message.body === undefined) {
      // Else Node sends an empty chunked body where a method is expected to have one.
      if (!WITHOUT_BODY.has(message.method)) headers.push('Content-Length', '0');
    } else if (message.body.bytes === undefined) headers.push('Transfer-Encoding', 'chunked');
    else headers.push('Content-Length', String(message.body.bytes));
    if (message.expectsContinue) headers.push('Expect', '100-continue');
    if (message.upgrade === undefined) headers.push('Connection', 'keep-alive');
    else headers.push('Connection', 'Upgrade', 'Upgrade', message.upgrade);
    const outgoing = httpRequest({
      ...place,
      agent,
      method: message.method,
      path: message.target,
      headers: headers as unknown as Record<string, string>,
      setHost: false,
      maxHeaderSize: MAX_HEAD_BYTES,
      insecureHTTPParser: false,
    });
    const answer = new Promise<UpstreamAnswer>((resolve, reject) => {
      let answered = false;
      outgoing.once('error', reject);
      outgoing.once('close', () => {
        // An error costs the making of its stack, and most requests are answered.
        if (!answered) reject(new Error('the server ended without an answer'));
      });
      if (message.expectsContinue) outgoing.once('continue', onContinue);
      outgoing.once('response', (incoming) => {
        const coding = incoming.headers['transfer-encoding'];
        // Nobody asked for another one, and the client would take it for the content.
        if (coding !== undefined && coding.trim().toLowerCase() !== 'chunked')
          outgoing.destroy(new Error(`the server answers in the transfer coding ${coding.slice(0, 40)}`));
        else {
          answered = true;
          resolve({ kind: 'response', response: responseOf(incoming) });
        }
      });
      outgoing.once('upgrade', (incoming, socket, head) => {
        const { status, reason, fields } = responseOf(incoming);
        resolve({ kind: 'upgraded', response: { status, reason, fields }, socket, head });
      });
    });
    outgoing.on('error', () => undefined);
    if (message.body === undefined) outgoing.end();
    else {
      onBrokenOff(message.body.stream, () => outgoing.destroy());
      message.body.stream.pipe(outgoing);
    }
    return {
      answer,
      abort: () => void outgoing.destroy(),
    };
  };

  return {
    send(message, onContinue) {
      const first = exchange(message, onContinue);
      // The server may close an idle connection just when a request is sent on it (RFC 9110, 9.2.2): what has no body
      // and changes nothing is sent once more.
      const repeatable = message.body === undefined && ['GET', 'HEAD', 'OPTIONS'].includes(message.method);
      if (!repeatable || message.upgrade !== undefined) return first;
      let current = first;
      let aborted = false;
      const answer = first.answer.catch((error: NodeJS.ErrnoException) => {
        if (aborted || !['ECONNRESET', 'EPIPE'].includes(error.code ?? '')) throw error;
        current = exchange(message, onContinue);
        return current.answer;
      });
      return {
        answer,
        abort() {
          aborted = true;
          current.abort();
        },
      };
    },
    close() {
      closed = true;
      spare?.destroy();
      agent.destroy();
    },
  };
}

function responseOf(incoming: IncomingMessage): UpstreamResponse {
  const length = incoming.headers['content-length'];
  return {
    status: incoming.statusCode ?? 502,
    reason: incoming.statusMessage ?? '',
    fields: endToEnd(incoming.rawHeaders, incoming.headers.connection),
    bytes: length === undefined ? undefined : Number(length),
    body: incoming,
    trailers: () => endToEnd(incoming.rawTrailers, undefined),
  };
}

/** A body that closes without its end was given up, whatever kind of stream brings it. */
function onBrokenOff(body: Readable, then: () => void): void {
  body.once('error', then);
  // A reset of HTTP/2 is told by this, and then by an end like any other.
  body.once('aborted', then);
  body.once('close', () => {
    if (!body.readableEnded) then();
  });
}

/** Methods that say nothing about a body when they have none (RFC 9110, 8.6). */
const WITHOUT_BODY: ReadonlySet<string> = new Set(['GET', 'HEAD', 'DELETE', 'OPTIONS', 'TRACE']);

/** HTTP/2 may split a Cookie field, HTTP/1.1 may not (RFC 9113, 8.2.3). */
function oneCookieField(fields: readonly Field[]): readonly Field[] {
  const cookies = fields.filter(([name]) => name.toLowerCase() === 'cookie');
  if (cookies.length < 2) return fields;
  const others = fields.filter((field) => !cookies.includes(field));
  return [...others, ['Cookie', cookies.map(([, value]) => value).join('; ')]];
}

function http2Session(socket: TLSSocket): ClientHttp2Session {
  const session = http2Connect('https://upstream', {
    createConnection: () => socket,
    settings: { enablePush: false },
    maxSessionMemory: 16,
  });
  session.on('error', () => session.destroy());
  return session;
}

/** Requests over HTTP/2; a server may end its connection at any time, and the next request opens another one. */
function http2Upstream(first: TLSSocket, open: OpenConnection): Upstream {
  let session = http2Session(first);
  let next: Promise<ClientHttp2Session> | undefined;
  let closed = false;
  const renew = async (): Promise<ClientHttp2Session> => {
    const dialled = await open();
    if (!dialled.ok) throw new Error(dialled.error);
    const socket = dialled.value;
    if (closed || !(socket instanceof TLSSocket) || socket.alpnProtocol !== 'h2') {
      socket.destroy();
      throw new Error(closed ? 'the client has gone' : 'the server speaks HTTP/2 no more');
    }
    session = http2Session(socket);
    return session;
  };
  return {
    send(message, onContinue) {
      if (!session.closed && !session.destroyed) return sendByHttp2(session, message, onContinue);
      next ??= renew().finally(() => {
        next = undefined;
      });
      let exchange: Exchange | undefined;
      let aborted = false;
      const answer = next.then((renewed) => {
        if (aborted) throw new Error('the client has gone');
        exchange = sendByHttp2(renewed, message, onContinue);
        return exchange.answer;
      });
      return {
        answer,
        abort() {
          aborted = true;
          exchange?.abort();
        },
      };
    },
    close() {
      closed = true;
      session.close();
    },
  };
}

function sendByHttp2(
  session: ClientHttp2Session,
  message: UpstreamRequest,
  onContinue: () => void,
): Exchange {
  const headers: Record<string, string | string[]> = Object.assign(Object.create(null), {
    ':method': message.method,
    ':path': message.target,
    ':scheme': 'https',
    ':authority': message.authority,
  });
  for (const [name, value] of message.fields) {
    const key = name.toLowerCase();
    const before = headers[key];
    headers[key] =
      before === undefined ? value : Array.isArray(before) ? [...before, value] : [before, value];
  }
  if (message.body?.bytes !== undefined) headers['content-length'] = String(message.body.bytes);
  if (message.expectsContinue) headers['expect'] = '100-continue';
  // Of one hop, so it was left out; gRPC wants to see it, and trailers are passed on.
  if (fieldValue(message.fields, 'content-type')?.startsWith('application/grpc') === true)
    headers['te'] = 'trailers';
  // To close a stream would end the body before it resets it, and a server could take half a request for a whole one.
  const aborted = new AbortController();
  let stream: ClientHttp2Stream;
  try {
    stream = session.request(headers, { endStream: message.body === undefined, signal: aborted.signal });
  } catch (error) {
    return { answer: Promise.reject(error), abort: () => undefined };
  }
  stream.once('continue', onContinue);
  let trailers: readonly Field[] = [];
  stream.on('error', () => undefined);
  stream.once('trailers', (_headers, _flags, raw) => {
    trailers = endToEnd(raw ?? [], undefined);
  });
  const answer = new Promise<UpstreamAnswer>((resolve, reject) => {
    stream.once('error', reject);
    stream.once('close', () => reject(new Error('the server ended the stream without an answer')));
    stream.once('response', (fields, _flags, raw) => {
      const length = fields['content-length'];
      resolve({
        kind: 'response',
        response: {
          status: fields[':status'] ?? 502,
          reason: '',
          fields: endToEnd(raw ?? [], undefined),
          bytes: length === undefined ? undefined : Number(length),
          body: stream,
          trailers: () => trailers,
        },
      });
    });
  });
  if (message.body !== undefined) {
    onBrokenOff(message.body.stream, () => aborted.abort());
    message.body.stream.pipe(stream);
  }
  return { answer, abort: () => aborted.abort() };
}
