import type { Duplex } from 'node:stream';
import { WebSocketSessionEndReason as End } from '../../../proto/generated/openshell/middleware/v1/middleware.ts';
import { decideRequest } from '../../policy/request-decision.ts';
import type { AdmittedTarget } from '../../policy/target.ts';
import type { MiddlewareSession } from '../middleware/session.ts';
import { graphqlMessage } from '../protocols/graphql-messages.ts';
import type { Deflate } from '../protocols/websocket-handshake.ts';
import { CLOSE, type MessageVerdict, type RelayEnd, relayMessages } from '../protocols/websocket-messages.ts';
import type { ConnectionContext, RequestEvent } from './connection-context.ts';
import { bodyWithCredentials } from './credentials.ts';

export interface JudgedSocket {
  readonly client: Duplex;
  readonly upstream: Duplex;
  readonly deflate: Deflate | undefined;
  readonly context: ConnectionContext;
  readonly target: AdmittedTarget;
  /** Undefined where no middleware wants to see the messages. */
  readonly session: MiddlewareSession | undefined;
}

type Closing = Extract<MessageVerdict, { readonly kind: 'close' }>;

const END_OF: Readonly<Record<RelayEnd, (typeof End)[keyof typeof End]>> = {
  closed: End.WEB_SOCKET_SESSION_END_REASON_NORMAL_CLOSE,
  gone: End.WEB_SOCKET_SESSION_END_REASON_PEER_DISCONNECT,
  malformed: End.WEB_SOCKET_SESSION_END_REASON_PROTOCOL_ERROR,
};

/** Relays a WebSocket whose messages are looked at: by policy, then by middlewares, then credentials are put in. */
export function relayJudged({ client, upstream, deflate, context, target, session }: JudgedSocket): void {
  const { grant, current } = context;
  const { path, query, endpoint } = target;
  // Only an endpoint of this protocol says something of messages.
  const policed = endpoint?.options.protocol === 'websocket' ? endpoint : undefined;
  const boundHere = context.credentials?.isBound(context.intent.host, context.intent.port) === true;
  const tellDenied = (method: string, reason: string, by: Pick<RequestEvent, 'by'> = {}): void =>
    context.observe({
      outcome: 'denied',
      method,
      path,
      policy: endpoint?.policy ?? grant.policy,
      rule: undefined,
      reason,
      ...by,
    });
  const close = (code: Closing['code'], reason: string, end: (typeof End)[keyof typeof End]): Closing => {
    session?.end(end);
    return { kind: 'close', code, reason };
  };
  const refused = (method: string, reason: string): Closing => {
    tellDenied(method, reason);
    return close(CLOSE.policy, reason, End.WEB_SOCKET_SESSION_END_REASON_POLICY_DENIAL);
  };
  const replaced = (): Closing =>
    close(
      CLOSE.reload,
      'the policy was replaced; connect again',
      End.WEB_SOCKET_SESSION_END_REASON_POLICY_RELOAD,
    );

  /** Why policy does not let a text pass; undefined when it does. */
  const decide = (text: Buffer): Closing | undefined => {
    if (policed === undefined) return undefined;
    const body = policed.graphqlMessages
      ? graphqlMessage(text.toString('utf8'))
      : ({ kind: 'none' } as const);
    if (body === undefined) return undefined;
    const decision = decideRequest(grant, { method: 'WEBSOCKET_TEXT', path, query, body });
    const outcome = decision.kind === 'deny' ? 'denied' : decision.kind === 'audit' ? 'audited' : 'allowed';
    const { policy, rule, reason } = decision;
    context.observe({ outcome, method: 'WEBSOCKET_TEXT', path, policy, rule, reason });
    return decision.kind === 'deny'
      ? close(CLOSE.policy, reason, End.WEB_SOCKET_SESSION_END_REASON_POLICY_DENIAL)
      : undefined;
  };
  const withCredentials = (data: Buffer): MessageVerdict => {
    if (policed === undefined) return { kind: 'pass', data };
    const sent = bodyWithCredentials(context, data, path, policed.options.websocketCredentialRewrite);
    return sent.ok
      ? { kind: 'pass', data: sent.value }
      : refused('WEBSOCKET_TEXT', `the credential ${sent.error.key} cannot be sent here`);
  };
  const judgeBinary = (data: Buffer): MessageVerdict => {
    if (policed?.graphqlMessages === true)
      return refused('WEBSOCKET_BINARY', 'a binary message cannot be inspected');
    // A placeholder in it could not be told from other bytes, so none may be where credentials travel.
    if (policed !== undefined && boundHere)
      return refused('WEBSOCKET_BINARY', 'a binary message cannot be looked through for credentials');
    session?.passBinary();
    return { kind: 'pass', data };
  };
  const byMiddlewares = async (data: Buffer, shown: MiddlewareSession): Promise<MessageVerdict> => {
    let denial: Closing | undefined;
    const verdict = await shown.judge(data, (text) => {
      denial = decide(text);
      return denial === undefined;
    });
    if (!current()) return replaced();
    if (verdict.kind === 'pass') return withCredentials(verdict.data);
    if (verdict.kind === 'busy')
      return close(
        CLOSE.busy,
        'too many messages wait for their middlewares',
        End.WEB_SOCKET_SESSION_END_REASON_MIDDLEWARE_FAILURE,
      );
    if (verdict.kind === 'over')
      return { kind: 'close', code: CLOSE.policy, reason: 'the WebSocket has ended' };
    if (verdict.why === 'policy')
      return denial ?? refused('WEBSOCKET_TEXT', 'a middleware made a message too large');
    const denied = verdict.why === 'denied';
    const reason = denied
      ? `the middleware ${verdict.middleware} does not allow this message`
      : `the middleware ${verdict.middleware} failed, and its on_error does not let messages pass without it`;
    tellDenied('WEBSOCKET_TEXT', reason, { by: 'middleware' });
    return close(
      CLOSE.policy,
      reason,
      denied
        ? End.WEB_SOCKET_SESSION_END_REASON_MIDDLEWARE_DENIAL
        : End.WEB_SOCKET_SESSION_END_REASON_MIDDLEWARE_FAILURE,
    );
  };
  const judge = (data: Buffer, isText: boolean): MessageVerdict | Promise<MessageVerdict> => {
    if (!current()) return replaced();
    if (!isText) return judgeBinary(data);
    const denial = decide(data);
    if (denial !== undefined) return denial;
    return session === undefined ? withCredentials(data) : byMiddlewares(data, session);
  };
  relayMessages({
    client,
    upstream,
    deflate,
    assembly: context.assembly,
    judge,
    onEnd: (end) => session?.end(END_OF[end]),
  });
}
