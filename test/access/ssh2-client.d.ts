/** The parts of `ssh2` that only tests use: its client. */
declare module 'ssh2' {
  import type { EventEmitter } from 'node:events';
  import type { Duplex, Readable } from 'node:stream';

  /** Emits exit(code, signal) and close. */
  export interface ClientChannel extends Duplex {
    readonly stderr: Readable;
    setWindow(rows: number, columns: number, height: number, width: number): void;
    signal(name: string): void;
    close(): void;
  }

  type Callback<T> = (error: Error | undefined, value: T) => void;

  /** Emits ready, error, close. */
  export class Client extends EventEmitter {
    connect(config: {
      readonly sock: Duplex;
      readonly username: string;
      readonly password?: string;
      readonly privateKey?: string;
      readonly authHandler?: readonly string[];
    }): this;
    exec(
      command: string,
      options: { readonly pty?: unknown; readonly env?: Readonly<Record<string, string>> },
      callback: Callback<ClientChannel>,
    ): this;
    shell(window: false | object, callback: Callback<ClientChannel>): this;
    subsys(name: string, callback: Callback<ClientChannel>): this;
    forwardOut(
      from: string,
      fromPort: number,
      to: string,
      toPort: number,
      callback: Callback<ClientChannel>,
    ): this;
    forwardIn(address: string, port: number, callback: Callback<number>): this;
    end(): this;
    destroy(): this;
  }

  export interface Everything {
    readonly Client: typeof Client;
  }
}
