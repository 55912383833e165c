import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { Clock } from '../clock.ts';
import { err, ok, type Result } from '../result.ts';
import { Connection } from './connection.ts';
import { guardMessages } from './connection-guard.ts';
import type { AccessObserver } from './events.ts';
import { judgeForward } from './forward-target.ts';
import { makeHostKey } from './host-key.ts';
import type { SubsystemStarter } from './session-channel.ts';
import type { OpenProcess } from './session-opener.ts';
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
/** Of all connections together. */
const MAX_FORWARDS = 128;
const LOGIN_MS = 10_000;

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

  /** Connections that clients have forwarded. */
  get openForwards(): number {
    return this.#forwards;
  }

  /** A connection to a port inside the sandbox, as a client of the server would get it forwarded. */
  async connectInside(host: string, port: number): Promise<Result<Socket, string>> {
    const { reservedPorts, connect } = this.#options;
    const target = judgeForward(host, port, reservedPorts);
    return target.ok ? connect(target.value.host, target.value.port) : target;
  }

  /**
   * Serves one client on `stream` until either ends it. At most 128 at once; the next one's stream is destroyed, and the
   * error says why.
   */
  accept(stream: Duplex): Result<undefined, string> {
    const { clock, observe } = this.#options;
    stream.on('error', () => stream.destroy());
    if (this.#stopped || this.#connections.size >= MAX_CONNECTIONS) {
      const reason = this.#stopped
        ? 'the sandbox ends'
        : `${MAX_CONNECTIONS} SSH clients are connected already`;
      observe({ kind: 'refused', reason });
      stream.destroy();
      return err(reason);
    }
    this.#connections.add(stream);
    const loggedIn = clock.after(LOGIN_MS, () => {
      observe({ kind: 'refused', reason: 'a client did not log in within 10 s' });
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
        new Connection({
          ...this.#options,
          stream,
          unread: this.#unread,
          takeForward: this.#takeForward,
        }).serve(ssh2.Server, hostKey, loggedIn);
      })
      .catch((error: unknown) => {
        observe({ kind: 'refused', reason: `the SSH server does not work: ${String(error)}` });
        stream.destroy();
      });
    return ok(undefined);
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
  guardMessages(handlers);
  return { ssh2, hostKey: makeHostKey(ssh2.utils) };
}
