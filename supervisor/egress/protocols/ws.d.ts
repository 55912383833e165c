/** The parts of `ws` that read and write frames, which its own types leave out. */
declare module 'ws' {
  import type { Writable } from 'node:stream';

  export type Parameters = Readonly<Record<string, readonly (string | true)[]>>;
  export const extension: { parse(header: string): Record<string, Parameters[]> };

  export class PerMessageDeflate {
    constructor(options: { readonly isServer: boolean; readonly maxPayload: number });
    /** What was agreed upon. */
    params: object | null;
    /** As a client: checks the server's answer and takes it. Throws when it was not offered. */
    accept(parameters: readonly Parameters[]): object;
    /** Frees what zlib holds; nothing may be under way. */
    cleanup(): void;
  }

  type Extensions = Readonly<Record<string, PerMessageDeflate>>;

  /** Emits message(data, isBinary), ping(data), pong(data), conclude(code, reason), error. */
  export class Receiver extends Writable {
    constructor(options: {
      readonly isServer: boolean;
      readonly extensions: Extensions;
      readonly maxPayload: number;
      readonly maxFragments: number;
    });
  }

  export class Sender {
    constructor(socket: Writable, extensions: Extensions);
    send(
      data: Buffer,
      options: {
        readonly binary: boolean;
        readonly mask: boolean;
        readonly fin: boolean;
        readonly compress: boolean;
      },
      done: () => void,
    ): void;
    ping(data: Buffer, mask: boolean, done: () => void): void;
    pong(data: Buffer, mask: boolean, done: () => void): void;
    close(code: number | undefined, data: string | Buffer | undefined, mask: boolean, done: () => void): void;
  }
}
