import type { Random } from '../clock.ts';

/** All durations in milliseconds (anchors: first redial over a window, then full jitter up to 60 s). */
export const DEFAULT_WINDOW_MS = 10_000;
const CAP_MS = 60_000;
const STABLE_MS = 60_000;
const REFUSED_BASE_MS = 30_000;
const REFUSED_CAP_MS = 600_000;
/** 2 to this power is beyond every cap; more would only lose precision. */
const MAX_EXPONENT = 16;

/**
 * When to dial again. The first redial after a loss is uniform over a window, so that a fleet that lost
 * its gateway spreads evenly; later ones have full jitter over a range that doubles from twice the window
 * up to 60 s, without a last attempt. A range below the window would undo the spreading: with 1, 2 and 4 s
 * the members that failed early would dial again while the others dial for the first time, and a fleet of
 * N reach five times N dials a window (test/gateway/fleet.test.ts measures it).
 * A session must have stood for 60 s before it counts as a recovery.
 */
export class Backoff {
  readonly #random: Random;
  #windowMs: number;
  #attempt = 0;
  #refusals = 0;

  constructor(random: Random, windowMs = DEFAULT_WINDOW_MS) {
    this.#random = random;
    this.#windowMs = clampWindow(windowMs);
  }

  /** The gateway's wish for the window, 5 to 120 s; 0 or anything else keeps what stands. */
  setWindow(seconds: number): void {
    if (seconds >= 5 && seconds <= 120) this.#windowMs = seconds * 1000;
  }

  /** The delay before the next dial; what the gateway asked for is added to, so that a fleet told the same spreads. */
  next(retryAfterMs = 0): number {
    const doubled = this.#windowMs * 2 ** Math.min(this.#attempt++, MAX_EXPONENT);
    const range = Math.min(Math.max(CAP_MS, 2 * this.#windowMs), doubled);
    return retryAfterMs + this.#random() * range;
  }

  /** A delay for a dial that nothing has failed before: the gateway asked its whole fleet to move. */
  spread(): number {
    return this.#random() * this.#windowMs;
  }

  /** The delay after a refusal: half-jittered, 30 s doubling to 10 min. */
  nextAfterRefusal(retryAfterMs = 0): number {
    const range = Math.min(REFUSED_CAP_MS, REFUSED_BASE_MS * 2 ** Math.min(this.#refusals++, MAX_EXPONENT));
    return retryAfterMs + range / 2 + (this.#random() * range) / 2;
  }

  /** Says how long the session that just ended, or is about to be replaced, had stood. */
  ended(stoodMs: number): void {
    if (stoodMs < STABLE_MS) return;
    this.#attempt = 0;
    this.#refusals = 0;
  }
}

const clampWindow = (ms: number): number => Math.min(120_000, Math.max(5_000, ms));
