import { type IncomingMessage, ServerResponse } from 'node:http';
import { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { CompiledEndpoint } from '../../policy/compilation.ts';
import { decideRequest } from '../../policy/request-decision.ts';
import type { AdmittedTarget } from '../../policy/target.ts';
import { tieEnds } from '../protocols/endings.ts';
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
import { type ClientExchange, http1Exchange } from './client-exchange.ts';
import type { ConnectionContext, RequestEvent } from './connection-context.ts';
import { bodyWithCredentials, headWithCredentials } from './credentials.ts';
import { denialAnswer } from './denial.ts';
import type { Field } from './fields.ts';
import { admitRequest, answer, authorityOf, refuseCredential } from './inspection.ts';

/** Endpoints whose requests are judged one by one, of which a connection of another protocol has none. */
const WITHOUT_UPGRADE: ReadonlySet<string> = new Set(['graphql', 'json-rpc', 'mcp']);

/** Takes a WebSocket handshake through policy to the server, and relays what follows (RFC 6455). */
export async function handleUpgrade(
  request: IncomingMessage,
  socket: Duplex,
  head: Buffer,
  context: ConnectionContext,
): Promise<void> {
  const handshake = upgradeExchange(request, socket);
  const { client } = handshake;
  const fault = handshakeFault(request);
  if (fault !== undefined || client.framing.kind !== 'none') return client.abort();
  const admitted = await admitRequest(client, context);
  if (admitted === undefined) return;
  const { target } = admitted;
  const protocol = target.endpoint?.options.protocol ?? '';
  const tell = (outcome: RequestEvent['outcome'], reason: string): void =>
    context.observe({
      outcome,
      method: 'GET',
      path: target.path,
      policy: target.endpoint?.policy ?? context.grant.policy,
      rule: undefined,
      reason,
    });
  if (WITHOUT_UPGRADE.has(protocol)) {
    const reason = `an endpoint of the protocol ${protocol} has no WebSockets`;
    tell('denied', reason);
    const decision = { policy: target.endpoint?.policy ?? context.grant.policy, reason };
    const where = { method: 'GET', path: target.path };
    return answer(client, denialAnswer(decision, where, context));
  }
  const inspected = protocol === 'websocket';
  const rewritten = await headWithCredentials(context, target, admitted.fields);
  if (!rewritten.ok) return refuseCredential(client, context, target.path, rewritten.error);
  const { path, rawQuery } = rewritten.value;
  const fields = inspected ? readableOffer(rewritten.value.fields) : rewritten.value.fields;
  const exchange = context.upstream.send(
    {
      method: 'GET',
      target: rawQuery === undefined ? path : `${path}?${rawQuery}`,
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
    upstream.on('error', () => undefined);
    try {
      const key = request.headers['sec-websocket-key'] ?? '';
      if (response.status !== 101 || !isAccepted(key, response.fields))
        throw new Error('the server does not answer the handshake that was sent');
      const deflate = inspected ? agreedDeflate(fields, response.fields, MAX_MESSAGE_BYTES) : undefined;
      if (socket.destroyed) throw new Error('the client went away');
      handshake.release();
      socket.write(switchingProtocols(response.fields), 'latin1');
      if (head.length > 0) socket.unshift(head);
      if (early.length > 0) upstream.unshift(early);
      if (inspected && target.endpoint !== undefined)
        relayInspected(socket, upstream, deflate, context, target, target.endpoint);
      else relayRaw(socket, upstream);
    } catch (error) {
      upstream.destroy();
      throw error;
    }
  } catch (error) {
    exchange.abort();
    const reason = error instanceof Error ? error.message : String(error);
    tell('failed', reason);
    if (socket.destroyed) return;
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
      // A placeholder in it could not be told from other bytes, so none may be where credentials travel.
      return boundHere
        ? refused('a binary message cannot be looked through for credentials')
        : { kind: 'pass', data };
    }
    const body = endpoint.graphqlMessages
      ? graphqlMessage(data.toString('utf8'))
      : ({ kind: 'none' } as const);
    if (body === undefined) return withCredentials(data);
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
      : withCredentials(data);
  };
  const boundHere = context.credentials?.isBound(context.intent.host, context.intent.port) === true;
  const withCredentials = (data: Buffer): MessageVerdict => {
    const rewrite = endpoint.options.websocketCredentialRewrite;
    const sent = bodyWithCredentials(context, data, path, rewrite);
    if (sent.ok) return { kind: 'pass', data: sent.value };
    const reason = `the credential ${sent.error.key} cannot be sent here`;
    observe({
      outcome: 'denied',
      method: 'WEBSOCKET_TEXT',
      path,
      policy: endpoint.policy,
      rule: undefined,
      reason,
    });
    return { kind: 'close', code: CLOSE.policy, reason };
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
  tieEnds(client, upstream);
  client.pipe(upstream);
  upstream.pipe(client);
}

function switchingProtocols(fields: readonly Field[]): string {
  const all: readonly Field[] = [['Upgrade', 'websocket'], ['Connection', 'Upgrade'], ...fields];
  return `HTTP/1.1 101 Switching Protocols\r\n${all.map(([name, value]) => `${name}: ${value}\r\n`).join('')}\r\n`;
}

interface Handshake {
  readonly client: ClientExchange;
  /** Gives the connection back for what comes after HTTP. */
  release(): void;
}

/**
 * The exchange of a request that asks for an upgrade, the last one of its connection. Node gives the bare socket for
 * it, so a response of its own is put on it; that fails where one to an earlier request is still on its way.
 */
function upgradeExchange(request: IncomingMessage, socket: Duplex): Handshake {
  socket.on('error', () => undefined);
  const response = new ServerResponse(request);
  if (!(socket instanceof Socket)) throw new Error('the client has no socket');
  response.assignSocket(socket);
  response.once('finish', () => socket.destroySoon());
  // Nobody reads the socket until the server has answered, so nobody would see that the client has gone.
  const look = (): void => {
    if (socket.readableLength === 0) socket.read();
  };
  const gone = (): void => void socket.destroy();
  socket.on('readable', look);
  socket.once('end', gone);
  const exchange = http1Exchange(request, response, false, true);
  const bodiless = exchange.framing.kind === 'none';
  return {
    client: {
      ...exchange,
      framing: bodiless ? { kind: 'none' } : { kind: 'ambiguous', why: 'a handshake has no body' },
    },
    release() {
      socket.off('readable', look);
      socket.off('end', gone);
      response.detachSocket(socket);
    },
  };
}
