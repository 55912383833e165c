import type { Clock } from '../clock.ts';

export interface RepeatLimiterOptions {
  readonly clock: Clock;
  /** Of each key so many in a window are let through; 10 by default. */
  readonly burst?: number;
  /** Milliseconds; 60 s by default. */
  readonly windowMs?: number;
  /** Told after a window how many events were suppressed whose keys found no room. */
  readonly onOverflow: (suppressed: number) => void;
  /** Keys that are remembered at a time; 1024 by default. */
  readonly maxKeys?: number;
}

interface Repeated {
  passed: number;
  suppressed: number;
  /** Says how many were suppressed, when the window is over. */
  readonly tell: (suppressed: number) => void;
}

/**
 * Lets the first events of a kind through and counts the rest of them, so that a workload which fails in a loop does
 * not drown what else there is to know. When its window is over the count is told, once. With as many keys as the
 * bound, all new ones share one, and only their number is told.
 */
export class RepeatLimiter {
  readonly #options: Required<RepeatLimiterOptions>;
  readonly #keys = new Map<string, Repeated>();

  constructor(options: RepeatLimiterOptions) {
    this.#options = { burst: 10, windowMs: 60_000, maxKeys: 1024, ...options };
  }

  /** Whether to tell of this event. `tell` is called after the window with the number of those that were not told. */
  admit(key: string, tell: (suppressed: number) => void): boolean {
    const { clock, burst, windowMs, maxKeys } = this.#options;
    const name = this.#keys.has(key) || this.#keys.size < maxKeys ? key : '';
    let repeated = this.#keys.get(name);
    if (repeated === undefined) {
      // What shares a key has not one event that could stand for it.
      const overflows = name === '' && key !== '';
      repeated = { passed: 0, suppressed: 0, tell: overflows ? this.#options.onOverflow : tell };
      this.#keys.set(name, repeated);
      clock.after(windowMs, () => this.#end(name));
    }
    if (repeated.passed < burst) {
      repeated.passed += 1;
      return true;
    }
    repeated.suppressed += 1;
    return false;
  }

  /** Tells all counts now: at the end. */
  flush(): void {
    for (const name of [...this.#keys.keys()]) this.#end(name);
  }

  #end(name: string): void {
    const repeated = this.#keys.get(name);
    this.#keys.delete(name);
    if (repeated !== undefined && repeated.suppressed > 0) repeated.tell(repeated.suppressed);
  }
}
