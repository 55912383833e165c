import type { Clock } from './clock.ts';

/** Kept of the grace for what comes after the workload: exit report, what is buffered, closing. */
const RESERVE_MS = 5_000;
/** What a hurried end may still take for its reports. */
const HURRIED_MS = 1_000;

/**
 * Shares out the time of the end. The pod's grace runs from the first signal: the workload has most of it to end
 * politely, the reports have the rest, and nothing takes longer than what is left. A second signal hurries.
 */
export class Ending {
  readonly #clock: Clock;
  readonly #graceMs: number;
  #end: number | undefined;
  readonly #hurried: Promise<void>;
  #hurry: () => void = () => undefined;
  /** Hurried, or the grace has passed. */
  readonly #over: Promise<void>;
  #pass: () => void = () => undefined;

  constructor(clock: Clock, graceMs: number) {
    this.#clock = clock;
    this.#graceMs = graceMs;
    this.#hurried = new Promise((resolve) => {
      this.#hurry = resolve;
    });
    this.#over = new Promise((resolve) => {
      this.#pass = resolve;
    });
    void this.#hurried.then(() => this.#pass());
  }

  /** How long the workload has between the polite end and SIGKILL, in milliseconds. */
  get workloadMs(): number {
    return Math.max(this.#graceMs / 2, this.#graceMs - RESERVE_MS);
  }

  get begun(): boolean {
    return this.#end !== undefined;
  }

  /** The end was asked for: the first time its grace begins, after that it is hurried. */
  asked(): 'begun' | 'hurried' {
    const now = this.#clock.monotonic();
    if (this.#end === undefined) {
      this.#end = now + this.#graceMs;
      this.#clock.after(this.#graceMs, this.#pass);
      return 'begun';
    }
    this.#end = Math.min(this.#end, now + HURRIED_MS);
    this.#clock.after(HURRIED_MS, this.#hurry);
    return 'hurried';
  }

  /** `limitMs`, or what is left of the grace when that is less. */
  left(limitMs: number): number {
    if (this.#end === undefined) return limitMs;
    return Math.max(0, Math.min(limitMs, this.#end - this.#clock.monotonic()));
  }

  /** What the promise gives, or `late` when a hurry has used up its time before that. */
  hurriedOr<T>(promise: Promise<T>, late: T): Promise<T> {
    return Promise.race([promise, this.#hurried.then(() => late)]);
  }

  /** The same for what others wait for, who are no reason to overstay a grace that begins only meanwhile. */
  overOr<T>(promise: Promise<T>, late: T): Promise<T> {
    return Promise.race([promise, this.#over.then(() => late)]);
  }
}
