import type { Clock } from '../clock.ts';
import { DetachKeys } from './detach-keys.ts';
import type { SubsystemContext } from './session-channel.ts';
import type { Window } from './session-opener.ts';
import { TerminalLines } from './terminal-lines.ts';

/** The streams of the main process, as a viewer of them sees it; see workload/main-streams.ts. */
export interface MainProcessView {
  attach(
    viewer: {
      write(stream: 'output' | 'errors', chunk: Buffer): Promise<void>;
      lagged(): void;
      ended(): void;
    },
    readOnly: boolean,
  ):
    | {
        /** As of now: it loses the input when it is sent away. */
        readonly owner: boolean;
        input(chunk: Buffer, drained: () => void): boolean;
        detach(): void;
      }
    | undefined;
  /** Whether it runs on a terminal. */
  readonly terminal: boolean;
  resize(window: Window): void;
  signal(signal: NodeJS.Signals): void;
  /** Settles with its exit code. */
  readonly exitCode: Promise<number>;
}

export interface MainAttachmentOptions {
  readonly clock: Clock;
  /** None where the main process has the container's own terminal. */
  readonly view: MainProcessView | undefined;
  /** Of the main process, as soon as it has one. */
  readonly exitStatus: () => number | undefined;
}

const BUSY = 75;
const BLIND =
  'the main process has no terminal, so what you type is not shown: attach without one (ssh -T) to see it';
/** How long a client that leaves or is sent away may take for what is on its way, the reason among it. */
const LEAVE_MS = 2_000;
const ALLOWED: ReadonlySet<NodeJS.Signals> = new Set(['SIGHUP', 'SIGINT', 'SIGKILL', 'SIGQUIT', 'SIGTERM']);

/** One client that watches the main process, and writes to it while nobody else does (contract.md, 6). */
export class MainAttachment {
  readonly #context: SubsystemContext;
  readonly #options: MainAttachmentOptions;
  /** Undefined for who is refused. */
  readonly #attached: ReturnType<MainProcessView['attach']>;
  readonly #keys = new DetachKeys();
  /** Where the client has a terminal and the main process has none. */
  readonly #lines: TerminalLines | undefined;
  /** What is on its way is not waited for any more. */
  readonly #givenUp = Promise.withResolvers<false>();
  #leaving = false;

  /** Begins at once, and ends when the channel has closed. */
  constructor(context: SubsystemContext, options: MainAttachmentOptions) {
    this.#context = context;
    this.#options = options;
    const { channel, output, readOnly, terminal } = context;
    const { view } = options;
    const lines = terminal === undefined || view?.terminal !== false ? undefined : new TerminalLines();
    this.#lines = lines;
    this.#attached = view?.attach(
      {
        write: (stream, chunk) => output.write(stream, lines?.shown(chunk) ?? chunk),
        lagged: () => this.#refuse('what the main process prints is not read fast enough; attach again'),
        ended: () => this.#end(),
      },
      readOnly,
    );
    if (view === undefined)
      this.#refuse(
        'the main process cannot be attached to: its streams are the terminal that the container has',
      );
    else if (this.#attached === undefined) this.#refuse('too many are attached already');
    else if (!this.#attached.owner && !readOnly)
      void output.write(
        'errors',
        Buffer.from('openshell-sandbox: somebody else is typing: you only watch\r\n'),
      );
    if (lines !== undefined && this.#attached?.owner === true)
      void output.write('errors', Buffer.from(`openshell-sandbox: ${BLIND}\r\n`));
    if (terminal !== undefined) this.#asOwner((main) => main.resize(terminal.window));
    context.onResize((window) => this.#asOwner((main) => main.resize(window)));
    context.onSignal((signal) => {
      if (ALLOWED.has(signal)) this.#asOwner((main) => main.signal(signal));
    });
    channel.on('data', (chunk: Buffer) => this.#typed(chunk));
    context.onClosed(() => {
      this.#attached?.detach();
      this.#givenUp.resolve(false);
      channel.resume(); // what it has sent and the main process has not read
    });
  }

  /** The main process has ended and nobody can wait any longer: the client gets its status at once, whatever else is due to it. */
  cut(): void {
    this.#end();
    this.#givenUp.resolve(false);
  }

  /** It may have lost the input meanwhile. */
  #asOwner(act: (main: MainProcessView) => void): void {
    const { view } = this.#options;
    if (view !== undefined && this.#attached?.owner === true) act(view);
  }

  #typed(chunk: Buffer): void {
    if (this.#leaving) return;
    const { channel } = this.#context;
    const { passed, detached } = this.#keys.take(chunk);
    const input = this.#lines?.typed(passed) ?? passed;
    if (input.length > 0 && this.#attached?.input(input, () => channel.resume()) === false) channel.pause();
    if (detached) void this.#leave(0);
  }

  /** Once the main process has an exit status, that is what counts. */
  #refuse(why: string): void {
    void this.#leave(this.#options.exitStatus() ?? BUSY, `openshell-sandbox: ${why}\r\n`);
  }

  #end(): void {
    void this.#options.view?.exitCode.then((code) => this.#leave(statusOf(code)));
  }

  async #leave(status: number, notice = ''): Promise<void> {
    if (this.#leaving) return;
    this.#leaving = true;
    this.#attached?.detach();
    const { channel, output } = this.#context;
    const cancel = this.#options.clock.after(LEAVE_MS, () => this.#givenUp.resolve(false));
    const written = output.write('errors', Buffer.from(notice)).then(() => true);
    const told = await Promise.race([written, this.#givenUp.promise]);
    cancel();
    this.#context.finish(status);
    // The end of a channel waits behind what its client does not read.
    if (!told) channel.close();
  }
}

/** What a client gets for an exit code of the main process. */
export const statusOf = (exitCode: number): number => Math.max(exitCode, 0);
