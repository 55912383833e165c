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
}

/**
 * Beats until stopped: the first after a uniform part of the interval, each later one after a uniform part
 * of its last seventh, so that a fleet that started together drifts apart and stays apart.
 */
export class Heartbeat {
  readonly #options: HeartbeatOptions;
  #cancelBeat: (() => void) | undefined;
  #cancelSilence: (() => void) | undefined;

  constructor(options: HeartbeatOptions) {
    this.#options = options;
    this.#schedule(options.random() * options.intervalMs);
    this.heard();
  }

  /** Something came in: the link lives. */
  heard(): void {
    this.#cancelSilence?.();
    const { clock, intervalMs, onSilence } = this.#options;
    this.#cancelSilence = clock.after(SILENT_INTERVALS * intervalMs, onSilence);
  }

  stop(): void {
    this.#cancelBeat?.();
    this.#cancelSilence?.();
  }

  #schedule(delayMs: number): void {
    const { clock, random, intervalMs, beat } = this.#options;
    this.#cancelBeat = clock.after(delayMs, () => {
      beat();
      this.#schedule(intervalMs * (6 / 7 + random() / 7));
    });
  }
}
