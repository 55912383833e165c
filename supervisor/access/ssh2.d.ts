/** What the SSH server uses of ssh2, which brings no types of its own. */
declare module 'ssh2' {
  import type { EventEmitter } from 'node:events';
  import type { Duplex, Writable } from 'node:stream';

  type Answer = (() => void) | undefined;

  export interface AuthContext {
    readonly method: string;
    readonly username: string;
    accept(): void;
    reject(methodsLeft: readonly string[]): void;
  }

  /** A session's channel, or a forwarded connection's. */
  export interface ServerChannel extends Duplex {
    readonly stderr: Writable;
    readonly incoming: { readonly state: string; window: number };
    readonly outgoing: { readonly state: string };
    exit(status: number): void;
    exit(signal: string, coreDumped: boolean, message: string): void;
    eof(): void;
    close(): void;
  }

  /** Of "pty"; ssh2 gives undefined where it could not read the request. */
  export interface PtyInfo {
    readonly term: string;
    readonly cols: number;
    readonly rows: number;
    readonly width: number;
    readonly height: number;
  }

  type Asked<T> = (accept: Answer, reject: Answer, info: T | undefined) => void;
  type Started<T> = (accept: () => ServerChannel | undefined, reject: Answer, info: T) => void;

  export interface ServerSession extends EventEmitter {
    on(event: 'pty', listener: Asked<PtyInfo>): this;
    on(event: 'window-change', listener: Asked<Omit<PtyInfo, 'term'>>): this;
    on(event: 'env', listener: Asked<{ readonly key: string; readonly val: string }>): this;
    on(event: 'signal', listener: Asked<{ readonly name: string }>): this;
    on(event: 'shell', listener: Started<undefined>): this;
    on(event: 'exec', listener: Started<{ readonly command: string }>): this;
    on(event: 'subsystem', listener: Started<{ readonly name: string }>): this;
    on(event: 'close' | 'eow', listener: () => void): this;
    once(event: 'close', listener: () => void): this;
  }

  export interface ForwardInfo {
    readonly destIP: string;
    readonly destPort: number;
  }

  export interface ServerConnection extends EventEmitter {
    end(): void;
    on(event: 'authentication', listener: (context: AuthContext) => void): this;
    on(event: 'ready' | 'handshake' | 'close' | 'end', listener: () => void): this;
    on(event: 'error', listener: (error: Error) => void): this;
    on(
      event: 'session',
      listener: (accept: () => ServerSession | undefined, reject: () => void) => void,
    ): this;
    on(
      event: 'tcpip',
      listener: (accept: () => ServerChannel | undefined, reject: () => void, info: ForwardInfo) => void,
    ): this;
  }

  export interface ServerConfig {
    readonly hostKeys: readonly string[];
    readonly ident?: string;
    readonly algorithms?: Readonly<Record<string, readonly string[]>>;
    readonly keepaliveCountMax?: number;
  }

  export class Server {
    constructor(config: ServerConfig, listener: (connection: ServerConnection) => void);
    injectSocket(stream: Duplex): void;
    on(event: 'error', listener: (error: Error) => void): this;
  }

  export const utils: {
    generateKeyPairSync(type: 'ed25519'): { readonly private: string; readonly public: string };
    /** An error when it cannot be read. */
    parseKey(key: string): unknown;
  };

  export interface Everything {
    readonly Server: typeof Server;
    readonly utils: typeof utils;
  }
  const all: Everything;
  export default all;
}

declare module 'ssh2/lib/protocol/handlers.js' {
  const handlers: Record<number, (protocol: object, payload: Buffer) => unknown>;
  export default handlers;
}
