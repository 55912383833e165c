import type { Clock, Random } from '../clock.ts';

const DEFAULT_INTERVAL_MS = 15_000;
const SILENT_INTERVALS = 3;

/** The gateway's interval when it is between 5 and 300 s, else 15 s; in milliseconds. */
export function acceptInterval(seconds: number): number {
  return seconds >= 5 && seconds <= 300 ? seconds * 1000 : DEFAULT_INTERVAL_MS;
}

export interface HeartbeatOptions {
  readonly clock: Clock;
  readonly random: Random;
  readonly intervalMs: number;
  readonly beat: () => void;
  /** Called once, when nothing has come in for three intervals. */
  readonly onSilence: () => void;
  /** The machine slept or was frozen: what has been heard says nothing about the link any more. */
  readonly onLeap?: () => void;
}

/**
 * Beats until stopped: the first after a uniform part of the interval, each later one after a uniform part
 * of its last seventh, so that a fleet that started together drifts apart and stays apart.
 *
 * Only the monotonic clock counts, so steps of the wall clock move nothing. Hearing sets a number and no
 * timer: the timer finds out when it fires whether it was too early.
 */
export class Heartbeat {
  readonly #options: HeartbeatOptions;
  #cancelBeat: (() => void) | undefined;
  #cancelSilence: (() => void) | undefined;
  #heardAt: number;
  /** Wall clock minus monotonic clock: it leaps when the machine slept. */
  #offset: number;

  constructor(options: HeartbeatOptions) {
    this.#options = options;
    const { clock } = options;
    this.#heardAt = clock.monotonic();
    this.#offset = clock.now() - this.#heardAt;
    this.#schedule(options.random() * options.intervalMs);
    this.#listen(SILENT_INTERVALS * options.intervalMs);
  }

  /** Something came in: the link lives. */
  heard(): void {
    this.#heardAt = this.#options.clock.monotonic();
  }

  stop(): void {
    this.#cancelBeat?.();
    this.#cancelSilence?.();
  }

  #schedule(delayMs: number): void {
    const { clock, random, intervalMs, beat, onLeap } = this.#options;
    this.#cancelBeat = clock.after(delayMs, () => {
      const offset = clock.now() - clock.monotonic();
      const leapt = offset - this.#offset > intervalMs;
      this.#offset = offset;
      this.#schedule(intervalMs * (6 / 7 + random() / 7));
      beat();
      if (leapt) onLeap?.();
    });
  }

  #listen(delayMs: number): void {
    const { clock, intervalMs, onSilence, onLeap } = this.#options;
    const due = clock.monotonic() + delayMs;
    this.#cancelSilence = clock.after(delayMs, () => {
      const now = clock.monotonic();
      const left = this.#heardAt + SILENT_INTERVALS * intervalMs - now;
      if (left > 0) return this.#listen(left);
      // Whoever was frozen finds what came meanwhile only after the timers: look again before judging.
      if (now - due > intervalMs) {
        this.#listen(intervalMs);
        return onLeap?.();
      }
      onSilence();
    });
  }
}
