import {
  ENTRY_OVERHEAD_BYTES,
  type Entry,
  type GapEntry,
  type LossReason,
  type RecordEntry,
} from './record.ts';

/** An entry with its place in the order of arrival across all classes. */
export interface Placed {
  readonly place: number;
  readonly entry: Entry;
}

/** The sums of a queue. */
export interface Totals {
  readonly bytes: number;
  readonly entries: number;
  readonly records: number;
  /** Records that were ever given up. */
  readonly lost: number;
}

/**
 * The entries of one class, oldest first. Those up to the pin are out for delivery and stay as they are;
 * among the rest no two gaps that could be one are neighbours. Places are above 0 and rise.
 */
export interface ClassQueue {
  readonly totals: Totals;
  push(place: number, entry: Entry): void;
  /** Counts a record that never came in. */
  pushLost(place: number, entry: RecordEntry): void;
  /** The oldest entry behind a place. */
  after(place: number): Placed | undefined;
  /** The place of the oldest record that may be given up. */
  oldestLosable(): number | undefined;
  /** Turns the oldest losable record into a gap, or into a part of the gap beside it. */
  loseOldest(): void;
  /** Declares what is out for delivery. */
  pin(through: number): void;
  /** Takes back what was out. The gap on either side of the old boundary becomes one. */
  unpin(): void;
  /** Forgets what was out for delivery, which is `out`. */
  dropPinned(out: readonly Placed[]): void;
  /** Turns the records of `out`, which is what was out for delivery, into gaps, and forgets its gaps. */
  losePinned(out: readonly Placed[], reason: LossReason): void;
}

export function gapOf(lost: RecordEntry, reason: LossReason): GapEntry {
  return {
    type: 'gap',
    boot: lost.boot,
    class: lost.class,
    first: lost.sequence,
    last: lost.sequence,
    count: 1,
    lostBytes: lost.bytes,
    reason,
  };
}

/** Both as one, or undefined when they tell of different things. */
export function joined(older: Entry | undefined, newer: Entry | undefined): GapEntry | undefined {
  if (older?.type !== 'gap' || newer?.type !== 'gap') return undefined;
  if (older.boot !== newer.boot || older.reason !== newer.reason) return undefined;
  // What lay between has been told already; and one that memory kept for a full disk can come behind younger ones.
  if (newer.first !== older.last + 1) return undefined;
  return {
    ...older,
    last: newer.last,
    count: older.count + newer.count,
    lostBytes: older.lostBytes + newer.lostBytes,
  };
}

/** What entries add to the sums of their queue. */
export function sumOf(entries: readonly Entry[]): Omit<Totals, 'lost'> {
  let [bytes, records] = [0, 0];
  for (const entry of entries) {
    bytes += entry.type === 'record' ? entry.bytes : ENTRY_OVERHEAD_BYTES;
    if (entry.type === 'record') records += 1;
  }
  return { bytes, records, entries: entries.length };
}
