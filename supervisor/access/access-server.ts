import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { ServerChannel, ServerConnection } from 'ssh2';
import type { Clock } from '../clock.ts';
import type { Result } from '../result.ts';
import type { AccessObserver } from './events.ts';
import { judgeForward } from './forward-target.ts';
import { serveForward } from './forwarded-channel.ts';
import { makeHostKey } from './host-key.ts';
import { SessionChannel, type SubsystemStarter } from './session-channel.ts';
import type { OpenProcess } from './session-opener.ts';
import { modesOf, readModesFirst } from './terminal-modes.ts';
import { UnreadBound } from './unread-bound.ts';

export interface AccessServerOptions {
  readonly clock: Clock;
  readonly open: OpenProcess;
  /** The shell of the image, as a path. */
  readonly shell: () => string;
  /** Connects inside the sandbox's own network. */
  readonly connect: (host: string, port: number) => Promise<Result<Socket, string>>;
  /** Ports of the supervisor there, which no client is forwarded to. */
  readonly reservedPorts: ReadonlySet<number>;
  /** By the name that a client asks for. */
  readonly subsystems: ReadonlyMap<string, SubsystemStarter>;
  readonly observe: AccessObserver;
}

const MAX_CONNECTIONS = 128;
/** Of one connection. */
const MAX_CHANNELS = 64;
/** Of all connections together. */
const MAX_FORWARDS = 128;
const LOGIN_MS = 10_000;
const MAX_LOGINS = 6;
/** Nothing that is served gets this far ahead of its reader; answers to a flood of requests do. */
const MAX_UNSENT = 8 << 20;

/**
 * What both ends have fast: AES-GCM runs on OpenSSL, while ChaCha20-Poly1305, which clients prefer, would run on
 * WebAssembly here. No compression: it would cost a second and a quarter megabyte for each connection.
 */
const ALGORITHMS = {
  cipher: ['aes128-gcm@openssh.com', 'aes256-gcm@openssh.com', 'aes128-ctr', 'aes256-ctr'],
  hmac: ['hmac-sha2-256-etm@openssh.com', 'hmac-sha2-512-etm@openssh.com', 'hmac-sha2-256', 'hmac-sha2-512'],
  compress: ['none'],
} as const;

/**
 * The SSH server of the sandbox (contract.md, 6). It has no socket: relays hand it their streams, so the workload, which
 * has our user id, has nothing to connect to, and who comes in has been let in by the gateway. Authentication is
 * therefore `none`, or any key. The library and the host key are made when the first client comes.
 */
export class AccessServer {
  readonly #options: AccessServerOptions;
  readonly #connections = new Set<Duplex>();
  readonly #unread = new UnreadBound();
  #forwards = 0;
  #stopped = false;
  #ready: Promise<{ readonly ssh2: Ssh2; readonly hostKey: string }> | undefined;

  constructor(options: AccessServerOptions) {
    this.#options = options;
  }

  get openConnections(): number {
    return this.#connections.size;
  }

  /** A connection to a port inside the sandbox, as a client of the server would get it forwarded. */
  async connectInside(host: string, port: number): Promise<Result<Socket, string>> {
    const { reservedPorts, connect } = this.#options;
    const target = judgeForward(host, port, reservedPorts);
    return target.ok ? connect(target.value.host, target.value.port) : target;
  }

  /** Serves one client on `stream` until either ends it. At most 128 at once; the next one's stream is destroyed. */
  accept(stream: Duplex): void {
    stream.on('error', () => stream.destroy());
    if (this.#stopped || this.#connections.size >= MAX_CONNECTIONS) {
      this.#options.observe({ kind: 'refused', reason: `${MAX_CONNECTIONS} clients are connected` });
      stream.destroy();
      return;
    }
    this.#connections.add(stream);
    const loggedIn = this.#options.clock.after(LOGIN_MS, () => {
      this.#options.observe({ kind: 'refused', reason: 'a client did not log in within 10 s' });
      stream.destroy();
    });
    stream.once('close', () => {
      loggedIn();
      this.#connections.delete(stream);
    });
    // Memory may have been short: the next client is another try.
    this.#ready ??= load().catch((error: unknown) => {
      this.#ready = undefined;
      throw error;
    });
    this.#ready
      .then(({ ssh2, hostKey }) => {
        if (stream.destroyed) return;
        new Client(this.#options, stream, this.#unread, this.#takeForward).serve(ssh2, hostKey, loggedIn);
      })
      .catch((error: unknown) => {
        this.#options.observe({ kind: 'refused', reason: `the SSH server does not work: ${String(error)}` });
        stream.destroy();
      });
  }

  /** Ends all clients, and with them their processes. */
  stop(): void {
    this.#stopped = true;
    for (const stream of this.#connections) stream.destroy();
  }

  readonly #takeForward = (): (() => void) | undefined => {
    if (this.#forwards >= MAX_FORWARDS) return undefined;
    this.#forwards += 1;
    return () => {
      this.#forwards -= 1;
    };
  };
}

type Ssh2 = Awaited<typeof import('./ssh-library.ts')>['ssh2'];

async function load(): Promise<{ readonly ssh2: Ssh2; readonly hostKey: string }> {
  const { ssh2, handlers } = await import('./ssh-library.ts');
  readModesFirst(handlers);
  return { ssh2, hostKey: makeHostKey(ssh2.utils) };
}

/** One client and its channels. */
class Client {
  readonly #options: AccessServerOptions;
  readonly #stream: Duplex;
  readonly #unread: UnreadBound;
  readonly #takeForward: () => (() => void) | undefined;
  readonly #sessions = new Set<SessionChannel>();
  readonly #ends = new Set<() => void>();
  #channels = 0;
  #logins = 0;
  #user = '';
  #auth = '';
  #in = false;

  constructor(
    options: AccessServerOptions,
    stream: Duplex,
    unread: UnreadBound,
    takeForward: () => (() => void) | undefined,
  ) {
    this.#options = options;
    this.#stream = stream;
    this.#unread = unread;
    this.#takeForward = takeForward;
  }

  serve(ssh2: Ssh2, hostKey: string, loggedIn: () => void): void {
    const stream = this.#stream;
    const server = new ssh2.Server(
      { hostKeys: [hostKey], ident: 'openshell', algorithms: ALGORITHMS },
      (client) => {
        client.once('ready', loggedIn);
        this.#take(client);
      },
    );
    server.on('error', () => stream.destroy());
    stream.once('close', () => this.#closed());
    // Half a connection is none to SSH.
    stream.once('end', () => stream.end());
    server.injectSocket(stream);
    stream.on('data', () => {
      if (stream.writableLength > MAX_UNSENT) stream.destroy();
    });
    stream.pause(); // ssh2 reads when it is ready
  }

  #take(client: ServerConnection): void {
    const { observe } = this.#options;
    client.on('error', (error) => {
      if (!this.#in) observe({ kind: 'refused', reason: error.message });
      this.#stream.destroy();
    });
    client.on('authentication', (context) => {
      if (context.method === 'none' || context.method === 'publickey') {
        this.#user = context.username;
        this.#auth = context.method;
        context.accept();
        return;
      }
      this.#logins += 1;
      if (this.#logins >= MAX_LOGINS) client.end();
      else context.reject(['none', 'publickey']);
    });
    client.on('ready', () => {
      this.#in = true;
      observe({ kind: 'opened', auth: this.#auth, user: this.#user });
    });
    client.on('session', (accept, reject) => {
      if (this.#channels >= MAX_CHANNELS) return reject();
      const session = accept();
      if (session === undefined) return;
      this.#channels += 1;
      const channel = new SessionChannel(session, {
        ...this.#options,
        connection: this.#stream,
        modes: () => modesOf(client),
        unread: this.#unread,
      });
      this.#sessions.add(channel);
      session.on('close', () => {
        this.#channels -= 1;
        this.#sessions.delete(channel);
      });
    });
    client.on('tcpip', (accept, reject, { destIP, destPort }) => {
      void this.#forward(accept, reject, destIP, destPort);
    });
  }

  async #forward(
    accept: () => ServerChannel | undefined,
    reject: () => void,
    host: string,
    port: number,
  ): Promise<void> {
    const { reservedPorts, connect, observe } = this.#options;
    const target = judgeForward(host, port, reservedPorts);
    if (!target.ok) observe({ kind: 'forward-refused', reason: target.error });
    if (!target.ok || this.#channels >= MAX_CHANNELS) return reject();
    const release = this.#takeForward();
    if (release === undefined) return reject();
    this.#channels += 1;
    const done = (): void => {
      this.#channels -= 1;
      release();
    };
    const connected = await connect(target.value.host, target.value.port);
    const channel = connected.ok && !this.#stream.destroyed ? accept() : undefined;
    if (!connected.ok || channel === undefined) {
      if (connected.ok) connected.value.destroy();
      else if (!this.#stream.destroyed) reject();
      return done();
    }
    const forget = this.#unread.bound(channel, this.#stream);
    const end = serveForward(channel, connected.value, this.#stream, () => {
      this.#ends.delete(end);
      forget();
      done();
    });
    this.#ends.add(end);
  }

  #closed(): void {
    for (const session of this.#sessions) session.close();
    for (const end of [...this.#ends]) end();
    if (this.#in) this.#options.observe({ kind: 'closed', user: this.#user });
  }
}
