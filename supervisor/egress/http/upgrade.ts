import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import type { CompiledEndpoint } from '../../policy/compilation.ts';
import { decideRequest } from '../../policy/request-decision.ts';
import type { AdmittedTarget } from '../../policy/target.ts';
import { graphqlMessage } from '../protocols/graphql-messages.ts';
import {
  agreedDeflate,
  handshakeFault,
  isAccepted,
  readableOffer,
} from '../protocols/websocket-handshake.ts';
import {
  CLOSE,
  MAX_MESSAGE_BYTES,
  type MessageVerdict,
  relayMessages,
} from '../protocols/websocket-messages.ts';
import type { ClientExchange } from './client-exchange.ts';
import type { ConnectionContext } from './connection-context.ts';
import type { Field } from './fields.ts';
import { admitRequest, answer, authorityOf } from './inspection.ts';

/** Takes a WebSocket handshake through policy to the server, and relays what follows (RFC 6455). */
export async function handleUpgrade(
  request: IncomingMessage,
  socket: Duplex,
  head: Buffer,
  context: ConnectionContext,
): Promise<void> {
  const client = upgradeExchange(request, socket);
  const fault = handshakeFault(request);
  if (fault !== undefined || client.framing.kind !== 'none') return client.abort();
  const admitted = await admitRequest(client, context);
  if (admitted === undefined) return;
  const { target } = admitted;
  const inspected = target.endpoint?.options.protocol === 'websocket';
  const fields = inspected ? readableOffer(admitted.fields) : admitted.fields;
  const exchange = context.upstream.send(
    {
      method: 'GET',
      target: target.rawQuery === undefined ? target.path : `${target.path}?${target.rawQuery}`,
      authority: authorityOf(context),
      fields,
      body: undefined,
      expectsContinue: false,
      upgrade: 'websocket',
    },
    () => undefined,
  );
  client.onClose(() => exchange.abort());
  try {
    const result = await exchange.answer;
    if (result.kind === 'response') {
      const { response } = result;
      client.relay(response, response.body, response.trailers);
      return;
    }
    const { response, socket: upstream, head: early } = result;
    const key = request.headers['sec-websocket-key'] ?? '';
    if (response.status !== 101 || !isAccepted(key, response.fields))
      throw new Error('the server does not answer the handshake that was sent');
    const deflate = inspected ? agreedDeflate(response.fields, MAX_MESSAGE_BYTES) : undefined;
    socket.write(
      headText(101, 'Switching Protocols', [
        ['Upgrade', 'websocket'],
        ['Connection', 'Upgrade'],
        ...response.fields,
      ]),
    );
    if (head.length > 0) socket.unshift(head);
    if (early.length > 0) upstream.unshift(early);
    if (inspected && target.endpoint !== undefined)
      relayInspected(socket, upstream, deflate, context, target, target.endpoint);
    else relayRaw(socket, upstream);
  } catch (error) {
    exchange.abort();
    const reason = error instanceof Error ? error.message : String(error);
    context.observe({
      outcome: 'failed',
      method: 'GET',
      path: target.path,
      policy: context.grant.policy,
      rule: undefined,
      reason,
    });
    answer(client, { status: 502, body: { error: 'upstream_unreachable', detail: reason.slice(0, 300) } });
  }
}

function relayInspected(
  client: Duplex,
  upstream: Duplex,
  deflate: ReturnType<typeof agreedDeflate>,
  context: ConnectionContext,
  target: AdmittedTarget,
  endpoint: CompiledEndpoint,
): void {
  const { grant, observe, current } = context;
  const { path, query } = target;
  const judge = (data: Buffer, isText: boolean): MessageVerdict => {
    if (!current())
      return { kind: 'close', code: CLOSE.reload, reason: 'the policy was replaced; connect again' };
    if (!isText) {
      if (endpoint.graphqlMessages) return refused('a binary message cannot be inspected');
      return { kind: 'pass', data };
    }
    const body = endpoint.graphqlMessages
      ? graphqlMessage(data.toString('utf8'))
      : ({ kind: 'none' } as const);
    if (body === undefined) return { kind: 'pass', data };
    const decision = decideRequest(grant, { method: 'WEBSOCKET_TEXT', path, query, body });
    const outcome = decision.kind === 'deny' ? 'denied' : decision.kind === 'audit' ? 'audited' : 'allowed';
    observe({
      outcome,
      method: 'WEBSOCKET_TEXT',
      path,
      policy: decision.policy,
      rule: decision.rule,
      reason: decision.reason,
    });
    return decision.kind === 'deny'
      ? { kind: 'close', code: CLOSE.policy, reason: decision.reason }
      : { kind: 'pass', data };
  };
  const refused = (reason: string): MessageVerdict => {
    observe({
      outcome: 'denied',
      method: 'WEBSOCKET_BINARY',
      path,
      policy: endpoint.policy,
      rule: undefined,
      reason,
    });
    return { kind: 'close', code: CLOSE.policy, reason };
  };
  relayMessages({ client, upstream, deflate, judge, onRefused: () => undefined });
}

/** Opaque bytes both ways; the end of either side is passed on, an abort as an abort. */
function relayRaw(client: Duplex, upstream: Duplex): void {
  for (const [one, other] of [
    [client, upstream],
    [upstream, client],
  ] as const) {
    one.pipe(other);
    one.on('error', () => other.destroy());
    one.once('close', () => other.destroy());
  }
}

function headText(status: number, reason: string, fields: readonly Field[]): string {
  const lines = fields.map(([name, value]) => `${name}: ${value}\r\n`);
  return `HTTP/1.1 ${status} ${reason}\r\n${lines.join('')}\r\n`;
}

/** The exchange of a request that asks for an upgrade: Node gives the bare socket for it, so the answer is written by hand. */
function upgradeExchange(request: IncomingMessage, socket: Duplex): ClientExchange {
  const abort = (): void => void socket.destroy();
  socket.on('error', abort);
  return {
    method: request.method ?? '',
    target: request.url ?? '',
    authority: request.headers.host,
    rawFields: request.rawHeaders,
    connection: request.headers.connection,
    framing:
      request.headers['content-length'] === undefined && request.headers['transfer-encoding'] === undefined
        ? { kind: 'none' }
        : { kind: 'ambiguous', why: 'a handshake has no body' },
    expectsContinue: false,
    body: request,
    sayContinue: () => undefined,
    relay(head, body) {
      // The connection ends with the body, so it needs no other framing.
      socket.write(headText(head.status, head.reason, [...head.fields, ['Connection', 'close']]));
      body.once('close', () => {
        if (!body.readableEnded) abort();
      });
      body.pipe(socket);
    },
    answer(head, body) {
      const fields: readonly Field[] = [
        ...head.fields,
        ['Content-Length', String(Buffer.byteLength(body))],
        ['Connection', 'close'],
      ];
      socket.end(`${headText(head.status, head.reason, fields)}${body}`);
    },
    abort,
    onClose: (listener) => void socket.once('close', listener),
  };
}
