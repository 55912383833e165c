import { type ClientHttp2Session, connect as connectHttp2 } from 'node:http2';
import { connect as connectTcp, isIP, type Socket } from 'node:net';
import { checkServerIdentity, connect as connectTls, type SecureContext } from 'node:tls';
import type { Clock } from '../clock.ts';
import { CallError, STATUS } from './status.ts';
import { type Call, type CallEvents, callOn } from './stream.ts';

/** One address of the gateway. */
export interface Destination {
  readonly address: string;
  readonly port: number;
  /** Of a Unix socket, which is dialled instead. */
  readonly socketPath?: string;
  /** Host and port as the gateway is called, for `:authority`. */
  readonly authority: string;
  /** Sent with every call; names in lower case. */
  readonly metadata?: Readonly<Record<string, string>>;
  /** The name to verify and to send as SNI; plaintext without. */
  readonly tls: { readonly context: SecureContext; readonly name: string } | undefined;
}

export interface ConnectionOptions {
  readonly clock: Clock;
  readonly connectTimeoutMs: number;
  /** A PING after this long without one; contract.md, 3: 10 s, also while idle. */
  readonly keepaliveMs: number;
  /** How long its answer may take; contract.md, 3: 20 s. */
  readonly keepaliveTimeoutMs: number;
  readonly maxMessageBytes: number;
  /** What the other side may send ahead on each call, bytes; RFC 9113's 65,535 when absent. */
  readonly windowBytes?: number;
}

/** What ends or will end a connection. Each comes at most once; `retiring` never after `closed`. */
export interface ConnectionEvents {
  /** The gateway sent GOAWAY: calls that run may finish, new ones must go elsewhere. */
  retiring(): void;
  closed(): void;
}

/** One HTTP/2 connection and the calls on it. It never dials by itself. */
export class Connection {
  readonly destination: Destination;
  readonly #session: ClientHttp2Session;
  readonly #options: ConnectionOptions;
  readonly #listeners = new Set<ConnectionEvents>();
  #usable = true;
  #lost = new CallError(STATUS.UNAVAILABLE, 'the connection was lost');
  #cancelPing: (() => void) | undefined;

  /** Wraps a session whose settings have come; `openConnection` is the way to get one. */
  constructor(destination: Destination, session: ClientHttp2Session, options: ConnectionOptions) {
    this.destination = destination;
    this.#session = session;
    this.#options = options;
    session.on('goaway', () => this.#leave());
    session.on('error', (error: Error) => {
      this.#lost = new CallError(STATUS.UNAVAILABLE, error.message);
    });
    session.on('close', () => {
      this.#usable = false;
      this.#cancelPing?.();
      for (const { closed } of this.#listeners) closed();
    });
    this.#keepAlive();
  }

  /** Whether a new call may begin here. */
  get usable(): boolean {
    return this.#usable && !this.#session.closed && !this.#session.destroyed;
  }

  /** Returns what ends the subscription. */
  watch(events: ConnectionEvents): () => void {
    this.#listeners.add(events);
    return () => this.#listeners.delete(events);
  }

  /** Begins a call; a connection that cannot take it says so through `closed`. */
  call(path: string, token: string, events: CallEvents, timeoutMs?: number): Call {
    const { clock, maxMessageBytes } = this.#options;
    if (!this.usable) return refused(events, this.#lost);
    // A line break in a header would be the peer's to judge (RFC 9113, section 8.2.1).
    if (!/^[\x20-\x7e]*$/.test(token))
      return refused(
        events,
        new CallError(STATUS.UNAUTHENTICATED, 'the token holds characters that no header may carry'),
      );
    try {
      const aborted = new AbortController();
      const stream = this.#session.request(
        {
          ':method': 'POST',
          ':scheme': this.destination.tls === undefined ? 'http' : 'https',
          ':authority': this.destination.authority,
          ':path': path,
          'content-type': 'application/grpc',
          te: 'trailers',
          'user-agent': 'grpc-openshell-supervisor',
          ...this.destination.metadata,
          ...(token === '' ? {} : { authorization: `Bearer ${token}` }),
          ...(timeoutMs === undefined ? {} : { 'grpc-timeout': `${Math.max(1, Math.round(timeoutMs))}m` }),
        },
        { signal: aborted.signal },
      );
      return callOn(stream, events, {
        abort: () => aborted.abort(),
        clock,
        maxMessageBytes,
        lost: () => (this.#session.destroyed ? this.#lost : undefined),
        ...(timeoutMs === undefined ? {} : { timeoutMs }),
      });
    } catch (error) {
      // The session ended a moment ago.
      return refused(events, new CallError(STATUS.UNAVAILABLE, reasonOf(error)));
    }
  }

  /** Asks for a sign of life now; without one the connection is closed. */
  probe(): void {
    this.#cancelPing?.();
    this.#ping();
  }

  /** Takes no more calls, and closes when those that run have ended. */
  retire(): void {
    this.#usable = false;
    this.#session.close();
  }

  /** Closes now, and with it every call. */
  destroy(reason: string): void {
    this.#usable = false;
    this.#lost = new CallError(STATUS.UNAVAILABLE, reason);
    this.#session.destroy();
  }

  #leave(): void {
    if (!this.#usable) return;
    this.#usable = false;
    for (const { retiring } of this.#listeners) retiring();
  }

  #keepAlive(): void {
    this.#cancelPing = this.#options.clock.after(this.#options.keepaliveMs, () => this.#ping());
  }

  #ping(): void {
    const { clock, keepaliveTimeoutMs } = this.#options;
    if (this.#session.destroyed) return;
    const cancel = clock.after(keepaliveTimeoutMs, () =>
      this.destroy(`no answer to a PING within ${keepaliveTimeoutMs / 1000} s`),
    );
    this.#cancelPing = cancel;
    try {
      this.#session.ping((error) => {
        cancel();
        if (error === null && this.#cancelPing === cancel) this.#keepAlive();
      });
    } catch {
      // The session is going: its own close says so.
    }
  }
}

/** Opens a connection: it stands when the gateway's SETTINGS have come. Rejects with a CallError. */
export function openConnection(destination: Destination, options: ConnectionOptions): Promise<Connection> {
  return new Promise((resolve, reject) => {
    let socket: Socket | undefined;
    const session = connectHttp2(`http://${destination.authority}`, {
      createConnection: () => {
        socket = dial(destination);
        return socket;
      },
      maxSessionMemory: MAX_SESSION_MB,
      settings: {
        enablePush: false,
        ...(options.windowBytes === undefined ? {} : { initialWindowSize: options.windowBytes }),
      },
    });
    const fail = (reason: string): void => {
      cancel();
      session.destroy();
      socket?.destroy();
      const { address, port } = destination;
      const { socketPath } = destination;
      reject(new CallError(STATUS.UNAVAILABLE, `${socketPath ?? `${address} port ${port}`}: ${reason}`));
    };
    const cancel = options.clock.after(options.connectTimeoutMs, () =>
      fail(`no answer within ${options.connectTimeoutMs / 1000} s`),
    );
    const onError = (error: Error): void => fail(reasonOf(error));
    const onClose = (): void => fail('closed before it stood');
    session.once('error', onError);
    session.once('close', onClose);
    session.once('remoteSettings', () => {
      cancel();
      // A call that is not read must not hold up the others: all of them together have room for many windows.
      if (options.windowBytes !== undefined) session.setLocalWindowSize(16 * options.windowBytes);
      // The connection's own listeners come first: a session without one would end the process at an error.
      const connection = new Connection(destination, session, options);
      session.off('error', onError);
      session.off('close', onClose);
      resolve(connection);
    });
    session.on('error', () => undefined);
  });
}

function dial({ address, port, socketPath, tls }: Destination): Socket {
  if (socketPath !== undefined) return connectTcp({ path: socketPath });
  if (tls === undefined) return connectTcp({ host: address, port, noDelay: true });
  return connectTls({
    host: address,
    port,
    secureContext: tls.context,
    ALPNProtocols: ['h2'],
    minVersion: 'TLSv1.2',
    // SNI holds no addresses (RFC 6066, section 3).
    ...(isIP(tls.name) === 0 ? { servername: tls.name } : {}),
    checkServerIdentity: (_host, certificate) => checkServerIdentity(tls.name, certificate),
  });
}

function refused(events: CallEvents, error: CallError): Call {
  let over = false;
  const close = (): void => {
    if (over) return;
    over = true;
    events.closed(error);
  };
  queueMicrotask(close);
  return {
    send: () => true,
    sendData: () => true,
    pause: () => undefined,
    resume: () => undefined,
    end: () => undefined,
    cancel: close,
  };
}

/** Of what waits on one connection, in MB: beyond it Node resets calls with ENHANCE_YOUR_CALM when their answer begins. */
const MAX_SESSION_MB = 64;

const reasonOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
