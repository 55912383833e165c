import { constants } from 'node:os';
import type { Clock } from '../clock.ts';
import type { Result } from '../result.ts';

/** How a process ended. */
export type ProcessEnd =
  | { readonly kind: 'code'; readonly code: number }
  | { readonly kind: 'signal'; readonly signal: NodeJS.Signals };

/** What the main process needs of whatever confines and starts it. */
export interface StartedProcess {
  readonly pid: number | undefined;
  /** With what it could not be given, as sentences. */
  readonly started: Promise<
    Result<{ readonly warnings: readonly string[] }, { readonly code: number; readonly message: string }>
  >;
  readonly exited: Promise<ProcessEnd>;
  signal(signal: NodeJS.Signals): void;
}

/** The end of the main process, with the code that the container ends with. */
export type MainProcessResult =
  | { readonly kind: 'exited'; readonly code: number; readonly end: ProcessEnd }
  | { readonly kind: 'timed-out'; readonly code: 124 }
  | { readonly kind: 'not-started'; readonly code: number; readonly message: string };

export interface MainProcessOptions {
  readonly clock: Clock;
  /** `--timeout` in milliseconds; 0 is none. */
  readonly timeoutMs: number;
  /** How long after a polite end the process group is killed. */
  readonly graceMs: number;
  readonly start: () => StartedProcess;
}

/** TERM, 100 ms, KILL is what upstream does on `--timeout` (contract.md, 4.4). */
const TIMEOUT_KILL_MS = 100;

/** The exit code of a container whose main process ended so: 128 + n for signal n. */
export function containerExitCode(end: ProcessEnd): number {
  return end.kind === 'code' ? end.code : 128 + (constants.signals[end.signal] ?? 0);
}

/** The one process that the sandbox exists for. */
export class MainProcess {
  readonly #options: MainProcessOptions;
  readonly #process: StartedProcess;
  readonly result: Promise<MainProcessResult>;
  #cancelKill: (() => void) | undefined;
  #timedOut = false;

  constructor(options: MainProcessOptions) {
    this.#options = options;
    this.#process = options.start();
    this.result = this.#run();
  }

  get pid(): number | undefined {
    return this.#process.pid;
  }

  /** Settles when the program runs or cannot; see the result for the failure. */
  get started(): StartedProcess['started'] {
    return this.#process.started;
  }

  /** Passes a signal on to the process group; TERM, INT and HUP are followed by KILL after the grace. */
  end(signal: NodeJS.Signals): void {
    this.#process.signal(signal);
    this.#killAfter(this.#options.graceMs);
  }

  /** Kills the process group at once. */
  kill(): void {
    this.#process.signal('SIGKILL');
  }

  #killAfter(delayMs: number): void {
    this.#cancelKill ??= this.#options.clock.after(delayMs, () => this.#process.signal('SIGKILL'));
  }

  async #run(): Promise<MainProcessResult> {
    const { clock, timeoutMs } = this.#options;
    const cancelTimeout =
      timeoutMs > 0
        ? clock.after(timeoutMs, () => {
            this.#timedOut = true;
            this.#process.signal('SIGTERM');
            this.#killAfter(TIMEOUT_KILL_MS);
          })
        : undefined;
    const [started, end] = await Promise.all([this.#process.started, this.#process.exited]);
    cancelTimeout?.();
    this.#cancelKill?.();
    if (!started.ok) return { kind: 'not-started', ...started.error };
    if (this.#timedOut) return { kind: 'timed-out', code: 124 };
    return { kind: 'exited', code: containerExitCode(end), end };
  }
}
