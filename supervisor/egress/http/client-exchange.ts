import type { EventEmitter } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { IncomingHttpHeaders, ServerHttp2Stream } from 'node:http2';
import type { Readable } from 'node:stream';
import { countOf, type Field, type Framing, type RawFields, requestFraming } from './fields.ts';

/** The head of a final response. */
export interface ResponseHead {
  readonly status: number;
  readonly reason: string;
  readonly fields: readonly Field[];
  /** Undefined when the body ends when it ends. */
  readonly bytes: number | undefined;
}

/** One request of a client and the way to answer it, whatever its version of HTTP. */
export interface ClientExchange {
  readonly method: string;
  /** As it came: path and query, or a whole URL. */
  readonly target: string;
  /** Host or :authority; undefined when there is none, or more than one. */
  readonly authority: string | undefined;
  readonly rawFields: RawFields;
  readonly connection: string | undefined;
  readonly framing: Framing | { readonly kind: 'ambiguous'; readonly why: string };
  readonly expectsContinue: boolean;
  readonly body: Readable;
  /** Tells a client that waits for it to send the body. */
  sayContinue(): void;
  /** Sends the head of the response, and takes its body and trailers from the source; an abort of it is passed on. */
  relay(head: ResponseHead, body: Readable, trailers: () => readonly Field[]): void;
  /** Answers by itself. `last` ends the connection of HTTP/1.1. */
  answer(head: Omit<ResponseHead, 'bytes'>, body: string): void;
  /** Breaks the exchange off, so that nobody can take what has been sent for a whole answer. */
  abort(): void;
  /** The client went away, or the exchange is over. */
  onClose(listener: () => void): void;
}

/** Calls a listener once when one of them closes; at once when one of them has. */
function whenClosed(
  emitters: readonly Pick<EventEmitter, 'on' | 'off'>[],
  closed: () => boolean,
  listener: () => void,
): void {
  let called = false;
  const call = (): void => {
    for (const emitter of emitters) emitter.off('close', call);
    if (called) return;
    called = true;
    listener();
  };
  for (const emitter of emitters) emitter.on('close', call);
  if (closed()) call();
}

/** An exchange of HTTP/1.1 or 1.0. */
export function http1Exchange(
  request: IncomingMessage,
  response: ServerResponse,
  expectsContinue: boolean,
  lastOne = false,
): ClientExchange {
  const abort = (): void => {
    const { socket } = request;
    if ('resetAndDestroy' in socket && !('encrypted' in socket)) socket.resetAndDestroy();
    else socket.destroy();
  };
  let continued = !expectsContinue;
  response.on('error', () => undefined);
  request.on('error', () => undefined);
  return {
    method: request.method ?? '',
    target: request.url ?? '',
    authority: countOf(request.rawHeaders, 'host') === 1 ? request.headers.host : undefined,
    rawFields: request.rawHeaders,
    connection: request.headers.connection,
    framing: requestFraming(request.headers, request.rawHeaders, request.httpVersion),
    expectsContinue,
    body: request,
    sayContinue() {
      if (!continued) response.writeContinue();
      continued = true;
    },
    relay(head, body, trailers) {
      const flat: string[] = [];
      for (const [name, value] of head.fields) flat.push(name, value);
      // 204 has no body whatever it says (RFC 9110, 8.6).
      if (head.bytes !== undefined && head.status !== 204) flat.push('Content-Length', String(head.bytes));
      // What is left of a body that the client was never asked for would be taken for the next request; and that of
      // one that the server did not wait for is read by nobody.
      if (
        lastOne ||
        !continued ||
        !request.complete ||
        (head.bytes === undefined && request.httpVersion === '1.0')
      ) {
        response.shouldKeepAlive = false;
        flat.push('Connection', 'close');
      }
      response.writeHead(head.status, head.reason, flat);
      body.once('close', () => {
        if (!body.readableEnded) abort();
      });
      body.once('end', () => {
        const last = trailers();
        try {
          // Only a chunked body has room for them.
          if (last.length > 0 && head.bytes === undefined)
            response.addTrailers(last.map(([name, value]): [string, string] => [name, value]));
          response.end();
        } catch {
          abort(); // the server's trailers cannot be written
        }
      });
      body.pipe(response, { end: false });
    },
    answer(head, body) {
      const flat: string[] = [];
      for (const [name, value] of head.fields) flat.push(name, value);
      flat.push('Content-Length', String(Buffer.byteLength(body)), 'Connection', 'close');
      response.shouldKeepAlive = false;
      response.writeHead(head.status, head.reason, flat);
      response.end(request.method === 'HEAD' ? '' : body);
      // The rest of a body that nobody wants is read and dropped for a while, so that the answer is not lost
      // in a reset (RFC 9112, 9.6); the server's timeouts bound it.
      request.resume();
    },
    abort,
    // A response that waits behind another one never hears of its socket's end.
    onClose: (listener) =>
      whenClosed([response, request.socket], () => response.closed || request.socket.destroyed, listener),
  };
}

/** An exchange of HTTP/2 (RFC 9113). */
export function http2Exchange(
  stream: ServerHttp2Stream,
  headers: IncomingHttpHeaders,
  raw: RawFields,
  endsAtOnce: boolean,
): ClientExchange {
  const length = headers['content-length'];
  // RST_STREAM with INTERNAL_ERROR (RFC 9113, 7). To close it would first end what has been sent as if it were whole.
  const abort = (): void => void stream.destroy(new Error('broken off'));
  stream.on('error', () => undefined);
  const named = (all: readonly Field[]): Record<string, string | string[]> => {
    // Names are the server's: `constructor` and `__proto__` are two like others.
    const object: Record<string, string | string[]> = Object.create(null);
    for (const [name, value] of all) {
      const key = name.toLowerCase();
      const before = object[key];
      object[key] =
        before === undefined ? value : Array.isArray(before) ? [...before, value] : [before, value];
    }
    return object;
  };
  const bytes = length === undefined ? undefined : Number(length);
  let continued = headers.expect !== '100-continue';
  return {
    method: headers[':method'] ?? '',
    target: headers[':path'] ?? '',
    authority:
      countOf(raw, 'host') > 0 && headers.host !== headers[':authority'] ? undefined : headers[':authority'],
    rawFields: raw,
    connection: undefined,
    framing: endsAtOnce
      ? { kind: 'none' }
      : bytes === undefined
        ? { kind: 'chunked' }
        : { kind: 'length', bytes },
    expectsContinue: headers.expect === '100-continue',
    body: stream,
    sayContinue() {
      if (!continued && !stream.headersSent && !stream.destroyed)
        stream.additionalHeaders({ ':status': 100 });
      continued = true;
    },
    relay(head, body, trailers) {
      if (stream.destroyed) return;
      const bodiless = headers[':method'] === 'HEAD' || head.status === 204 || head.status === 304;
      stream.respond(
        {
          ...named(head.fields),
          ...(head.bytes === undefined || head.status === 204
            ? {}
            : { 'content-length': String(head.bytes) }),
          ':status': head.status,
        },
        { endStream: bodiless, waitForTrailers: !bodiless },
      );
      if (bodiless) return void body.resume();
      stream.once('wantTrailers', () => {
        try {
          stream.sendTrailers(named(trailers()));
        } catch {
          abort(); // the server's trailers cannot be written
        }
      });
      body.once('close', () => {
        if (!body.readableEnded) abort();
      });
      body.pipe(stream);
    },
    answer(head, body) {
      if (stream.destroyed) return;
      stream.respond({
        ...named(head.fields),
        'content-length': String(Buffer.byteLength(body)),
        ':status': head.status,
      });
      stream.end(headers[':method'] === 'HEAD' ? '' : body);
      stream.resume();
    },
    abort,
    onClose: (listener) => whenClosed([stream], () => stream.destroyed, listener),
  };
}
