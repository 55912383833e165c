import type { ClassQueue, Placed } from './class-queue.ts';
import {
  type BufferRecord,
  cutToLimit,
  ENTRY_OVERHEAD_BYTES,
  type Entry,
  entryBytes,
  type LossReason,
  MAX_RECORD_BYTES,
  RANK,
  RECORD_CLASSES,
  type RecordClass,
  type RecordEntry,
  recordBytes,
} from './record.ts';
import type { AppendOutcome, Batch, BatchLimits, BufferStats, ClassStats } from './record-buffer.ts';

export type Queues = Readonly<Record<RecordClass, ClassQueue>>;

/**
 * Room kept for gaps, so that noting a loss never costs another record of a higher class: each class can
 * have one loose gap beyond what is accounted, and one more beside a batch that is out.
 */
const GAP_RESERVE_BYTES = 2 * RECORD_CLASSES.length * ENTRY_OVERHEAD_BYTES;

/** Names what comes in. Shared by the disk and the memory that stands in for it, so that order survives both. */
export class Numbering {
  readonly boot: string;
  readonly #sequences: Record<RecordClass, number> = { audit: 0, status: 0, logs: 0, samples: 0 };
  #place = 0;
  #batch = 0;

  constructor(boot: string) {
    this.boot = boot;
  }

  nextPlace(): number {
    return ++this.#place;
  }

  /** Puts all further places behind one that is taken. */
  skipTo(place: number): void {
    this.#place = Math.max(this.#place, place);
  }

  nextBatch(): number {
    return ++this.#batch;
  }

  /** The record as an entry, cut where it has to be. */
  entryFor(recordClass: RecordClass, record: BufferRecord): RecordEntry {
    const whole = recordBytes(record);
    const fitting = cutToLimit(record, whole);
    this.#sequences[recordClass] += 1;
    return {
      type: 'record',
      boot: this.boot,
      class: recordClass,
      sequence: this.#sequences[recordClass],
      record: fitting,
      bytes: fitting === record ? whole : recordBytes(fitting),
    };
  }
}

/** The rules of a {@link RecordBuffer} over any kind of queue: what goes when it is full, what is out. */
export class BoundedBuffer {
  readonly #numbering: Numbering;
  readonly #maxBytes: number;
  readonly #queues: Queues;
  #out: { readonly batch: Batch; readonly placed: readonly Placed[] } | undefined;

  /** `maxBytes` is at least 128 KiB. */
  constructor(numbering: Numbering, maxBytes: number, queues: Queues) {
    if (maxBytes < 2 * MAX_RECORD_BYTES) throw new RangeError(`a buffer of ${maxBytes} bytes is too small`);
    this.#numbering = numbering;
    this.#maxBytes = maxBytes;
    this.#queues = queues;
  }

  /** Whether an entry of that size fits without another's going. */
  fits(bytes: number): boolean {
    return this.#bytes() + bytes <= this.#maxBytes - GAP_RESERVE_BYTES;
  }

  add(entry: RecordEntry): Exclude<AppendOutcome, 'cut'> {
    const place = this.#numbering.nextPlace();
    if (!this.#makeRoom(entry)) {
      this.#queues[entry.class].pushLost(place, entry);
      return 'dropped';
    }
    this.#queues[entry.class].push(place, entry);
    return 'kept';
  }

  /** Takes over an entry of another buffer, a gap as it is. */
  adopt(entry: Entry): void {
    if (entry.type === 'record') this.add(entry);
    else this.#queues[entry.class].push(this.#numbering.nextPlace(), entry);
  }

  /** Without `tidy` gaps that could be one stay two: nothing is written then. */
  nextBatch(limits: BatchLimits, tidy = true): Batch | undefined {
    for (const name of RECORD_CLASSES)
      if (tidy) this.#queues[name].unpin();
      else this.#queues[name].pin(0);
    const classes = limits.classes ?? RECORD_CLASSES;
    const heads = new Map<RecordClass, Placed | undefined>(
      classes.map((name) => [name, this.#queues[name].after(0)]),
    );
    const placed: Placed[] = [];
    let bytes = 0;
    while (placed.length < Math.max(1, limits.maxEntries)) {
      let next: Placed | undefined;
      for (const head of heads.values()) if (head && (!next || head.place < next.place)) next = head;
      if (next === undefined) break;
      bytes += entryBytes(next.entry);
      if (placed.length > 0 && bytes > limits.maxBytes) break;
      placed.push(next);
      heads.set(next.entry.class, this.#queues[next.entry.class].after(next.place));
    }
    const last = placed.at(-1);
    if (last === undefined) {
      this.#out = undefined;
      return undefined;
    }
    for (const name of classes) this.#queues[name].pin(last.place);
    const batch = { id: this.#numbering.nextBatch(), entries: placed.map(({ entry }) => entry) };
    this.#out = { batch, placed };
    return batch;
  }

  /** Whether a batch of this buffer is out. */
  get out(): Batch | undefined {
    return this.#out?.batch;
  }

  /** Takes back what was out. */
  release(): void {
    for (const name of RECORD_CLASSES) this.#queues[name].unpin();
    this.#out = undefined;
  }

  ack(batch: Batch): boolean {
    return this.#end(batch, (queue, out) => queue.dropPinned(out));
  }

  giveUp(batch: Batch, reason: LossReason): boolean {
    return this.#end(batch, (queue, out) => queue.losePinned(out, reason));
  }

  /** Every entry in order of arrival. */
  *entries(): Generator<Entry> {
    const all = RECORD_CLASSES.flatMap((name) => {
      const found: Placed[] = [];
      for (let one = this.#queues[name].after(0); one; one = this.#queues[name].after(one.place))
        found.push(one);
      return found;
    });
    for (const { entry } of all.sort((a, b) => a.place - b.place)) yield entry;
  }

  stats(): BufferStats {
    const classes = {
      audit: this.#statsOf('audit'),
      status: this.#statsOf('status'),
      logs: this.#statsOf('logs'),
      samples: this.#statsOf('samples'),
    };
    const entries = RECORD_CLASSES.reduce((sum, name) => sum + classes[name].entries, 0);
    return {
      bytes: this.#bytes(),
      maxBytes: this.#maxBytes,
      entries,
      classes,
      degraded: undefined,
      corrupt: 0,
    };
  }

  #end(batch: Batch, how: (queue: ClassQueue, out: readonly Placed[]) => void): boolean {
    const out = this.#out;
    if (out?.batch.id !== batch.id) return false;
    for (const name of RECORD_CLASSES) {
      const own = out.placed.filter(({ entry }) => entry.class === name);
      if (own.length > 0) how(this.#queues[name], own);
    }
    this.#out = undefined;
    return true;
  }

  /** Gives up what is worth no more than `entry` until it fits; false when that is not enough. */
  #makeRoom(entry: RecordEntry): boolean {
    while (!this.fits(entry.bytes)) {
      const victim = this.#victim(RANK[entry.class]);
      if (victim === undefined) return false;
      victim.loseOldest();
    }
    return true;
  }

  /** The queue whose oldest record goes next: of the highest rank, and of equals the oldest. */
  #victim(lowestRank: number): ClassQueue | undefined {
    let found: { readonly queue: ClassQueue; readonly rank: number; readonly place: number } | undefined;
    for (const name of RECORD_CLASSES) {
      const rank = RANK[name];
      // Of a class that is worth more than what is found already, nothing can be the victim.
      if (rank < lowestRank || this.#queues[name].totals.records === 0) continue;
      const queue = this.#queues[name];
      const place = queue.oldestLosable();
      if (place === undefined) continue;
      if (found === undefined || rank > found.rank || (rank === found.rank && place < found.place)) {
        found = { queue, rank, place };
      }
    }
    return found?.queue;
  }

  #bytes(): number {
    let sum = 0;
    for (const name of RECORD_CLASSES) sum += this.#queues[name].totals.bytes;
    return sum;
  }

  #statsOf(name: RecordClass): ClassStats {
    const { records, entries, lost } = this.#queues[name].totals;
    return { records, entries, lost };
  }
}
