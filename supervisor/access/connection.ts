import type { Duplex } from 'node:stream';
import type { AuthContext, Server, ServerChannel, ServerConnection } from 'ssh2';
import type { AccessServerOptions } from './access-server.ts';
import {
  ConnectionGuard,
  type OpenRefusal,
  PROHIBITED,
  RESOURCE_SHORTAGE,
  type WantedChannel,
} from './connection-guard.ts';
import { judgeForward } from './forward-target.ts';
import { serveForward } from './forwarded-channel.ts';
import { SessionChannel } from './session-channel.ts';
import type { UnreadBound } from './unread-bound.ts';

export interface ConnectionOptions extends AccessServerOptions {
  readonly stream: Duplex;
  readonly unread: UnreadBound;
  /** Takes a place among all forwarded connections; undefined when there is none. What it returns gives it back. */
  readonly takeForward: () => (() => void) | undefined;
}

/** Of one connection. */
const MAX_CHANNELS = 64;
const MAX_LOGINS = 6;
/** Nothing that is served gets this far ahead of its reader; answers to a flood of requests do. */
const MAX_UNSENT = 8 << 20;
const MAX_REASON = 200;
/** Contract.md, 6. */
const REJECTION_MS = 1_000;

/**
 * OpenSSH's client tells of output that nobody reads any more, as in `ssh sandbox yes | head -1`, only those whose name begins
 * so (its compat.c); else it takes and drops that output until the command ends.
 */
const IDENT = 'OpenSSH_compatible_openshell';

/**
 * What both ends have fast: AES-GCM runs on OpenSSL, while ChaCha20-Poly1305, which clients prefer, would run on
 * WebAssembly here. No compression: it would cost a second and a quarter megabyte for each connection. Of the key
 * exchanges that ssh2 offers, those that it can do as a server.
 */
const ALGORITHMS = {
  kex: [
    ...['curve25519-sha256', 'curve25519-sha256@libssh.org', 'ecdh-sha2-nistp256', 'ecdh-sha2-nistp384'],
    ...['ecdh-sha2-nistp521', 'diffie-hellman-group16-sha512', 'diffie-hellman-group14-sha256'],
  ],
  cipher: ['aes128-gcm@openssh.com', 'aes256-gcm@openssh.com', 'aes128-ctr', 'aes256-ctr'],
  hmac: ['hmac-sha2-256-etm@openssh.com', 'hmac-sha2-512-etm@openssh.com', 'hmac-sha2-256', 'hmac-sha2-512'],
  compress: ['none'],
} as const;

/**
 * A client that is stopped or asleep answers no questions, and is no dead one: the gateway holds its connection, and
 * the end of the relay tells of its own.
 */
const KEEPALIVE_MAX = Number.MAX_SAFE_INTEGER;

/** One client and its channels. */
export class Connection {
  readonly #options: ConnectionOptions;
  readonly #sessions = new Set<SessionChannel>();
  readonly #forwards = new Set<() => void>();
  readonly #delays = new Set<() => void>();
  #guard: ConnectionGuard | undefined;
  #channels = 0;
  #logins = 0;
  #user = '';
  #auth = '';
  #in = false;
  /** Why it ends, when it is not its client who ends it. */
  #reason: string | undefined;

  constructor(options: ConnectionOptions) {
    this.#options = options;
  }

  /** Serves the stream until it closes; `loggedIn` is called when the client has. */
  serve(make: typeof Server, hostKey: string, loggedIn: () => void): void {
    const { stream } = this.#options;
    const server = new make(
      {
        hostKeys: [hostKey],
        ident: IDENT,
        algorithms: ALGORITHMS,
        keepaliveCountMax: KEEPALIVE_MAX,
      },
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
      if (stream.writableLength > MAX_UNSENT) this.#drop('it does not read what it is answered');
    });
    stream.pause(); // ssh2 reads when it is ready
  }

  #drop(reason: string): void {
    // It may hold a client's own words.
    this.#reason ??= reason.slice(0, MAX_REASON);
    this.#options.stream.destroy();
  }

  #take(client: ServerConnection): void {
    const { clock, observe } = this.#options;
    const guard = new ConnectionGuard(client, {
      clock,
      judge: (wanted) => this.#judge(wanted),
      drop: (reason) => this.#drop(reason),
    });
    this.#guard = guard;
    client.on('error', (error) => this.#drop(error.message));
    client.on('authentication', (context) => this.#authenticate(client, context));
    client.on('ready', () => {
      this.#in = true;
      observe({ kind: 'opened', auth: this.#auth, user: this.#user });
    });
    client.on('session', (accept) => {
      const session = accept();
      if (session === undefined) return;
      this.#channels += 1;
      const channel = new SessionChannel(session, {
        ...this.#options,
        connection: this.#options.stream,
        guard,
        drop: (reason) => this.#drop(reason),
      });
      this.#sessions.add(channel);
      session.once('close', () => {
        this.#channels -= 1;
        this.#sessions.delete(channel);
      });
    });
    client.on('tcpip', (accept, reject, { destIP, destPort }) => {
      void this.#forward(guard, accept, reject, destIP, destPort);
    });
  }

  #authenticate(client: ServerConnection, context: AuthContext): void {
    if (context.method === 'none' || context.method === 'publickey') {
      this.#user = context.username;
      this.#auth = context.method;
      context.accept();
      return;
    }
    this.#logins += 1;
    if (this.#logins >= MAX_LOGINS) return void client.end();
    const cancel = this.#options.clock.after(REJECTION_MS, () => {
      this.#delays.delete(cancel);
      context.reject(['none', 'publickey']);
    });
    this.#delays.add(cancel);
  }

  #judge(wanted: WantedChannel): OpenRefusal | undefined {
    const { reservedPorts, observe } = this.#options;
    if (wanted.kind === 'forward') {
      const target = judgeForward(wanted.host, wanted.port, reservedPorts);
      if (!target.ok) {
        observe({ kind: 'forward-refused', reason: target.error });
        return { code: PROHIBITED, reason: target.error };
      }
    }
    if (this.#channels < MAX_CHANNELS) return undefined;
    return { code: RESOURCE_SHORTAGE, reason: `${MAX_CHANNELS} channels are open` };
  }

  /** The guard has judged it. */
  async #forward(
    guard: ConnectionGuard,
    accept: () => ServerChannel | undefined,
    reject: () => void,
    host: string,
    port: number,
  ): Promise<void> {
    const { reservedPorts, connect, stream, unread, takeForward } = this.#options;
    const target = judgeForward(host, port, reservedPorts);
    const release = target.ok ? takeForward() : undefined;
    if (!target.ok || release === undefined) return reject();
    this.#channels += 1;
    const done = (): void => {
      this.#channels -= 1;
      release();
    };
    const connected = await connect(target.value.host, target.value.port);
    const channel = connected.ok && !stream.destroyed ? accept() : undefined;
    if (!connected.ok || channel === undefined) {
      if (connected.ok) connected.value.destroy();
      else if (!stream.destroyed) reject();
      return done();
    }
    const forget = unread.bound(channel, (reason) => this.#drop(reason));
    const end = serveForward(channel, connected.value, { connection: stream, guard }, () => {
      this.#forwards.delete(end);
      forget();
      done();
    });
    this.#forwards.add(end);
  }

  #closed(): void {
    this.#guard?.close();
    for (const cancel of this.#delays) cancel();
    for (const session of this.#sessions) session.close();
    for (const end of [...this.#forwards]) end();
    const { observe } = this.#options;
    if (this.#in) observe({ kind: 'closed', user: this.#user, reason: this.#reason });
    else if (this.#reason !== undefined) observe({ kind: 'refused', reason: this.#reason });
  }
}
