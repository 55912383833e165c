import type { Readable, Writable } from 'node:stream';
import type { Result } from '../result.ts';

/** Characters, and pixels where the client knows them; 0 where it does not. */
export interface Window {
  readonly columns: number;
  readonly rows: number;
  readonly width: number;
  readonly height: number;
}

/** What a client asks for: a program in the sandbox, on pipes or on a terminal. */
export interface ProcessRequest {
  readonly argv: readonly string[];
  /** Not a program of the image but the file server that the shim itself is; `argv` only names it then. */
  readonly builtin?: 'sftp';
  /** Of the client, by the list of `client-environment.ts`. */
  readonly variables: ReadonlyMap<string, string>;
  readonly terminal:
    | { readonly name: string; readonly window: Window; readonly modes: Readonly<Record<string, number>> }
    | undefined;
}

/** Why there is no process: a sentence for the client, and the exit status that it gets. */
export interface ProcessRefusal {
  readonly code: number;
  readonly message: string;
}

export type ProcessEnd =
  | { readonly kind: 'code'; readonly code: number }
  | { readonly kind: 'signal'; readonly signal: NodeJS.Signals };

/** A confined process that a client has started. */
export interface SandboxProcess {
  readonly input: Writable;
  readonly output: Readable;
  /** None on a terminal. */
  readonly errors: Readable | undefined;
  readonly exited: Promise<ProcessEnd>;
  resize(window: Window): void;
  signal(signal: NodeJS.Signals): void;
  /** Its caller has gone: it is hung up, and killed after a grace. */
  end(): void;
}

/** Starts a confined process, or says why not; never rejects. */
export type OpenProcess = (request: ProcessRequest) => Promise<Result<SandboxProcess, ProcessRefusal>>;
