import { constants } from 'node:os';
import type { Duplex } from 'node:stream';
import type { PtyInfo, ServerChannel, ServerSession } from 'ssh2';
import type { Clock } from '../clock.ts';
import { ChannelOutput, type KeyExchange } from './channel-output.ts';
import { ClientEnvironment, terminalName } from './client-environment.ts';
import { closeChannel } from './close-channel.ts';
import type { OpenProcess, ProcessEnd, ProcessRequest, SandboxProcess, Window } from './session-opener.ts';
import type { UnreadBound } from './unread-bound.ts';

/** What a subsystem gets to serve one client. */
export interface SubsystemContext {
  /** Reads what the client sends; what is written to it goes to the client. It must be ended by `finish` alone. */
  readonly channel: ServerChannel;
  /** Writes with the client's pace (see ChannelOutput); prefer it to writing to the channel. */
  readonly output: ChannelOutput;
  readonly variables: ReadonlyMap<string, string>;
  /** The client asked only to watch (OPENSHELL_MAIN_READ_ONLY=1). */
  readonly readOnly: boolean;
  readonly terminal: ProcessRequest['terminal'];
  /** Called with each new window size, with signals that the client sends, and once when the client has gone. */
  onResize(listener: (window: Window) => void): void;
  onSignal(listener: (signal: NodeJS.Signals) => void): void;
  onClosed(listener: () => void): void;
  /** Sends the exit status and closes the channel. */
  finish(status: number): void;
}

/** Serves a subsystem; returns at once. */
export type SubsystemStarter = (context: SubsystemContext) => void;

export interface SessionChannelOptions {
  readonly clock: Clock;
  /** What all channels of this client share. */
  readonly connection: Duplex;
  readonly open: OpenProcess;
  readonly guard: KeyExchange & {
    /** Of the terminal that the client is asking for. */
    readonly modes: Readonly<Record<string, number>>;
  };
  /** Ends the client's connection. */
  readonly drop: (reason: string) => void;
  /** The shell of the image, as a path. */
  readonly shell: () => string;
  readonly subsystems: ReadonlyMap<string, SubsystemStarter>;
  readonly unread: UnreadBound;
}

/** How long after the end of a process somebody else may hold its output open: silently, and printing (contract.md, 6). */
const SILENT_MS = 2_000;
const PRINTING_MS = 1_000;
/**
 * More than what a process can have left behind at its end: what a pipe holds at most without privilege
 * (/proc/sys/fs/pipe-max-size), on its two outputs, and what is on its way here.
 */
const MAX_LEFT = 2 * (1 << 20) + (1 << 18);
/** Signals that a client may send (RFC 4254, 6.10). */
const SIGNALS: ReadonlySet<string> = new Set(
  'ABRT ALRM FPE HUP ILL INT KILL PIPE QUIT SEGV TERM USR1 USR2'.split(' '),
);

/** The exit status of a process that ended so: 128 + n for signal n, because the gateway knows nothing else. */
export const exitStatus = (end: ProcessEnd): number =>
  end.kind === 'code' ? end.code : 128 + (constants.signals[end.signal] ?? 0);

type Program = Omit<ProcessRequest, 'variables'>;

/** One session channel (RFC 4254, 6): at most one program, on pipes or a terminal. */
export class SessionChannel {
  readonly #options: SessionChannelOptions;
  readonly #environment = new ClientEnvironment();
  #terminal: ProcessRequest['terminal'];
  #process: SandboxProcess | undefined;
  #output: ChannelOutput | undefined;
  #closed = false;
  #forget: () => void = () => undefined;
  readonly #onResize: ((window: Window) => void)[] = [];
  readonly #onSignal: ((signal: NodeJS.Signals) => void)[] = [];
  readonly #onClosed: (() => void)[] = [];

  constructor(session: ServerSession, options: SessionChannelOptions) {
    this.#options = options;
    session.on('pty', (accept, reject, info) => {
      if (info === undefined || this.#terminal !== undefined) return void reject?.();
      this.#terminal = { name: terminalName(info.term), window: windowOf(info), modes: options.guard.modes };
      accept?.();
    });
    session.on('env', (accept, reject, info) => {
      if (info !== undefined && this.#environment.set(info.key, info.val)) accept?.();
      else reject?.();
    });
    session.on('window-change', (accept, reject, info) => {
      if (info === undefined) return void reject?.();
      const window = windowOf(info);
      if (this.#terminal !== undefined) this.#terminal = { ...this.#terminal, window };
      this.#process?.resize(window);
      for (const listener of this.#onResize) listener(window);
      accept?.();
    });
    session.on('signal', (accept, reject, info) => {
      if (info === undefined || !SIGNALS.has(info.name)) return void reject?.();
      const signal = `SIG${info.name}` as NodeJS.Signals;
      this.#process?.signal(signal);
      for (const listener of this.#onSignal) listener(signal);
      accept?.();
    });
    // The channel must be taken at once: after the client's end of input ssh2 gives none any more.
    session.on('exec', (accept, _reject, { command }) =>
      this.#start(accept(), { argv: [options.shell(), '-lc', command], terminal: this.#terminal }),
    );
    session.on('shell', (accept) =>
      this.#start(accept(), { argv: [options.shell(), '-l'], terminal: this.#terminal }),
    );
    session.on('subsystem', (accept, reject, { name }) => {
      if (name === 'sftp')
        return this.#start(accept(), { argv: ['sftp-server'], builtin: 'sftp', terminal: undefined });
      const starter = options.subsystems.get(name);
      if (starter === undefined) return void reject?.();
      const channel = accept();
      if (channel !== undefined) starter(this.#context(channel));
    });
    // As in `ssh sandbox yes | head -1`: a program on pipes is to hear of it by a broken one.
    session.on('eow', () => {
      if (this.#process?.errors !== undefined) this.#process.output.destroy();
    });
    session.on('close', () => this.close());
  }

  /** The client has gone, or only this channel of it: its process is ended. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#output?.close();
    this.#forget();
    this.#process?.end();
    for (const listener of this.#onClosed) listener();
  }

  #start(channel: ServerChannel | undefined, program: Program): void {
    if (channel === undefined) return;
    const output = this.#prepare(channel);
    void this.#run(channel, output, program).catch(() => {
      this.close();
      channel.end();
    });
  }

  #prepare(channel: ServerChannel): ChannelOutput {
    channel.on('error', () => undefined);
    channel.stderr.on('error', () => undefined);
    const { unread, connection, guard, drop } = this.#options;
    this.#forget = unread.bound(channel, drop);
    if (this.#closed) this.#forget();
    const output = new ChannelOutput(channel, connection, guard);
    this.#output = output;
    if (this.#closed) output.close();
    return output;
  }

  async #run(channel: ServerChannel, output: ChannelOutput, program: Program): Promise<void> {
    const opened = await this.#options.open({ ...program, variables: this.#environment.variables });
    if (!opened.ok) {
      const newline = program.terminal === undefined ? '\n' : '\r\n';
      const stream = program.terminal === undefined ? 'errors' : 'output';
      await output.write(stream, Buffer.from(`openshell-sandbox: ${opened.error.message}${newline}`));
      this.#finish(channel, opened.error.code);
      return;
    }
    const process = opened.value;
    this.#process = process;
    if (this.#closed) {
      process.end();
      channel.end();
    } else if (this.#terminal !== undefined) {
      process.resize(this.#terminal.window); // it may have changed meanwhile
    }
    const input = process.input;
    // A program that reads no more lets its client write into nothing, not wait for ever.
    const discard = (): void => void channel.unpipe(input).resume();
    input.on('error', discard).once('close', discard);
    channel.pipe(input);
    const copies = [output.copy(process.output, 'output')];
    if (process.errors !== undefined) copies.push(output.copy(process.errors, 'errors'));
    const end = await process.exited;
    this.#process = undefined;
    await this.#drained(Promise.all(copies), output);
    process.output.destroy();
    process.errors?.destroy();
    input.destroy();
    this.#finish(channel, exitStatus(end), end.kind === 'signal' ? end.signal : undefined);
  }

  /**
   * Waits until the process's own output is out, however slowly its client reads. A process of the background may hold the
   * output open for ever, and print there: what it prints counts for two or three seconds.
   */
  async #drained(copied: Promise<unknown>, output: ChannelOutput): Promise<void> {
    const { clock } = this.#options;
    const atEnd = output.progress;
    let cancel: (() => void) | undefined;
    const given = new Promise<void>((resolve) => {
      const look = (): void => {
        const { bytes, writing } = output.progress;
        // Nothing waits for the client, so all that the process left has been read long ago.
        if (!writing || bytes - atEnd.bytes > MAX_LEFT) resolve();
        else cancel = clock.after(PRINTING_MS, look);
      };
      cancel = clock.after(SILENT_MS, () => {
        const { moved, writing } = output.progress;
        if (moved === atEnd.moved && !writing) resolve();
        // The timers of a loop that was busy run before what has come meanwhile is read.
        else cancel = clock.after(PRINTING_MS, look);
      });
    });
    await Promise.race([copied, given]);
    cancel?.();
  }

  /** A status in any case, and first: many clients know no signals, some only what comes first. */
  #finish(channel: ServerChannel, status: number, signal?: NodeJS.Signals): void {
    if (channel.outgoing.state === 'open') {
      channel.exit(status);
      if (signal !== undefined) channel.exit(signal.slice(3), false, '');
    }
    closeChannel(channel);
  }

  #context(channel: ServerChannel): SubsystemContext {
    const output = this.#prepare(channel);
    return {
      channel,
      output,
      variables: this.#environment.variables,
      readOnly: this.#environment.readOnly,
      terminal: this.#terminal,
      onResize: (listener) => void this.#onResize.push(listener),
      onSignal: (listener) => void this.#onSignal.push(listener),
      onClosed: (listener) => void (this.#closed ? listener() : this.#onClosed.push(listener)),
      finish: (status) => this.#finish(channel, status),
    };
  }
}

const windowOf = ({ cols, rows, width, height }: Omit<PtyInfo, 'term'>): Window => ({
  // Clients without a terminal of their own say 0 by 0, which programs do not expect.
  columns: cols === 0 ? 80 : cols,
  rows: rows === 0 ? 24 : rows,
  width,
  height,
});
