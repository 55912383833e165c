import { MAX_ACTIVE, MAX_SESSIONS, MAX_WAITING } from './limits.ts';

/** Gives a place back; the second time it does nothing. */
export type Release = () => void;

/** So many evaluations at once, so many that wait in line, and no more. */
export class WorkAdmission {
  readonly #maxActive: number;
  readonly #maxWaiting: number;
  #active = 0;
  readonly #waiting: (() => void)[] = [];

  constructor(maxActive = MAX_ACTIVE, maxWaiting = MAX_WAITING) {
    this.#maxActive = maxActive;
    this.#maxWaiting = maxWaiting;
  }

  /** Resolves when it is one's turn; undefined when the line is full. */
  async enter(): Promise<Release | undefined> {
    if (this.#active >= this.#maxActive) {
      if (this.#waiting.length >= this.#maxWaiting) return undefined;
      // Whoever leaves gives its place to the next one, so nobody can come in between.
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    } else this.#active += 1;
    let left = false;
    return () => {
      if (left) return;
      left = true;
      const next = this.#waiting.shift();
      if (next === undefined) this.#active -= 1;
      else next();
    };
  }
}

/** Places for what lasts: there is no line for them. */
export class SessionPlaces {
  #free = MAX_SESSIONS;

  take(): Release | undefined {
    if (this.#free === 0) return undefined;
    this.#free -= 1;
    let left = false;
    return () => {
      if (left) return;
      left = true;
      this.#free += 1;
    };
  }
}
