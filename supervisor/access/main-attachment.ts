import type { SubsystemStarter } from './session-channel.ts';
import type { Window } from './session-opener.ts';

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
        readonly owner: boolean;
        input(chunk: Buffer, drained: () => void): boolean;
        detach(): void;
      }
    | undefined;
  resize(window: Window): void;
  signal(signal: NodeJS.Signals): void;
  /** Settles with its exit code. */
  readonly exitCode: Promise<number>;
}

/** Ctrl-P Ctrl-Q, as Docker has it. */
const [DETACH_FIRST, DETACH_SECOND] = [0x10, 0x11];
const BUSY = 75;
const ALLOWED: ReadonlySet<NodeJS.Signals> = new Set(['SIGHUP', 'SIGINT', 'SIGKILL', 'SIGQUIT', 'SIGTERM']);

/** The subsystem `openshell-main` (contract.md, 6): watches the main process, and writes to it while nobody else does. */
export const attachToMain =
  (main: () => MainProcessView | undefined): SubsystemStarter =>
  (context) => {
    const { channel, output, readOnly, terminal } = context;
    const refuse = (why: string, status: number): void => {
      void output
        .write('errors', Buffer.from(`openshell-sandbox: ${why}\r\n`))
        .then(() => context.finish(status));
    };
    const view = main();
    if (view === undefined)
      return refuse(
        'the main process cannot be attached to: its streams are the terminal that the container has',
        BUSY,
      );
    const attachment = view.attach(
      {
        write: (stream, chunk) => output.write(stream, chunk),
        lagged: () => refuse('what the main process prints is not read fast enough; attach again', BUSY),
        ended: () => void view.exitCode.then((code) => context.finish(Math.max(code, 0))),
      },
      readOnly,
    );
    if (attachment === undefined) return refuse('too many are attached already', BUSY);
    if (!attachment.owner && !readOnly)
      void output.write(
        'errors',
        Buffer.from('openshell-sandbox: somebody else is typing: you only watch\r\n'),
      );
    context.onClosed(() => {
      attachment.detach();
      channel.resume(); // what it has sent and the main process has not read
    });
    if (attachment.owner) {
      if (terminal !== undefined) view.resize(terminal.window);
      context.onResize((window) => view.resize(window));
      context.onSignal((signal) => {
        if (ALLOWED.has(signal)) view.signal(signal);
      });
    }
    const keys = new DetachKeys();
    channel.on('data', (chunk: Buffer) => {
      const { passed, detached } = keys.take(chunk);
      if (passed.length > 0 && !attachment.input(passed, () => channel.resume())) channel.pause();
      if (!detached) return;
      attachment.detach();
      context.finish(0);
    });
  };

/** Looks for the two keys in what is typed, wherever its pieces fall. The first one waits for the second. */
export class DetachKeys {
  #waiting = false;

  take(chunk: Buffer): { readonly passed: Buffer; readonly detached: boolean } {
    const passed: number[] = [];
    for (const byte of chunk) {
      if (this.#waiting) {
        this.#waiting = false;
        if (byte === DETACH_SECOND) return { passed: Buffer.from(passed), detached: true };
        passed.push(DETACH_FIRST);
      }
      if (byte === DETACH_FIRST) this.#waiting = true;
      else passed.push(byte);
    }
    return { passed: Buffer.from(passed), detached: false };
  }
}
