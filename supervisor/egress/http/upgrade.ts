import { type IncomingMessage, ServerResponse } from 'node:http';
import { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { WebSocketSessionEndReason as End } from '../../../proto/generated/openshell/middleware/v1/middleware.ts';
import type { AdmittedTarget } from '../../policy/target.ts';
import type { MiddlewareSession } from '../middleware/session.ts';
import { subjectOf } from '../middleware/subject.ts';
import { tieEnds } from '../protocols/endings.ts';
import {
  agreedDeflate,
  handshakeFault,
  isAccepted,
  readableOffer,
} from '../protocols/websocket-handshake.ts';
import { MAX_MESSAGE_BYTES } from '../protocols/websocket-messages.ts';
import { answer } from './answer.ts';
import { type ClientExchange, http1Exchange } from './client-exchange.ts';
import type { ConnectionContext, RequestEvent } from './connection-context.ts';
import { headWithCredentials } from './credentials.ts';
import { denialAnswer } from './denial.ts';
import { type Field, fieldValue } from './fields.ts';
import { admitRequest, authorityOf, refuseCredential } from './inspection.ts';
import { refusal } from './middleware-pass.ts';
import { relayJudged } from './websocket-judge.ts';

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
  const shown = await preflight(client, context, target, admitted.fields);
  if (shown === undefined) return;
  const { session } = shown;
  let relayed = false;
  client.onClose(() => {
    if (!relayed) session?.end(End.WEB_SOCKET_SESSION_END_REASON_CANCELLATION);
  });
  const inspected = protocol === 'websocket' || session !== undefined;
  const rewritten = await headWithCredentials(context, target, admitted.fields);
  if (!rewritten.ok) {
    session?.end(End.WEB_SOCKET_SESSION_END_REASON_CANCELLATION);
    return refuseCredential(client, context, target.path, rewritten.error);
  }
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
      session?.end(End.WEB_SOCKET_SESSION_END_REASON_UPSTREAM_REJECTED);
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
      relayed = true;
      session?.start(fieldValue(response.fields, 'sec-websocket-protocol') ?? '');
      if (inspected) relayJudged({ client: socket, upstream, deflate, context, target, session });
      else relayRaw(socket, upstream);
    } catch (error) {
      upstream.destroy();
      throw error;
    }
  } catch (error) {
    exchange.abort();
    session?.end(End.WEB_SOCKET_SESSION_END_REASON_UPSTREAM_REJECTED);
    const reason = error instanceof Error ? error.message : String(error);
    tell('failed', reason);
    if (socket.destroyed) return;
    answer(client, { status: 502, body: { error: 'upstream_unreachable', detail: reason.slice(0, 300) } });
  }
}

/** Asks the middlewares whether they want to see the WebSocket; undefined when the client has its answer already. */
async function preflight(
  client: ClientExchange,
  context: ConnectionContext,
  { path }: AdmittedTarget,
  fields: readonly Field[],
): Promise<{ readonly session: MiddlewareSession | undefined } | undefined> {
  const { middlewares, grant, intent, identity, scheme } = context;
  if (grant.middlewares.length === 0) return { session: undefined };
  const { host, port } = intent;
  const subprotocols = fields
    .filter(([name]) => name.toLowerCase() === 'sec-websocket-protocol')
    .flatMap(([, value]) => value.split(',').map((one) => one.trim()));
  const outcome = await middlewares.preflight(grant.middlewares, {
    subject: subjectOf(middlewares.sandbox, identity, {
      scheme: scheme === 'https' ? 'wss' : 'ws',
      host,
      port,
      method: 'GET',
      path,
      query: '',
    }),
    subprotocols,
    tell: (evaluation) => context.observeMiddleware({ ...evaluation, method: 'GET', path }),
  });
  if (outcome?.kind === 'passed') {
    if (context.current()) return outcome;
    outcome.session?.end(End.WEB_SOCKET_SESSION_END_REASON_POLICY_RELOAD);
    client.abort();
    return undefined;
  }
  const told = refusal(outcome, context, 'GET', path);
  const reason = String(told.body['detail']);
  const { policy } = grant;
  context.observe({
    outcome: 'denied',
    method: 'GET',
    path,
    policy,
    rule: undefined,
    reason,
    by: 'middleware',
  });
  answer(client, told);
  return undefined;
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
