import type { Clock } from '../clock.ts';
import type { Connection } from '../rpc/connection.ts';
import { CallError, isRefusal, STATUS } from '../rpc/status.ts';
import { callOnce, type Method } from '../rpc/unary.ts';

export { codeOf, describeCallError, isRefusal, isTransient } from '../rpc/status.ts';
export { decode, type Method } from '../rpc/unary.ts';
export { MAX_MESSAGE_BYTES } from './dial.ts';

const SERVICE = 'openshell.v1.OpenShell';

export interface CallsOptions {
  /** For how long, in milliseconds. */
  readonly timeoutMs?: number;
  /** Sent instead of the current token. */
  readonly token?: string;
  /** Of another service than the gateway's own. */
  readonly service?: string;
}

export interface ChannelOptions {
  readonly clock: Clock;
  readonly dial: () => Promise<Connection>;
  readonly token: () => string;
  /** The gateway refused a call with this token. */
  readonly onRefused: (token: string) => void;
}

const CALL_TIMEOUT_MS = 10_000;
const FAREWELL_MS = 1_000;

/**
 * The one connection that session, calls and pushes share. Only `open` dials: a call without a connection
 * fails at once, so that the session's backoff paces every dial there is.
 */
export class Channel {
  readonly #options: ChannelOptions;
  #current: Connection | undefined;
  #opening: Promise<Connection> | undefined;
  #closed = false;
  /** Connections that have or had a session. */
  readonly #claimed = new WeakSet<Connection>();
  /** Methods that the gateway at the other end of the current connection does not have. */
  readonly #missing = new Set<string>();

  constructor(options: ChannelOptions) {
    this.#options = options;
  }

  /** The connection for new calls, when there is a usable one. */
  get current(): Connection | undefined {
    return this.#current?.usable === true ? this.#current : undefined;
  }

  /** A connection for a session: the current one if it never had any, else a new one. */
  async forSession(): Promise<Connection> {
    const { current } = this;
    const connection = current === undefined || this.#claimed.has(current) ? await this.open() : current;
    this.#claimed.add(connection);
    return connection;
  }

  /** A new connection. It carries the calls when no other does; else it waits to be adopted. */
  async open(): Promise<Connection> {
    const connection = await this.#options.dial();
    if (this.#closed) {
      connection.destroy('stopped');
      throw new CallError(STATUS.CANCELLED, 'stopped');
    }
    if (this.current === undefined) this.#become(connection);
    return connection;
  }

  /** The current connection, or a new one; callers that come meanwhile share the dial. */
  ensure(): Promise<Connection> {
    if (this.current !== undefined) return Promise.resolve(this.current);
    this.#opening ??= this.open().finally(() => {
      this.#opening = undefined;
    });
    return this.#opening;
  }

  /** Makes before it breaks: from now on calls go here, and what runs on the old connection finishes there. */
  adopt(connection: Connection): void {
    const old = this.#current;
    if (old === connection) return;
    this.#become(connection);
    old?.retire();
  }

  /** A connection that nobody needs any more, unless the calls do. */
  release(connection: Connection): void {
    if (connection !== this.#current) connection.destroy('not needed');
  }

  /** Lets what runs finish for a moment, then closes. */
  close(): void {
    this.#closed = true;
    const connection = this.#current;
    this.#current = undefined;
    if (connection === undefined) return;
    connection.retire();
    const cancel = this.#options.clock.after(FAREWELL_MS, () => connection.destroy('stopped'));
    connection.watch({ retiring: () => undefined, closed: cancel });
  }

  /** One unary call. Rejects with a CallError. */
  unary<Req, Res>(method: Method<Req, Res>, request: Req, options: CallsOptions = {}): Promise<Res> {
    return this.#exchange(method, [request], options);
  }

  /** One client-streaming call whose messages are all known. */
  push<Req, Res>(
    method: Method<Req, Res>,
    requests: readonly Req[],
    options: CallsOptions = {},
  ): Promise<Res> {
    return this.#exchange(method, requests, options);
  }

  #become(connection: Connection): void {
    this.#current = connection;
    this.#missing.clear();
  }

  async #exchange<Req, Res>(
    method: Method<Req, Res>,
    requests: readonly Req[],
    { timeoutMs = CALL_TIMEOUT_MS, token = this.#options.token(), service = SERVICE }: CallsOptions,
  ): Promise<Res> {
    const connection = this.current;
    if (connection === undefined)
      throw new CallError(STATUS.UNAVAILABLE, 'there is no connection to the gateway');
    // Asking an older gateway again and again would only fill its log; a new connection is asked anew.
    if (this.#missing.has(method.name)) throw missing(method.name);
    try {
      return await callOnce(connection, method, requests, {
        path: `/${service}/${method.name}`,
        token,
        timeoutMs,
      });
    } catch (error) {
      const absent = error instanceof CallError && error.code === STATUS.UNIMPLEMENTED;
      if (absent && connection === this.#current) this.#missing.add(method.name);
      if (isRefusal(error)) this.#options.onRefused(token);
      throw error;
    }
  }
}

/** The path of one of the gateway's methods. */
export const pathOf = (method: { readonly name: string }): string => `/${SERVICE}/${method.name}`;

/** One call on a connection: all requests out, exactly one answer back. */
export const exchange = <Req, Res>(
  connection: Connection,
  method: Method<Req, Res>,
  requests: readonly Req[],
  token: string,
  timeoutMs: number,
): Promise<Res> => callOnce(connection, method, requests, { path: pathOf(method), token, timeoutMs });

const missing = (name: string): CallError =>
  new CallError(STATUS.UNIMPLEMENTED, `the gateway does not know ${name}`);
