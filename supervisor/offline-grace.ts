import type { Clock } from './clock.ts';

/** What to do when the gateway has been away for the whole grace. */
export const OFFLINE_ACTIONS = ['continue', 'quarantine', 'stop'] as const;
export type OfflineAction = (typeof OFFLINE_ACTIONS)[number];

/** Where the sandbox stands towards its gateway. Times are milliseconds spent offline. */
export type OfflineState =
  | { readonly kind: 'online' }
  | { readonly kind: 'grace'; readonly offlineMs: number }
  | { readonly kind: 'expired'; readonly offlineMs: number };

export interface OfflineGraceOptions {
  readonly clock: Clock;
  readonly graceMs: number;
  /** The grace is over; called once until the gateway has been back. */
  readonly onExpired: (offlineMs: number) => void;
  /** The gateway is back after the grace was over. */
  readonly onReturned: () => void;
}

const TICK_MS = 30_000;
/** What one tick may add, however long ago the last one was. */
const MAX_STEP_MS = 2 * TICK_MS;

/**
 * Counts how long the gateway has been away. Time is counted in ticks of the monotonic clock, each worth at most
 * a minute: a clock that jumps, a machine that slept or a process that was stopped must not look like an
 * outage that nobody tried to end.
 */
export class OfflineGrace {
  readonly #options: OfflineGraceOptions;
  #state: OfflineState = { kind: 'online' };
  #lastTick = 0;
  #cancel: (() => void) | undefined;

  constructor(options: OfflineGraceOptions) {
    this.#options = options;
  }

  get state(): OfflineState {
    return this.#state;
  }

  /** Whether the sandbox counts as well although there is no session: the grace is not over. */
  get excused(): boolean {
    return this.#state.kind !== 'expired';
  }

  /** The session stands. */
  online(): void {
    const expired = this.#state.kind === 'expired';
    this.#state = { kind: 'online' };
    this.stop();
    if (expired) this.#options.onReturned();
  }

  /** There is no session. Calling it again changes nothing. */
  offline(): void {
    if (this.#state.kind !== 'online') return;
    this.#state = { kind: 'grace', offlineMs: 0 };
    this.#lastTick = this.#options.clock.monotonic();
    this.#schedule();
  }

  stop(): void {
    this.#cancel?.();
    this.#cancel = undefined;
  }

  #schedule(): void {
    const { clock, graceMs } = this.#options;
    const left = this.#state.kind === 'grace' ? graceMs - this.#state.offlineMs : TICK_MS;
    this.#cancel = clock.after(Math.max(1, Math.min(TICK_MS, left)), () => this.#tick());
  }

  #tick(): void {
    const { clock, graceMs, onExpired } = this.#options;
    if (this.#state.kind === 'online') return;
    const now = clock.monotonic();
    const step = Math.min(MAX_STEP_MS, Math.max(0, now - this.#lastTick));
    this.#lastTick = now;
    const offlineMs = this.#state.offlineMs + step;
    const expires = this.#state.kind === 'grace' && offlineMs >= graceMs;
    this.#state = { kind: expires ? 'expired' : this.#state.kind, offlineMs };
    this.#schedule();
    if (expires) onExpired(offlineMs);
  }
}
