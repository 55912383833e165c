import { ENTRY_OVERHEAD_BYTES, type Entry, entryBytes, type GapEntry, type RecordEntry } from './record.ts';

/** An entry with its place in the order of arrival across all classes. */
export interface Placed {
  readonly place: number;
  readonly entry: Entry;
}

/**
 * The entries of one class, oldest first. The first `pinned` of them are out for delivery and stay as
 * they are; among the rest no two gaps are neighbours.
 */
export class ClassQueue {
  #entries: Placed[] = [];
  #pinned = 0;
  #bytes = 0;
  #records = 0;
  #lost = 0;

  get bytes(): number {
    return this.#bytes;
  }

  get length(): number {
    return this.#entries.length;
  }

  get records(): number {
    return this.#records;
  }

  get lost(): number {
    return this.#lost;
  }

  at(index: number): Placed | undefined {
    return this.#entries[index];
  }

  push(place: number, entry: RecordEntry): void {
    this.#entries.push({ place, entry });
    this.#bytes += entry.bytes;
    this.#records += 1;
  }

  /** Counts a record that never came in. */
  pushLost(place: number, entry: RecordEntry): void {
    this.#lost += 1;
    this.#entries.push({ place, entry: gapOf(entry) });
    this.#bytes += ENTRY_OVERHEAD_BYTES;
    this.#mergeAt(this.#entries.length - 2);
  }

  /** The place of the oldest record that may be given up. */
  oldestLosable(): number | undefined {
    return this.#entries[this.#losableIndex()]?.place;
  }

  /** Turns the oldest losable record into a gap, or into a part of the gap beside it. */
  loseOldest(): void {
    const index = this.#losableIndex();
    const placed = this.#entries[index];
    if (placed?.entry.type !== 'record') return;
    this.#entries[index] = { place: placed.place, entry: gapOf(placed.entry) };
    this.#bytes += ENTRY_OVERHEAD_BYTES - placed.entry.bytes;
    this.#records -= 1;
    this.#lost += 1;
    this.#mergeAt(index);
    this.#mergeAt(index - 1);
  }

  /** Declares the first `count` entries out for delivery. */
  pin(count: number): void {
    this.#pinned = count;
  }

  /** Takes back what was out. The gap on either side of the old boundary becomes one. */
  unpin(): void {
    const boundary = this.#pinned;
    this.#pinned = 0;
    this.#mergeAt(boundary - 1);
  }

  /** Forgets what was out for delivery. */
  dropPinned(): void {
    for (const { entry } of this.#entries.splice(0, this.#pinned)) {
      this.#bytes -= entryBytes(entry);
      if (entry.type === 'record') this.#records -= 1;
    }
    this.#pinned = 0;
  }

  /** Gaps are never neighbours, so the oldest losable record is the first or the second loose entry. */
  #losableIndex(): number {
    return this.#entries[this.#pinned]?.entry.type === 'gap' ? this.#pinned + 1 : this.#pinned;
  }

  #mergeAt(index: number): void {
    if (index < this.#pinned) return;
    const older = this.#entries[index];
    const newer = this.#entries[index + 1];
    if (older?.entry.type !== 'gap' || newer?.entry.type !== 'gap') return;
    this.#entries.splice(index, 2, { place: older.place, entry: joined(older.entry, newer.entry) });
    this.#bytes -= ENTRY_OVERHEAD_BYTES;
  }
}

function gapOf(lost: RecordEntry): GapEntry {
  return {
    type: 'gap',
    boot: lost.boot,
    class: lost.class,
    first: lost.sequence,
    last: lost.sequence,
    count: 1,
    lostBytes: lost.bytes,
    reason: 'buffer full',
  };
}

function joined(older: GapEntry, newer: GapEntry): GapEntry {
  return {
    ...older,
    last: newer.last,
    count: older.count + newer.count,
    lostBytes: older.lostBytes + newer.lostBytes,
  };
}
