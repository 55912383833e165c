/**
 * Time and chance, passed in so that tests and simulations can own them.
 * All durations and instants are milliseconds.
 */
export interface Clock {
  /** Wall-clock time, milliseconds since the Unix epoch. It can jump. */
  now(): number;
  /** Monotonic time in milliseconds; only differences mean anything. */
  monotonic(): number;
  /** Runs `task` once after `delayMs`. The returned function cancels it. */
  after(delayMs: number, task: () => void): () => void;
}

/** A uniformly random number in [0, 1). */
export type Random = () => number;

/** The machine's clock. Its timers keep the process alive: the supervisor ends by saying so. */
export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  after(delayMs, task) {
    const timer = setTimeout(task, delayMs);
    return () => clearTimeout(timer);
  },
};
