import { Readable } from 'node:stream';
import { canonicalizeTarget } from '../../policy/target.ts';
import { err, ok, type Result } from '../../result.ts';
import { readWhole } from '../http/body-facts.ts';
import type { ClientExchange } from '../http/client-exchange.ts';
import type { BodyBudget } from '../http/connection-context.ts';
import { endToEnd, type Field, fieldValue } from '../http/fields.ts';
import type { Exchange, UpstreamResponse } from '../http/upstream.ts';
import type { LocalService } from '../local-services.ts';
import { AnswerStream } from './answer-stream.ts';
import type { Backends } from './backends.ts';
import { type RequestShape, shapeOf } from './request-shape.ts';
import { type InferenceRoute, WORKLOAD_ROUTE } from './route.ts';
import type { RouteTable } from './route-table.ts';
import { type ProviderCall, providerCall } from './upstream-request.ts';

/** One call, when it is over. */
export interface InferenceEvent {
  readonly status: number;
  readonly operation: string;
  readonly model: string;
  /** The provider's host; empty when none was asked. */
  readonly provider: string;
  readonly durationMs: number;
  /** Undefined when it went well. */
  readonly fault: string | undefined;
}

export interface InferenceServiceOptions {
  readonly routes: RouteTable;
  readonly backends: Backends;
  /** Milliseconds that only go forward. */
  readonly now: () => number;
  /** What all bodies together may hold. */
  readonly bodies: BodyBudget;
  readonly observe: (event: InferenceEvent) => void;
  /** Between two pieces of a stream, milliseconds; 120 s by default. */
  readonly idleMs?: number;
}

const MAX_BODY_BYTES = 10 << 20;
const MAX_ANSWER_BYTES = 32 << 20;
const IDLE_MS = 120_000;
/** Calls at once. */
const MAX_CALLS = 256;

type Refusal = { readonly status: number; readonly body: Readonly<Record<string, unknown>> };
const refusal = (status: number, error: string, more: object = {}): Refusal => ({
  status,
  body: { error, ...more },
});

/** https://inference.local: calls of inference APIs, at the provider that the operator chose, with a key that stays here. */
export class InferenceService implements LocalService {
  readonly host = WORKLOAD_ROUTE;
  readonly port = 443;
  readonly secure = true;
  readonly #options: InferenceServiceOptions;
  #calls = 0;

  constructor(options: InferenceServiceOptions) {
    this.#options = options;
  }

  async handle(client: ClientExchange): Promise<void> {
    const { now, observe } = this.#options;
    const startedAt = now();
    let told = false;
    const tell = (event: Omit<InferenceEvent, 'durationMs'>): void => {
      if (told) return;
      told = true;
      observe({ ...event, durationMs: now() - startedAt });
    };
    const target = canonicalizeTarget(client.target, { allowEncodedSlash: false });
    if (
      !target.ok ||
      client.framing.kind === 'ambiguous' ||
      !/^inference\.local(:443)?$/i.test(client.authority ?? '')
    )
      return client.abort();
    const { path, query } = target.value;
    const shape = shapeOf(client.method, path);
    const refuse = ({ status, body }: Refusal, route?: InferenceRoute): void => {
      const operation = shape?.protocol ?? 'unknown';
      tell({
        status,
        operation,
        model: route?.model ?? '',
        provider: route?.base.host ?? '',
        fault: String(body['error']),
      });
      answer(client, { status, body });
    };
    if (shape === undefined) return refuse(refusal(403, 'connection not allowed by policy'));
    const route = this.#options.routes.find(shape.protocol);
    if (route === 'no-routes')
      return refuse(
        refusal(503, 'inference is not configured', {
          hint: 'set an inference route for this gateway or with --inference-routes',
        }),
      );
    if (route === 'none') return refuse(refusal(400, `no compatible route for ${shape.protocol}`));
    if (this.#calls >= MAX_CALLS)
      return refuse(refusal(503, `${MAX_CALLS} calls are under way; try again`), route);
    this.#calls += 1;
    client.onClose(() => {
      this.#calls -= 1;
    });
    const body = await this.#body(client);
    if (body === 'aborted') return client.abort();
    if (!body.ok) return refuse(body.error, route);
    const fields = endToEnd(client.rawFields, client.connection);
    const call = providerCall(route, shape, { method: client.method, path, query, fields, body: body.value });
    if (!call.ok) return refuse(refusal(400, call.error), route);
    await this.#ask(client, route, shape, call.value, refuse, tell);
  }

  async #body(client: ClientExchange): Promise<Result<Buffer | undefined, Refusal> | 'aborted'> {
    const { framing } = client;
    if (framing.kind === 'none') return ok(undefined);
    const tooLarge = err(refusal(413, `a request has at most ${MAX_BODY_BYTES} bytes`));
    const { bodies } = this.#options;
    const reserved = framing.kind === 'length' ? framing.bytes : MAX_BODY_BYTES;
    if (reserved > MAX_BODY_BYTES) return tooLarge;
    if (!bodies.take(reserved)) return err(refusal(503, 'too many requests are being read; try again'));
    let held = reserved;
    client.onClose(() => {
      bodies.give(held);
      held = 0;
    });
    client.sayContinue();
    const read = await readWhole(client.body, MAX_BODY_BYTES);
    // Its answer may stream for long, and only what came is held. After a close all is given back already.
    if (Buffer.isBuffer(read) && held > 0) {
      bodies.give(held - read.length);
      held = read.length;
    }
    if (read === 'aborted') return 'aborted';
    return read === 'too-large' ? tooLarge : ok(read);
  }

  async #ask(
    client: ClientExchange,
    route: InferenceRoute,
    shape: RequestShape,
    call: ProviderCall,
    refuse: (refusal: Refusal, route: InferenceRoute) => void,
    tell: (event: Omit<InferenceEvent, 'durationMs'>) => void,
  ): Promise<void> {
    const { backends, idleMs = IDLE_MS } = this.#options;
    const unavailable = refusal(503, 'the inference provider is unavailable');
    const over = (status: number, fault: string | undefined): void =>
      tell({ status, operation: shape.protocol, model: route.model, provider: route.base.host, fault });
    const upstream = await backends.to(route.base);
    if (!upstream.ok) {
      over(503, upstream.error);
      return refuse(unavailable, route);
    }
    const exchange = upstream.value.send(
      {
        method: client.method,
        target: call.target,
        authority: route.base.host,
        fields: call.fields,
        body:
          call.body === undefined
            ? undefined
            : { stream: Readable.from([call.body], { objectMode: false }), bytes: call.body.length },
        expectsContinue: false,
        upgrade: undefined,
      },
      () => undefined,
    );
    client.onClose(() => exchange.abort());
    const limitMs = shape.streams ? idleMs : route.timeoutMs;
    const timer = setTimeout(() => exchange.abort(), limitMs);
    try {
      const response = await responseOf(exchange);
      const status = response.status;
      const done = (fault: string | undefined): void => over(status, fault);
      if (status === 401) {
        clearTimeout(timer);
        exchange.abort();
        return refuse(refusal(401, 'the inference provider refuses the key of the route'), route);
      }
      const stream = this.#stream(response, shape, exchange, done);
      if (shape.streams) clearTimeout(timer);
      else stream.once('close', () => clearTimeout(timer));
      const fields = answerFields(response.fields);
      client.relay({ status, reason: '', fields, bytes: response.bytes }, stream, () => []);
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      over(503, reason);
      clearTimeout(timer);
      refuse(unavailable, route);
    }
  }

  /** What answers with one JSON object is never ended by an event: whoever reads it sees that it broke off. */
  #stream(
    { body, bytes, fields, status }: UpstreamResponse,
    { streams }: RequestShape,
    exchange: Exchange,
    done: (fault: string | undefined) => void,
  ): Readable {
    const compressed = fieldValue(fields, 'content-encoding') !== undefined;
    const type = fieldValue(fields, 'content-type') ?? '';
    const stream = new AnswerStream({
      maxBytes: MAX_ANSWER_BYTES,
      idleMs: this.#options.idleMs ?? IDLE_MS,
      events: streams && bytes === undefined && !compressed && /^text\/event-stream\b/i.test(type),
      onBroken(reason) {
        done(reason);
        exchange.abort();
      },
    });
    body.once('error', () => stream.break('the provider broke off'));
    body.once('close', () => {
      if (!body.readableEnded) stream.break('the provider broke off');
    });
    stream.once('end', () => done(status < 400 ? undefined : `the provider answers ${status}`));
    stream.once('close', () => done('the client went away'));
    body.pipe(stream);
    return stream;
  }
}

async function responseOf(exchange: Exchange): Promise<UpstreamResponse> {
  const answered = await exchange.answer;
  if (answered.kind === 'response') return answered.response;
  answered.socket.destroy();
  throw new Error('the provider switched protocols');
}

/** What is for whoever asked, and that was us. */
const OURS: ReadonlySet<string> = new Set(['set-cookie', 'alt-svc', 'strict-transport-security']);
const answerFields = (fields: readonly Field[]): readonly Field[] =>
  fields.filter(([name]) => !OURS.has(name.toLowerCase()));

function answer(client: ClientExchange, { status, body }: Refusal): void {
  client.answer({ status, reason: '', fields: [['Content-Type', 'application/json']] }, JSON.stringify(body));
}
