import type { RequestDecision } from '../../policy/request.ts';
import { nominatedBy } from '../middleware/headers.ts';
import type { ChainOutcome } from '../middleware/http-chain.ts';
import { Middlewares } from '../middleware/middlewares.ts';
import { subjectOf } from '../middleware/subject.ts';
import { answer } from './answer.ts';
import type { ClientExchange } from './client-exchange.ts';
import type { ConnectionContext, LocalAnswer } from './connection-context.ts';
import { denialAnswer } from './denial.ts';
import type { Field } from './fields.ts';
import { readUpTo, reserve } from './held-body.ts';
import type { Admitted } from './inspection.ts';

/** What policy says of the request with these fields and this body; without one, of the body that came. */
export type Judge = (fields: readonly Field[], body: Buffer | undefined) => RequestDecision;

/**
 * Takes a request that policy has allowed through its middlewares (contract.md, 1.9); undefined when the client has its
 * answer already.
 */
export async function passMiddlewares(
  client: ClientExchange,
  context: ConnectionContext,
  admitted: Admitted,
  judge: Judge,
): Promise<Admitted | undefined> {
  const { middlewares, grant, intent, identity } = context;
  const stages = middlewares.httpStages(grant.middlewares);
  if (stages.length === 0) return admitted;
  const { method } = client;
  const { path, rawQuery } = admitted.target;
  const held = admitted.whole ?? (await readUpTo(client, context, Middlewares.largestBody(stages)));
  if (held === undefined) return undefined;
  let refused: RequestDecision | undefined;
  const outcome = await middlewares.evaluate(stages, {
    subject: subjectOf(middlewares.sandbox, identity, {
      scheme: context.scheme,
      host: intent.host,
      port: intent.port,
      method,
      path,
      query: rawQuery ?? '',
    }),
    fields: admitted.fields,
    nominated: nominatedBy(client.connection),
    body: held,
    recheck: (fields, body) => {
      const decision = judge(fields, body ?? (held === 'too-large' ? undefined : held));
      if (decision.kind === 'deny') refused = decision;
      return decision.kind !== 'deny';
    },
    tell: (evaluation) => context.observeMiddleware({ ...evaluation, method, path }),
  });
  // The policy may have been replaced while they were asked.
  if (!context.current()) {
    client.abort();
    return undefined;
  }
  if (outcome?.kind !== 'passed') {
    const told = refused === undefined ? refusal(outcome, context, method, path) : undefined;
    const reason = refused?.reason ?? String(told?.body['detail']);
    const policy = refused?.policy ?? grant.policy;
    const by = refused === undefined ? ({ by: 'middleware' } as const) : {};
    context.observe({ outcome: 'denied', method, path, policy, rule: refused?.rule, reason, ...by });
    answer(client, told ?? denialAnswer({ policy, reason }, { method, path }, context));
    return undefined;
  }
  if (outcome.body !== undefined && !reserve(client, context, outcome.body.length)) return undefined;
  const came = client.framing.kind !== 'none' && held !== 'too-large' ? held : undefined;
  return { target: admitted.target, fields: outcome.fields, whole: outcome.body ?? came };
}

/** What a workload is told when a middleware, and not policy, stands in the way (contract.md, 7.8). */
export function refusal(
  outcome: Exclude<ChainOutcome, { readonly kind: 'passed' }> | undefined,
  { grant, intent, identity }: ConnectionContext,
  method: string,
  path: string,
): LocalAnswer {
  const { host, port } = intent;
  const place = { layer: 'l7', method, path, host, port, binary: identity.binary };
  const { policy } = grant;
  if (outcome === undefined) {
    const detail = 'too many requests wait for their middlewares; try again';
    return { status: 503, body: { error: 'middleware_failed', detail, policy, ...place } };
  }
  if (outcome.kind === 'denied') {
    const { middleware, code } = outcome;
    const detail = `the middleware ${middleware} does not allow this request`;
    const told = code === undefined ? { middleware } : { middleware, reason_code: code };
    return { status: 403, body: { error: 'middleware_denied', detail, policy, ...told, ...place } };
  }
  const failed = outcome.kind === 'failed' ? outcome : { middleware: '', code: '' };
  const { middleware, code } = failed;
  const detail = `the middleware ${middleware} failed (${code}), and its on_error does not let requests pass without it`;
  return { status: 403, body: { error: 'middleware_failed', detail, policy, middleware, ...place } };
}
