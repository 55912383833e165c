import { Readable } from 'node:stream';
import type { BodyFacts } from '../../policy/request.ts';
import { decideRequest } from '../../policy/request-decision.ts';
import { type AdmittedTarget, admitTarget } from '../../policy/target.ts';
import { ok } from '../../result.ts';
import { parseAuthority } from '../authority.ts';
import { answer } from './answer.ts';
import { type BodyNeed, bodyNeed } from './body-facts.ts';
import type { ClientExchange } from './client-exchange.ts';
import type { ConnectionContext, RequestEvent } from './connection-context.ts';
import {
  bodyWithCredentials,
  credentialAnswer,
  guarded,
  type HeadFault,
  headWithCredentials,
  MAX_REWRITTEN_BYTES,
  rewritesBody,
} from './credentials.ts';
import { authorityMismatch, denialAnswer } from './denial.ts';
import { endToEnd, type Field } from './fields.ts';
import { readBody } from './held-body.ts';
import { type Judge, passMiddlewares } from './middleware-pass.ts';
import { MAX_SIGNED_BYTES, payloadOf, signedHead } from './signing.ts';
import type { UpstreamRequest } from './upstream.ts';

/** A request that may go out. */
export interface Admitted {
  readonly target: AdmittedTarget;
  readonly fields: readonly Field[];
  /** The body when it had to be read for the decision. */
  readonly whole: Buffer | undefined;
}

/**
 * Decides on one request of an inspected connection: what comes back may go out, and undefined says that the client
 * has its answer already. What another parser could read in another way is broken off without one (contract.md, 7.7).
 */
export async function admitRequest(
  client: ClientExchange,
  context: ConnectionContext,
): Promise<Admitted | undefined> {
  const { grant, intent, observe } = context;
  const { method } = client;
  const event = (
    outcome: RequestEvent['outcome'],
    path: string,
    reason: string,
    policy = grant.policy,
    rule?: string,
  ) => observe({ outcome, method, path, policy, rule, reason });
  // Requests that were under way finish; the next one is of another policy (contract.md, 7.9).
  if (!context.current()) {
    client.abort();
    return undefined;
  }
  const malformed = (reason: string): undefined => {
    event('malformed', client.target.split('?', 1)[0]?.slice(0, 256) ?? '', reason);
    client.abort();
  };
  if (!/^[A-Z][A-Z0-9_-]{0,31}$/.test(method) || method === 'CONNECT') return malformed('the method is none');
  if (client.framing.kind === 'ambiguous') return malformed(client.framing.why);
  if (!namesPlace(client.authority, context)) {
    event('denied', '', 'the request names another host than its connection');
    answer(client, authorityMismatch(client.authority, intent));
    return undefined;
  }
  const admitted = admitTarget(grant, client.target);
  if (!admitted.ok && admitted.error.kind === 'malformed') return malformed(admitted.error.reason);
  if (!admitted.ok) {
    const path = client.target.split('?', 1)[0] ?? '';
    event('denied', path, admitted.error.reason);
    answer(
      client,
      denialAnswer({ policy: grant.policy, reason: admitted.error.reason }, { method, path }, context),
    );
    return undefined;
  }
  const target = admitted.value;
  const fields = endToEnd(client.rawFields, client.connection).filter(
    ([name]) => name.toLowerCase() !== 'expect',
  );
  const need = bodyNeed(target.endpoint, method, target, fields, client.framing.kind !== 'none');
  let facts = need.kind === 'facts' ? need.facts : undefined;
  let whole: Buffer | undefined;
  if (need.kind === 'whole') {
    const read = await readBody(client, context, need.maxBytes);
    if (read === undefined) return undefined;
    // The policy may have been replaced while the body came.
    if (!context.current()) {
      client.abort();
      return undefined;
    }
    whole = read;
    facts = need.facts(read);
  }
  const { path, query } = target;
  const judge: Judge = (changed, body) => {
    const again = bodyNeed(target.endpoint, method, target, changed, (body?.length ?? 0) > 0);
    return decideRequest(grant, { method, path, query, body: factsOf(again, body) });
  };
  const decision = decideRequest(grant, { method, path, query, body: facts ?? { kind: 'none' } });
  const outcome = decision.kind === 'deny' ? 'denied' : decision.kind === 'audit' ? 'audited' : 'allowed';
  event(outcome, path, decision.reason, decision.policy, decision.rule);
  if (decision.kind === 'deny') {
    answer(client, denialAnswer(decision, { method, path }, context));
    return undefined;
  }
  return passMiddlewares(client, context, { target, fields, whole }, judge);
}

/** The facts of a body that a middleware has changed, or that it has given another kind. */
function factsOf(need: BodyNeed, body: Buffer | undefined): BodyFacts {
  if (need.kind === 'facts') return need.facts;
  return body === undefined || body.length > need.maxBytes
    ? { kind: 'malformed', error: 'the body is larger than the endpoint can inspect' }
    : need.facts(body);
}

/** Whether Host or :authority is the place that the connection goes to; the port may be left out where it is the scheme's. */
function namesPlace(authority: string | undefined, context: ConnectionContext): boolean {
  if (authority === undefined) return false;
  if (authority === authorityOf(context)) return true;
  const { intent, scheme } = context;
  const port = scheme === 'https' ? 443 : 80;
  const parsed = parseAuthority(authority) ?? parseAuthority(`${authority}:${port}`);
  return parsed !== undefined && parsed.host === intent.host && parsed.port === intent.port;
}

/** Handles one exchange from its request to the end of its response. */
export async function inspectExchange(client: ClientExchange, context: ConnectionContext): Promise<void> {
  const admitted = await admitRequest(client, context);
  if (admitted === undefined) return;
  const { target } = admitted;
  const request = await outgoing(client, context, admitted);
  if (request === undefined) return;
  let ended = false;
  const exchange = context.upstream.send(request, () => client.sayContinue());
  client.onClose(() => {
    ended = true;
    exchange.abort();
  });
  try {
    const result = await exchange.answer;
    // Only an upgrade that was asked for can be agreed to.
    if (result.kind === 'upgraded') return client.abort();
    const { response } = result;
    client.relay(response, response.body, response.trailers);
  } catch (error) {
    if (ended) return;
    const reason = error instanceof Error ? error.message : String(error);
    context.observe({
      outcome: 'failed',
      method: client.method,
      path: target.path,
      policy: context.grant.policy,
      rule: undefined,
      reason,
    });
    answer(client, {
      status: 502,
      body: {
        error: 'upstream_unreachable',
        detail: `${context.intent.host} ended without an answer: ${reason.slice(0, 200)}`,
      },
    });
  }
}

/** The request as it goes out, with its credentials; undefined when the client has been answered instead. */
async function outgoing(
  client: ClientExchange,
  context: ConnectionContext,
  { target, fields, whole: read }: Admitted,
): Promise<UpstreamRequest | undefined> {
  const { framing } = client;
  const hasBody = framing.kind === 'length' || framing.kind === 'chunked';
  const rewrite = rewritesBody(context, target.endpoint?.options, fields);
  const payload = payloadOf(target.endpoint?.options, fields);
  if (payload?.kind === 'refused') {
    refuseCredential(client, context, target.path, {
      kind: 'unavailable',
      key: 'AWS_SECRET_ACCESS_KEY',
      reason: payload.reason,
    });
    return undefined;
  }
  let whole = read;
  if (whole === undefined && hasBody && (rewrite || payload?.kind === 'hashed')) {
    whole = await readBody(client, context, rewrite ? MAX_REWRITTEN_BYTES : MAX_SIGNED_BYTES);
    if (whole === undefined) return undefined;
  }
  const head = await headWithCredentials(context, target, fields);
  const body =
    whole === undefined ? ok(undefined) : bodyWithCredentials(context, whole, target.path, rewrite);
  const fault = head.ok ? (body.ok ? undefined : body.error) : head.error;
  if (!head.ok || !body.ok) {
    if (fault !== undefined) refuseCredential(client, context, target.path, fault);
    return undefined;
  }
  const authority = authorityOf(context);
  const signed =
    payload === undefined || target.endpoint === undefined
      ? head
      : signedHead(
          context,
          target.endpoint.options,
          { ...head.value, method: client.method, authority },
          target.path,
          payload,
          body.value,
          Date.now(),
        );
  if (!signed.ok) {
    refuseCredential(client, context, target.path, signed.error);
    return undefined;
  }
  const { path, rawQuery, fields: sent } = signed.value;
  // What is signed says nothing of an expectation, so it is met here.
  if (payload !== undefined) client.sayContinue();
  return {
    method: client.method,
    target: rawQuery === undefined ? path : `${path}?${rawQuery}`,
    authority,
    fields: sent,
    body: bodyOf(client, context, body.value, hasBody),
    // A body that has been read needs no permission any more.
    expectsContinue: client.expectsContinue && body.value === undefined && payload === undefined,
    upgrade: undefined,
  };
}

/** What was read has a length now, whatever it had before; the rest streams through. */
function bodyOf(
  client: ClientExchange,
  { credentials }: ConnectionContext,
  whole: Buffer | undefined,
  hasBody: boolean,
): UpstreamRequest['body'] {
  if (whole !== undefined)
    return { stream: Readable.from([whole], { objectMode: false }), bytes: whole.length };
  if (!hasBody) return undefined;
  const bytes = client.framing.kind === 'length' ? client.framing.bytes : undefined;
  return { stream: guarded(credentials, client.body, () => client.abort()), bytes };
}

/** Tells a client that a credential cannot be used for its request. */
export function refuseCredential(
  client: ClientExchange,
  context: ConnectionContext,
  path: string,
  fault: HeadFault,
): void {
  const told = credentialAnswer(fault, context);
  const { policy } = context.grant;
  const reason = String(told.body['message']);
  context.observe({ outcome: 'denied', method: client.method, path, policy, rule: undefined, reason });
  answer(client, told);
}

/** What Host and :authority say upstream: the place that was decided on, never what the client wrote. */
export function authorityOf({ intent, scheme }: ConnectionContext): string {
  const host = intent.host.includes(':') ? `[${intent.host}]` : intent.host;
  return intent.port === (scheme === 'https' ? 443 : 80) ? host : `${host}:${intent.port}`;
}
