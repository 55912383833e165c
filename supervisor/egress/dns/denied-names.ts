/** How often one name is told of, and how many names in that time. */
const AGAIN_MS = 60_000;
const MAX_NAMES = 64;

/**
 * Which denied names are worth an event: each once a minute, and at most 64 of them, so that a workload that asks in a loop
 * or makes names up fills no log. Names beyond them are counted, and the count comes with the next one.
 */
export class DeniedNames {
  readonly #now: () => number;
  readonly #told = new Map<string, number>();
  #passedOver = 0;

  /** `now` counts milliseconds and never goes back. */
  constructor(now: () => number) {
    this.#now = now;
  }

  /** Whether this name was told of within the last minute. */
  has(name: string): boolean {
    return this.#told.has(name);
  }

  /** Undefined when this one is to be passed over; else how many were since the last that was not. */
  tell(name: string): { readonly passedOver: number } | undefined {
    const now = this.#now();
    for (const [known, at] of this.#told) {
      if (now - at < AGAIN_MS) break; // in the order of their times
      this.#told.delete(known);
    }
    if (this.#told.has(name)) return undefined;
    if (this.#told.size >= MAX_NAMES) {
      this.#passedOver += 1;
      return undefined;
    }
    this.#told.set(name, now);
    const passedOver = this.#passedOver;
    this.#passedOver = 0;
    return { passedOver };
  }
}
