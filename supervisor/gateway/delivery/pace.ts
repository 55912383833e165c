/** A replay after an outage goes no faster than this, in bytes a second. */
const BYTES_PER_SECOND = 1024 * 1024;
/** One batch may go at once. */
const BURST_BYTES = 256 * 1024;

/** Bounds what is sent: never more than the burst and 1 MiB for each second. */
export class Pace {
  readonly #monotonic: () => number;
  #room = BURST_BYTES;
  #at: number;

  constructor(monotonic: () => number) {
    this.#monotonic = monotonic;
    this.#at = monotonic();
  }

  /** Milliseconds until that much may be sent; 0 when it may now. */
  wait(bytes: number): number {
    this.#refill();
    const short = Math.min(bytes, BURST_BYTES) - this.#room;
    return short <= 0 ? 0 : Math.ceil((short / BYTES_PER_SECOND) * 1000);
  }

  /** Notes what is sent, whether or not there was room for it. */
  sent(bytes: number): void {
    this.#refill();
    this.#room -= bytes;
  }

  #refill(): void {
    const now = this.#monotonic();
    this.#room = Math.min(BURST_BYTES, this.#room + ((now - this.#at) / 1000) * BYTES_PER_SECOND);
    this.#at = now;
  }
}
