import {
  request as httpRequest,
  type IncomingMessage,
  type OutgoingHttpHeaders,
  type ServerResponse,
} from 'node:http';
import type { Intent } from '../../policy/intent.ts';
import { http1Exchange } from '../http/client-exchange.ts';
import { countOf, endToEnd, type Field, type Framing, requestFraming } from '../http/fields.ts';
import type { LocalServices } from '../local-services.ts';
import type { EgressPipeline } from '../pipeline.ts';
import { answerBody, type ProxyAnswer } from '../responses.ts';
import type { Tunnels } from '../tunnels.ts';

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
  const framing = requestFraming(request.headers, request.rawHeaders, request.httpVersion);
  if (framing.kind === 'ambiguous' || countOf(request.rawHeaders, 'host') > 1) {
    const why = framing.kind === 'ambiguous' ? framing.why : 'it names its host twice';
    answer(response, {
      status: 400,
      error: 'invalid_request_target',
      detail: `the request is ambiguous: ${why}`,
    });
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
      ...grouped(endToEnd(request.rawHeaders, request.headers.connection)),
      ...framingFields(framing),
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
      ...grouped(endToEnd(incoming.rawHeaders, incoming.headers.connection)),
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

/** The body is framed onwards as it came, whatever fields the client has nominated away. */
function framingFields(framing: Framing): OutgoingHttpHeaders {
  switch (framing.kind) {
    case 'none':
      return {};
    case 'length':
      return { 'content-length': framing.bytes };
    case 'chunked':
      return { 'transfer-encoding': 'chunked' };
  }
}

/** As Node takes fields that stand more than once. */
function grouped(fields: readonly Field[]): OutgoingHttpHeaders {
  const headers: Record<string, string | string[]> = Object.create(null);
  for (const [name, value] of fields) {
    const key = name.toLowerCase();
    const before = headers[key];
    headers[key] =
      before === undefined ? value : Array.isArray(before) ? [...before, value] : [before, value];
  }
  return headers;
}
