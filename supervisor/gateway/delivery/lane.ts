import type { RecordClass } from '../../buffer/record.ts';
import type { Clock, Random } from '../../clock.ts';

const BASE_MS = 1_000;
const CAP_MS = 60_000;
const REFUSED_BASE_MS = 30_000;
const REFUSED_CAP_MS = 600_000;
/** While the end is near there is no herd to spare, only a deadline. */
const HURRIED_BASE_MS = 100;
const HURRIED_CAP_MS = 2_000;
/** A fault of the gateway's that comes this often in a row may be the record's. */
const STRIKES = 3;

/** Records that have an order among themselves, and how their delivery fares: waits, strikes, the search for a poisoned one. */
export class Lane {
  readonly classes: readonly RecordClass[];
  readonly #clock: Clock;
  readonly #random: Random;
  #waitUntil = 0;
  #attempts = 0;
  #refusals = 0;
  #strikes = 0;
  /** Among the next so many entries is one that is refused; so many are tried at a time. */
  #search: { readonly among: number; readonly size: number } | undefined;

  constructor(classes: readonly RecordClass[], clock: Clock, random: Random) {
    this.classes = classes;
    this.#clock = clock;
    this.#random = random;
  }

  /** Milliseconds until it may be tried; 0 when it may now. */
  waitMs(): number {
    return Math.max(0, this.#waitUntil - this.#clock.monotonic());
  }

  /** Whether its entries may go together with another lane's. */
  get untroubled(): boolean {
    return this.waitMs() === 0 && this.#search === undefined && this.#strikes === 0;
  }

  /** How many entries to try at a time, when one among them is refused. */
  get size(): number | undefined {
    return this.#search?.size;
  }

  /** Forgets the waits: something has changed at the gateway. */
  hurry(): void {
    this.#waitUntil = 0;
    this.#attempts = 0;
  }

  delivered(count: number): void {
    this.#waitUntil = 0;
    this.#attempts = 0;
    this.#refusals = 0;
    this.#strikes = 0;
    if (this.#search === undefined) return;
    const among = this.#search.among - count;
    this.#search = among <= 0 ? undefined : { among, size: Math.min(this.#search.size, among) };
  }

  /** The one that was looked for is found and gone. */
  found(): void {
    this.#search = undefined;
    this.#strikes = 0;
  }

  /** Waits with full jitter, 1 s doubling to 60 s, and no less than the gateway asks for. */
  again(askedMs: number, hurried: boolean): void {
    const [base, cap] = hurried ? [HURRIED_BASE_MS, HURRIED_CAP_MS] : [BASE_MS, CAP_MS];
    const range = Math.min(cap, base * 2 ** Math.min(this.#attempts++, 16));
    // What is asked of many at once must not bring them all back at once.
    this.#wait(Math.max(this.#random() * range, askedMs * (1 + this.#random() / 5)));
  }

  /** Waits as a session does that is refused: half-jittered, 30 s doubling to 10 min. */
  refused(askedMs: number): void {
    const range = Math.min(REFUSED_CAP_MS, REFUSED_BASE_MS * 2 ** Math.min(this.#refusals++, 16));
    this.#wait(Math.max(askedMs, range / 2 + (this.#random() * range) / 2));
  }

  /** Whether a fault has come often enough to look for a record that causes it. */
  strike(): boolean {
    this.#strikes += 1;
    return this.#strikes >= STRIKES;
  }

  /** Looks for the refused one among the first `count`, which are more than one. */
  narrow(count: number): void {
    this.#search = { among: count, size: Math.max(1, Math.floor(count / 2)) };
  }

  #wait(ms: number): void {
    this.#waitUntil = this.#clock.monotonic() + ms;
  }
}
