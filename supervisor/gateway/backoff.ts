import type { Random } from '../clock.ts';

/** All durations in milliseconds (anchors: first redial over a window, then full jitter, 1 s to 60 s). */
export const DEFAULT_WINDOW_MS = 10_000;
const BASE_MS = 1_000;
const CAP_MS = 60_000;
const STABLE_MS = 60_000;
const REFUSED_BASE_MS = 30_000;
const REFUSED_CAP_MS = 600_000;

/**
 * When to dial again. The first redial after a loss is uniform over a window, so that a fleet that lost
 * one gateway spreads evenly; later ones have full jitter over a doubling range, without a last attempt.
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

  /** The delay before the next dial. */
  next(): number {
    const attempt = this.#attempt++;
    if (attempt === 0) return this.#random() * this.#windowMs;
    return this.#random() * Math.min(CAP_MS, BASE_MS * 2 ** Math.min(attempt - 1, 16));
  }

  /** The delay after a refusal of our credentials: half-jittered, 30 s doubling to 10 min. */
  nextAfterRefusal(): number {
    const range = Math.min(REFUSED_CAP_MS, REFUSED_BASE_MS * 2 ** Math.min(this.#refusals++, 16));
    return range / 2 + (this.#random() * range) / 2;
  }

  /** Says how long the session that just ended had stood. */
  ended(stoodMs: number): void {
    if (stoodMs < STABLE_MS) return;
    this.#attempt = 0;
    this.#refusals = 0;
  }
}

const clampWindow = (ms: number): number => Math.min(120_000, Math.max(5_000, ms));
