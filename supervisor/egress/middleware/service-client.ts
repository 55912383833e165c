import { X509Certificate } from 'node:crypto';
import { createSecureContext, rootCertificates, type SecureContext } from 'node:tls';
import {
  type HttpRequestEvaluation,
  type HttpRequestResult,
  type MiddlewareManifest,
  SupervisorMiddlewareDefinition,
} from '../../../proto/generated/openshell/middleware/v1/middleware.ts';
import type { Clock, Random } from '../../clock.ts';
import { err, ok, type Result } from '../../result.ts';
import { type Connection, openConnection } from '../../rpc/connection.ts';
import { within } from '../../rpc/deadline.ts';
import { CallError, codeOf, STATUS } from '../../rpc/status.ts';
import { callOnce, decode, type Method } from '../../rpc/unary.ts';
import type { Resolve } from '../resolver.ts';
import { MAX_ANSWER_BYTES } from './limits.ts';
import type { Registration } from './manifest.ts';
import type { MiddlewareService, SessionCall, SessionEvents, StageConfig } from './service.ts';

const METHODS = SupervisorMiddlewareDefinition.methods;
const CONNECT_MS = 5_000;
/** Servers in Go take PINGs that come more often than each five minutes for an attack, and hang up. */
const KEEPALIVE_MS = 330_000;
/** After a call without an answer the connection is tried, so often at most. */
const PROBE_MS = 60_000;
const MAX_ADDRESSES = 8;
const FIRST_PAUSE_MS = 500;
const LAST_PAUSE_MS = 30_000;
/** A configuration that was refused is asked about again after this. */
const REFUSED_MS = 30_000;
const MAX_CONFIGS = 64;

export interface ClientOptions {
  readonly clock: Clock;
  readonly random: Random;
  readonly resolve: Resolve;
  readonly registration: Registration;
  /** Undefined while there is none, or none that is still good. */
  readonly credential: () => string | undefined;
}

/** One service of the operator's over gRPC. Dials when it is first asked, and anew when a connection is lost. */
export class ServiceClient implements MiddlewareService {
  readonly builtIn = false;
  readonly #options: ClientOptions;
  readonly #trust: SecureContext | undefined;
  readonly #answers = new Map<string, { readonly answer: Result<void, string>; readonly at: number }>();
  #connection: Connection | undefined;
  #opening: Promise<Connection> | undefined;
  #failures = 0;
  #notBefore = 0;
  #probedAt = Number.NEGATIVE_INFINITY;
  #closed = false;

  /** Throws for a CA certificate that is none. */
  constructor(options: ClientOptions) {
    this.#options = options;
    const { address, ca } = options.registration;
    // A context takes what is no certificate without a word, and trusts nobody then.
    if (ca !== undefined) new X509Certificate(ca);
    if (address.kind === 'host' && address.secure)
      this.#trust = createSecureContext({ ca: ca ?? [...rootCertificates], minVersion: 'TLSv1.2' });
  }

  /** What it says of itself. Unlike an evaluation this waits for a connection as long as that may take. */
  async describe(): Promise<MiddlewareManifest> {
    await this.#ready();
    return this.#unary(METHODS.describe, {}, this.#options.registration.timeoutMs);
  }

  async accepts({ encoded }: StageConfig): Promise<Result<void, string>> {
    const { clock, registration } = this.#options;
    const key = encoded.toString('base64');
    const known = this.#answers.get(key);
    if (known !== undefined && (known.answer.ok || clock.monotonic() - known.at < REFUSED_MS))
      return known.answer;
    const request = { config: encoded, middlewareName: registration.name };
    const { valid, reason } = await this.#unary(METHODS.validateConfig, request, registration.timeoutMs);
    const answer = valid ? ok(undefined) : err(reason);
    if (this.#answers.size >= MAX_CONFIGS) this.#answers.clear();
    this.#answers.set(key, { answer, at: clock.monotonic() });
    return answer;
  }

  evaluate(
    request: HttpRequestEvaluation,
    _config: StageConfig,
    timeoutMs: number,
  ): Promise<HttpRequestResult> {
    return this.#unary(METHODS.evaluateHttpRequest, request, timeoutMs);
  }

  open(_config: StageConfig, events: SessionEvents): SessionCall {
    const method = METHODS.evaluateWebSocketSession;
    const waiting: Uint8Array[] = [];
    let call: ReturnType<Connection['call']> | undefined;
    let state: 'open' | 'ended' | 'over' = 'open';
    const over = (error: Error | undefined): void => {
      if (state === 'over') return;
      state = 'over';
      events.closed(error);
    };
    this.#ready().then(
      ({ connection, token }) => {
        if (state === 'over') return;
        call = connection.call(pathOf(method), token, {
          message: (bytes) => {
            const result = decode(method, bytes);
            if (state !== 'over') events.result(result);
          },
          closed: over,
        });
        for (const message of waiting.splice(0)) call.send(message);
        if (state === 'ended') call.end();
      },
      (error: Error) => over(error),
    );
    return {
      send(event) {
        if (state !== 'open') return;
        const message = method.requestType.encode(event).finish();
        if (call === undefined) waiting.push(message);
        else call.send(message);
      },
      end() {
        if (state !== 'open') return;
        state = 'ended';
        call?.end();
      },
      cancel() {
        if (call === undefined) over(new CallError(STATUS.CANCELLED, 'given up'));
        else call.cancel();
      },
    };
  }

  close(): void {
    this.#closed = true;
    this.#connection?.destroy('the service is not used any more');
    this.#connection = undefined;
  }

  async #unary<Req, Res>(method: Method<Req, Res>, request: Req, timeoutMs: number): Promise<Res> {
    const { clock } = this.#options;
    const startedAt = clock.monotonic();
    const { connection, token } = await within(clock, timeoutMs, this.#ready());
    const left = Math.max(1, timeoutMs - (clock.monotonic() - startedAt));
    try {
      return await callOnce(connection, method, [request], { path: pathOf(method), token, timeoutMs: left });
    } catch (error) {
      if (codeOf(error) === STATUS.DEADLINE_EXCEEDED) this.#doubt(connection);
      throw error;
    }
  }

  /** A service may be slow, or gone without a word: then its connection must not be used any more. */
  #doubt(connection: Connection): void {
    const now = this.#options.clock.monotonic();
    if (now - this.#probedAt < PROBE_MS || !connection.usable) return;
    this.#probedAt = now;
    connection.probe();
  }

  /** A connection and what to show there. What must be authenticated never goes without. */
  async #ready(): Promise<{ readonly connection: Connection; readonly token: string }> {
    const { registration, credential } = this.#options;
    const token = registration.authenticated ? credential() : '';
    if (token === undefined)
      throw new CallError(STATUS.UNAUTHENTICATED, 'the gateway has given no credential for it yet');
    return { connection: await this.#connected(), token };
  }

  #connected(): Promise<Connection> {
    if (this.#connection?.usable === true) return Promise.resolve(this.#connection);
    this.#opening ??= this.#open().finally(() => {
      this.#opening = undefined;
    });
    return this.#opening;
  }

  /** After a dial that failed comes a pause in which nothing is dialled: requests must not make a storm. */
  async #open(): Promise<Connection> {
    const { clock, random } = this.#options;
    if (this.#closed) throw new CallError(STATUS.CANCELLED, 'the service is not used any more');
    if (clock.monotonic() < this.#notBefore)
      throw new CallError(STATUS.UNAVAILABLE, 'it could not be reached a moment ago');
    try {
      const connection = await this.#dial();
      if (this.#closed) {
        connection.destroy('the service is not used any more');
        throw new CallError(STATUS.CANCELLED, 'the service is not used any more');
      }
      this.#failures = 0;
      this.#connection = connection;
      return connection;
    } catch (error) {
      const range = Math.min(LAST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** Math.min(this.#failures++, 10));
      this.#notBefore = clock.monotonic() + range * (0.5 + 0.5 * random());
      throw error;
    }
  }

  async #dial(): Promise<Connection> {
    const { clock, resolve, registration } = this.#options;
    const { address } = registration;
    const deadline = clock.monotonic() + CONNECT_MS;
    const options = () => ({
      clock,
      connectTimeoutMs: Math.max(1, deadline - clock.monotonic()),
      keepaliveMs: KEEPALIVE_MS,
      keepaliveTimeoutMs: 10_000,
      maxMessageBytes: MAX_ANSWER_BYTES,
    });
    if (address.kind === 'socket') {
      const { path } = address;
      return openConnection(
        { address: path, port: 0, socketPath: path, authority: 'localhost', tls: undefined },
        options(),
      );
    }
    const { host, port, secure } = address;
    const resolved = await within(clock, CONNECT_MS, resolve(host));
    if (!resolved.ok) throw new CallError(STATUS.UNAVAILABLE, `${host} cannot be resolved`);
    const tls = secure && this.#trust !== undefined ? { context: this.#trust, name: host } : undefined;
    const authority = host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
    let failure: unknown = new CallError(STATUS.UNAVAILABLE, `${host} has no address`);
    for (const one of resolved.value.slice(0, MAX_ADDRESSES)) {
      if (clock.monotonic() >= deadline) break;
      try {
        return await openConnection({ address: one, port, authority, tls }, options());
      } catch (error) {
        failure = error;
      }
    }
    throw failure;
  }
}

const pathOf = (method: { readonly name: string }): string =>
  `/${SupervisorMiddlewareDefinition.fullName}/${method.name}`;
