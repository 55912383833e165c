import type { Readable, Writable } from 'node:stream';
import type { Clock } from '../clock.ts';
import { err, ok, type Result } from '../result.ts';
import type { ProcessEnd, StartedProcess } from './main-process.ts';
import type { SessionMember } from './session-members.ts';

export interface WindowSize {
  readonly columns: number;
  readonly rows: number;
  readonly width: number;
  readonly height: number;
}

/** A process beside the main one, on pipes or on a terminal. */
export interface SessionRequest {
  readonly argv: readonly string[];
  /** What the shim serves itself, instead of a program; `argv` only names it then. */
  readonly builtin?: 'sftp' | undefined;
  /** Set last, over all others. */
  readonly variables: ReadonlyMap<string, string>;
  readonly terminal:
    | { readonly name: string; readonly window: WindowSize; readonly modes: Readonly<Record<string, number>> }
    | undefined;
}

export interface SessionFailure {
  readonly code: number;
  readonly message: string;
}

/** What a session needs of whatever confines and starts it. */
export interface SessionProcess extends StartedProcess {
  readonly input: Writable;
  readonly output: Readable;
  readonly errors: Readable | undefined;
  resize(window: WindowSize): void;
  /** It has ended: a terminal hands over what was printed, and ends. */
  drain(): void;
  /** Its caller has gone: a terminal hangs up. */
  hangUp(): void;
}

export type SessionEvent =
  | { readonly kind: 'started'; readonly name: string; readonly pid: number }
  | { readonly kind: 'ended'; readonly name: string; readonly pid: number; readonly end: ProcessEnd }
  | { readonly kind: 'refused'; readonly message: string };

export interface SessionsOptions {
  readonly clock: Clock;
  /** How many may run at once. */
  readonly limit: number;
  readonly start: (request: SessionRequest) => Promise<Result<SessionProcess, SessionFailure>>;
  /** The processes of the session that this one leads. */
  readonly members: (leader: number) => readonly SessionMember[];
  /** Signals one process; it may have gone. */
  readonly kill: (pid: number, signal: NodeJS.Signals) => void;
  readonly observe: (event: SessionEvent) => void;
}

/** EX_TEMPFAIL of sysexits.h: later it may work. */
const BUSY = 75;
const INTERNAL = 70;
/** From the hang-up to SIGTERM, and from there to SIGKILL. */
const TERM_MS = 2_500;
const KILL_MS = 2_500;

/** The processes that people and editors start in the sandbox, beside the main one. They end with it. */
export class Sessions {
  readonly #options: SessionsOptions;
  #open = 0;

  constructor(options: SessionsOptions) {
    this.#options = options;
  }

  /** How many run. */
  get open(): number {
    return this.#open;
  }

  /**
   * Starts one, confined as the main process is. Refuses with code 75 at the limit, else with the code of what failed
   * (126, 127, 70, 71) and a sentence for whoever asked.
   */
  async start(request: SessionRequest): Promise<Result<Session, SessionFailure>> {
    const started = await this.#start(request);
    if (!started.ok) this.#options.observe({ kind: 'refused', message: started.error.message });
    return started;
  }

  async #start(request: SessionRequest): Promise<Result<Session, SessionFailure>> {
    const { limit, start, observe } = this.#options;
    if (this.#open >= limit)
      return err({
        code: BUSY,
        message: `${limit} sessions run in this sandbox already; end one, or raise --max-sessions`,
      });
    if ([...request.argv, ...request.variables.values()].some((text) => text.includes('\0')))
      return err({ code: INTERNAL, message: 'a command cannot hold a NUL byte' });
    this.#open += 1;
    const begun = await begin(start, request);
    if (!begun.ok) {
      this.#open -= 1;
      return begun;
    }
    const process = begun.value;
    const [name = ''] = request.argv;
    const pid = process.pid ?? 0;
    observe({ kind: 'started', name, pid });
    void process.exited.then((end) => {
      this.#open -= 1;
      process.drain();
      observe({ kind: 'ended', name, pid, end });
    });
    return ok(new Session(process, this.#options));
  }
}

/** One of them. */
export class Session {
  readonly #process: SessionProcess;
  readonly #options: SessionsOptions;
  #exited = false;
  #ending = false;

  constructor(process: SessionProcess, options: SessionsOptions) {
    this.#process = process;
    this.#options = options;
    void process.exited.then(() => {
      this.#exited = true;
    });
  }

  get input(): Writable {
    return this.#process.input;
  }

  get output(): Readable {
    return this.#process.output;
  }

  get errors(): Readable | undefined {
    return this.#process.errors;
  }

  get exited(): Promise<ProcessEnd> {
    return this.#process.exited;
  }

  resize(window: WindowSize): void {
    this.#process.resize(window);
  }

  /** Signals the process group of the program that was started. */
  signal(signal: NodeJS.Signals): void {
    if (!this.#exited) this.#process.signal(signal);
  }

  /**
   * Whoever asked for it has gone. Its session gets SIGHUP at once, SIGTERM after 2.5 s and SIGKILL after 5 s. What has
   * made a session of its own (setsid, tmux) stays, and so do background jobs that ignore the hang-up (nohup), as
   * wherever people log in; the program itself and its process group do not stay. Nothing happens when the program
   * has ended before: what it left behind it has left on purpose.
   */
  end(): void {
    if (this.#ending || this.#exited) return;
    this.#ending = true;
    this.#process.input.destroy();
    this.#process.output.destroy();
    this.#process.errors?.destroy();
    this.#process.hangUp();
    const leader = this.#process.pid;
    this.#process.signal('SIGHUP');
    if (leader === undefined) return;
    const { clock } = this.#options;
    this.#tell(leader, 'SIGHUP');
    clock.after(TERM_MS, () => {
      if (!this.#tell(leader, 'SIGTERM')) return;
      clock.after(KILL_MS, () => this.#tell(leader, 'SIGKILL'));
    });
  }

  /** Signals everybody of the session who is to go with it. False when nobody is left. */
  #tell(leader: number, signal: NodeJS.Signals): boolean {
    const { members, kill } = this.#options;
    const found = members(leader);
    // The kernel keeps a leader's number for its session while that has a process. Somebody who has the number after
    // the leader's end leads another session: of ours all have gone, and the numbers have begun again.
    if (this.#exited && found.some(({ pid }) => pid === leader)) return false;
    const going = found.filter(({ group, ignoresHangup }) => group === leader || !ignoresHangup);
    for (const { pid } of going) kill(pid, signal);
    return going.length > 0;
  }
}

/** Starts it and waits until it runs. Whatever fails, at the bounds of the machine as well, is told and leaves nothing. */
async function begin(
  start: SessionsOptions['start'],
  request: SessionRequest,
): Promise<Result<SessionProcess, SessionFailure>> {
  try {
    const process = await start(request);
    if (!process.ok) return process;
    const began = await process.value.started;
    if (began.ok) return process;
    abandon(process.value);
    return began;
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    return err({ code: INTERNAL, message: `it cannot be started: ${why}` });
  }
}

function abandon(process: SessionProcess): void {
  process.input.destroy();
  process.output.destroy();
  process.errors?.destroy();
  process.hangUp();
}
