/** The parts of `ws` that only tests use: whole servers and clients. */
declare module 'ws' {
  import type { EventEmitter } from 'node:events';
  import type { IncomingMessage } from 'node:http';
  import type { Duplex } from 'node:stream';

  interface DeflateOptions {
    readonly clientNoContextTakeover?: boolean;
    readonly serverNoContextTakeover?: boolean;
    readonly threshold?: number;
  }

  /** Emits message(data, isBinary), ping(data), pong(data), close(code, reason), error, open. */
  export class WebSocket extends EventEmitter {
    constructor(
      url: string,
      options: {
        readonly createConnection: () => Duplex;
        readonly perMessageDeflate: boolean | DeflateOptions;
      },
    );
    readonly readyState: number;
    readonly extensions: string;
    send(data: string | Buffer, options?: { readonly binary?: boolean; readonly fin?: boolean }): void;
    ping(data: string): void;
    pong(data: string): void;
    close(code?: number, reason?: string): void;
    terminate(): void;
  }

  /** Emits connection(socket, request). */
  export class WebSocketServer extends EventEmitter {
    constructor(options: { readonly noServer: true; readonly perMessageDeflate: boolean | DeflateOptions });
    handleUpgrade(
      request: IncomingMessage,
      socket: Duplex,
      head: Buffer,
      then: (socket: WebSocket) => void,
    ): void;
  }
}
