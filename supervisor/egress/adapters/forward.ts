import {
  request as httpRequest,
  type IncomingMessage,
  type OutgoingHttpHeaders,
  type ServerResponse,
} from 'node:http';
import type { Intent } from '../../policy/intent.ts';
import { http1Exchange } from '../http/client-exchange.ts';
import type { LocalServices } from '../local-services.ts';
import type { EgressPipeline } from '../pipeline.ts';
import { answerBody, type ProxyAnswer } from '../responses.ts';
import type { Tunnels } from '../tunnels.ts';

/** Fields of one hop, which a proxy must not pass on (RFC 9110, 7.6.1). */
const HOP_BY_HOP: ReadonlySet<string> = new Set([
  'connection',
  'proxy-connection',
  'keep-alive',
  'proxy-authenticate',
  'proxy-authorization',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
  // Set anew from the parsed message.
  'content-length',
  'host',
]);

export interface ForwardTotals {
  readonly sentBytes: number;
  readonly receivedBytes: number;
}

function answer(response: ServerResponse, what: ProxyAnswer): void {
  const body = answerBody(what);
  response.writeHead(what.status, {
    'content-type': 'application/json',
    'content-length': Buffer.byteLength(body),
    connection: 'close',
  });
  response.end(body);
}

/** Plain proxying: an absolute-form request for an http URL, one a connection (contract.md, 7.4). */
export async function handleForward(
  request: IncomingMessage,
  response: ServerResponse,
  pipeline: EgressPipeline,
  tunnels: Tunnels,
  local: LocalServices,
  expectsContinue: boolean,
  onEnd: (intent: Intent, totals: ForwardTotals) => void,
): Promise<void> {
  const target = request.url ?? '';
  const scheme = /^([a-z][a-z0-9+.-]*):\/\//i.exec(target)?.[1]?.toLowerCase();
  if (scheme === undefined || !URL.canParse(target)) {
    answer(response, {
      status: 400,
      error: 'invalid_request_target',
      detail: 'this is a proxy: send CONNECT host:port, or a request with an absolute http URL',
    });
    return;
  }
  if (scheme !== 'http') {
    const detail = scheme === 'https' ? 'use CONNECT for https' : `the scheme ${scheme} is not proxied`;
    answer(response, { status: 400, error: 'unsupported_proxy_scheme', detail });
    return;
  }
  const url = new URL(target);
  if (url.username !== '' || url.password !== '') {
    answer(response, {
      status: 400,
      error: 'invalid_request_target',
      detail: 'the URL must not hold credentials',
    });
    return;
  }
  const host = url.hostname.replace(/^\[|\]$/g, '').replace(/\.$/, '');
  const intent: Intent = { host, port: url.port === '' ? 80 : Number(url.port), via: 'forward' };
  // URL parsing turns 0x7f.1 into 127.0.0.1: judge what the client wrote, not what it was made into.
  if (
    !target.toLowerCase().startsWith(`http://${url.host}`) &&
    !target.toLowerCase().startsWith(`http://${url.hostname}`)
  ) {
    answer(response, {
      status: 400,
      error: 'invalid_request_target',
      detail: 'the host is not in its canonical form',
    });
    return;
  }
  const framing = requestFraming(request);
  if (framing === undefined) {
    const detail = 'the length of the request is ambiguous, or it names its host twice';
    answer(response, { status: 400, error: 'invalid_request_target', detail });
    return;
  }
  const service = local.find(intent);
  if (service !== undefined) {
    // What is for TLS alone is not told to whoever can read along.
    if (service.secure)
      return answer(response, {
        status: 400,
        error: 'unsupported_proxy_scheme',
        detail: 'use CONNECT for https',
      });
    return service.handle(http1Exchange(request, response, expectsContinue, true));
  }
  const granted = await pipeline.open(intent, request.socket);
  if (!granted.ok) {
    answer(response, granted.error);
    return;
  }
  const { upstream } = granted.value;
  if (tunnels.inspects(granted.value)) {
    const before = { sent: request.socket.bytesRead, received: request.socket.bytesWritten };
    response.once('close', () => {
      const { bytesRead, bytesWritten } = request.socket;
      onEnd(intent, { sentBytes: bytesRead - before.sent, receivedBytes: bytesWritten - before.received });
    });
    await tunnels.inspectOne(granted.value, http1Exchange(request, response, expectsContinue, true));
    return;
  }
  const outgoing = httpRequest({
    createConnection: () => upstream,
    method: request.method ?? 'GET',
    path: `${url.pathname}${url.search}`,
    headers: {
      ...endToEnd(request),
      ...framing,
      host: url.host,
      via: '1.1 openshell-sandbox',
      connection: 'close',
    },
    setHost: false,
  });
  let received = 0;
  response.once('close', () => {
    upstream.destroy();
    onEnd(intent, { sentBytes: request.socket.bytesRead, receivedBytes: received });
  });
  outgoing.once('error', () => {
    // After the head there is no honest end: reset the connection instead of terminating the body.
    if (response.headersSent) request.socket.resetAndDestroy();
    else
      answer(response, {
        status: 502,
        error: 'upstream_unreachable',
        detail: `${host} ended without an answer`,
      });
  });
  outgoing.once('response', (incoming) => {
    const length = incoming.headers['content-length'];
    response.writeHead(incoming.statusCode ?? 502, incoming.statusMessage, {
      ...endToEnd(incoming),
      ...(length === undefined ? {} : { 'content-length': length }),
      connection: 'close',
    });
    incoming.on('data', (chunk: Buffer) => {
      received += chunk.length;
    });
    incoming.once('error', () => request.socket.resetAndDestroy());
    incoming.pipe(response);
  });
  request.once('aborted', () => upstream.resetAndDestroy());
  request.pipe(outgoing);
}

/**
 * How the body is framed onwards, from what the parser made of the request and never from fields that
 * the client may have nominated away. Undefined when the request must be refused (RFC 9112, 6.1 and 3.2).
 */
function requestFraming(request: IncomingMessage): OutgoingHttpHeaders | undefined {
  const names = request.rawHeaders.filter((_, index) => index % 2 === 0).map((name) => name.toLowerCase());
  if (names.filter((name) => name === 'host').length > 1) return undefined;
  const coding = request.headers['transfer-encoding'];
  const length = request.headers['content-length'];
  if (coding !== undefined) {
    const plain =
      coding.trim().toLowerCase() === 'chunked' && request.httpVersion === '1.1' && length === undefined;
    return plain ? { 'transfer-encoding': 'chunked' } : undefined;
  }
  return length === undefined ? {} : { 'content-length': length };
}

/** The fields that travel on: neither those of one hop, nor those that say how the message is framed. */
function endToEnd(message: IncomingMessage): OutgoingHttpHeaders {
  const named = (message.headers.connection ?? '').split(',').map((name) => name.trim().toLowerCase());
  const headers: Record<string, string | string[]> = Object.create(null);
  const raw = message.rawHeaders;
  for (let i = 0; i + 1 < raw.length; i += 2) {
    const name = (raw[i] ?? '').toLowerCase();
    const value = raw[i + 1] ?? '';
    if (HOP_BY_HOP.has(name) || named.includes(name)) continue;
    const before = headers[name];
    headers[name] =
      before === undefined ? value : Array.isArray(before) ? [...before, value] : [before, value];
  }
  return headers;
}
