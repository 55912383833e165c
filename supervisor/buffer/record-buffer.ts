import type { BufferRecord, Entry, LossReason, RecordClass } from './record.ts';

/** What happened to an appended record. A dropped one is counted in a gap that will be delivered. */
export type AppendOutcome = 'kept' | 'cut' | 'dropped';

export interface BatchLimits {
  /** At most this many entries; at least one is given when there is any. */
  readonly maxEntries: number;
  /** At most this many accounted bytes, except that the first entry is always given: it is ≤ 64 KiB. */
  readonly maxBytes: number;
  /** Only of these classes; of all when absent. */
  readonly classes?: readonly RecordClass[];
}

/** Entries in order of arrival, which within a class is the order of their sequences. */
export interface Batch {
  readonly id: number;
  readonly entries: readonly Entry[];
}

export interface ClassStats {
  /** Records waiting, the ones handed out and not acknowledged included. */
  readonly records: number;
  /** Entries waiting: records and gaps. */
  readonly entries: number;
  /** Records that were ever given up, for whatever reason. */
  readonly lost: number;
}

export interface BufferStats {
  /** Accounted bytes now held; never above `maxBytes`. */
  readonly bytes: number;
  readonly maxBytes: number;
  /** Entries waiting, gaps included. */
  readonly entries: number;
  readonly classes: Readonly<Record<RecordClass, ClassStats>>;
  /** Why records are held in memory alone, where they were meant for the disk; undefined when they are safe. */
  readonly degraded: string | undefined;
  /** Records that the disk gave back damaged or not at all, as far as they can be counted. */
  readonly corrupt: number;
}

/**
 * The bounded queue between what happens in the sandbox and a gateway that may be away.
 *
 * Delivery is at least once and in order within a class. One batch is out at a time: asking again before
 * the acknowledgement hands out the same entries again, more or fewer as the new limits say. When the bound
 * is reached the oldest record of the lowest class goes first; a record that is worth less than all that is
 * held goes itself. A batch that is out is never taken from. Every loss is delivered as a {@link Entry} of
 * type `gap`, at the place where the records would have been.
 */
export interface RecordBuffer {
  /** Takes a record. Never throws and never waits: the caller may be on the path of a workload's request. */
  append(recordClass: RecordClass, record: BufferRecord): AppendOutcome;
  /** The oldest entries within the limits, or undefined when there are none. */
  nextBatch(limits: BatchLimits): Batch | undefined;
  /** Forgets what was delivered. False for any but the latest batch, of which nothing is forgotten then. */
  ack(batch: Batch): boolean;
  /**
   * Gives up the records of a batch, which nobody will take: a gap with that reason stands in for them. A gap
   * that nobody takes is forgotten. False for any but the latest batch.
   */
  giveUp(batch: Batch, reason: LossReason): boolean;
  stats(): BufferStats;
}
