import type { Clock } from '../clock.ts';

/** How long anybody waits for the main process; to start one takes some ten milliseconds. */
const WAIT_MS = 5_000;

/**
 * The start of the main process, for who needs its id. The program may run, and connect, before the supervisor has read that
 * it does: who asks meanwhile waits, at most five seconds.
 */
export class MainStart {
  readonly #clock: Clock;
  #pid: number | undefined;
  #waiting = new Set<(pid: number | undefined) => void>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** The main process runs. */
  began(pid: number): void {
    this.#pid = pid;
    for (const resolve of this.#waiting) resolve(pid);
    this.#waiting.clear();
  }

  /** The process id as soon as there is one; undefined when none came in time. Costs nothing once it is known. */
  pid(): number | Promise<number | undefined> {
    if (this.#pid !== undefined) return this.#pid;
    return new Promise((resolve) => {
      const cancel = this.#clock.after(WAIT_MS, () => settle(undefined));
      const settle = (pid: number | undefined): void => {
        cancel();
        this.#waiting.delete(settle);
        resolve(pid);
      };
      this.#waiting.add(settle);
    });
  }
}
