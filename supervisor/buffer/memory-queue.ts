import { type ClassQueue, gapOf, joined, type Placed, sumOf, type Totals } from './class-queue.ts';
import type { Entry, LossReason, RecordEntry } from './record.ts';

/** A {@link ClassQueue} in an array. */
export class MemoryQueue implements ClassQueue {
  #entries: Placed[] = [];
  #pinned = 0;
  #totals: Totals = { bytes: 0, entries: 0, records: 0, lost: 0 };

  get totals(): Totals {
    return this.#totals;
  }

  push(place: number, entry: Entry): void {
    this.#entries.push({ place, entry });
    this.#count([], [entry]);
    this.#mergeAt(this.#entries.length - 2);
  }

  pushLost(place: number, entry: RecordEntry): void {
    this.#lost(1);
    this.push(place, gapOf(entry, 'buffer full'));
  }

  after(place: number): Placed | undefined {
    return this.#entries[this.#indexAfter(place)];
  }

  oldestLosable(): number | undefined {
    return this.#entries[this.#losableIndex()]?.place;
  }

  loseOldest(): void {
    const index = this.#losableIndex();
    const placed = this.#entries[index];
    if (placed?.entry.type !== 'record') return;
    this.#replace(index, 1, { place: placed.place, entry: gapOf(placed.entry, 'buffer full') });
    this.#lost(1);
    this.#mergeAt(index);
    this.#mergeAt(index - 1);
  }

  pin(through: number): void {
    this.#pinned = this.#indexAfter(through);
  }

  unpin(): void {
    const boundary = this.#pinned;
    this.#pinned = 0;
    this.#mergeAt(boundary - 1);
  }

  dropPinned(): void {
    const dropped = this.#entries.splice(0, this.#pinned);
    this.#count(dropped.map(({ entry }) => entry), []); // biome-ignore format: one thought
    this.#pinned = 0;
  }

  losePinned(out: readonly Placed[], reason: LossReason): void {
    this.dropPinned();
    const gaps = out.flatMap(({ place, entry }) =>
      entry.type === 'record' ? [{ place, entry: gapOf(entry, reason) }] : [],
    );
    this.#entries.unshift(...gaps);
    this.#count([], gaps.map(({ entry }) => entry)); // biome-ignore format: one thought
    this.#lost(gaps.length);
    for (let index = gaps.length - 1; index >= 0; index -= 1) this.#mergeAt(index);
  }

  /** The index of the first entry whose place is above `place`. */
  #indexAfter(place: number): number {
    let [low, high] = [0, this.#entries.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#entries[middle]?.place ?? 0) > place) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  #losableIndex(): number {
    let index = this.#pinned;
    while (this.#entries[index]?.entry.type === 'gap') index += 1;
    return index;
  }

  #mergeAt(index: number): void {
    if (index < this.#pinned) return;
    const older = this.#entries[index];
    const one = joined(older?.entry, this.#entries[index + 1]?.entry);
    if (older !== undefined && one !== undefined) this.#replace(index, 2, { place: older.place, entry: one });
  }

  #replace(index: number, count: number, by: Placed): void {
    const gone = this.#entries.splice(index, count, by);
    this.#count(gone.map(({ entry }) => entry), [by.entry]); // biome-ignore format: one thought
  }

  #count(gone: readonly Entry[], come: readonly Entry[]): void {
    const [less, more] = [sumOf(gone), sumOf(come)];
    this.#totals = {
      bytes: this.#totals.bytes + more.bytes - less.bytes,
      entries: this.#totals.entries + more.entries - less.entries,
      records: this.#totals.records + more.records - less.records,
      lost: this.#totals.lost,
    };
  }

  #lost(count: number): void {
    this.#totals = { ...this.#totals, lost: this.#totals.lost + count };
  }
}
