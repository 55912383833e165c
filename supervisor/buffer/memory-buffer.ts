import { ClassQueue } from './class-queue.ts';
import {
  cutToLimit,
  ENTRY_OVERHEAD_BYTES,
  type Entry,
  entryBytes,
  type LogRecord,
  MAX_RECORD_BYTES,
  RANK,
  RECORD_CLASSES,
  type RecordClass,
  type RecordEntry,
  recordBytes,
} from './record.ts';
import type {
  AppendOutcome,
  Batch,
  BatchLimits,
  BufferStats,
  ClassStats,
  RecordBuffer,
} from './record-buffer.ts';

export const DEFAULT_MAX_BYTES = 4 * 1024 * 1024;

/**
 * Room kept for gaps, so that noting a loss never costs another record of a higher class: each class can
 * have one loose gap beyond what is accounted, and one more beside a batch that is out.
 */
const GAP_RESERVE_BYTES = 2 * RECORD_CLASSES.length * ENTRY_OVERHEAD_BYTES;

export interface MemoryBufferOptions {
  /** Names this start of the supervisor in every entry. */
  readonly boot: string;
  /** The bound in accounted bytes, at least 128 KiB; {@link DEFAULT_MAX_BYTES} when absent. */
  readonly maxBytes?: number;
}

/** A {@link RecordBuffer} in memory: what it holds is gone with the process. */
export function createMemoryBuffer(options: MemoryBufferOptions): RecordBuffer {
  return new MemoryBuffer(options.boot, options.maxBytes ?? DEFAULT_MAX_BYTES);
}

class MemoryBuffer implements RecordBuffer {
  readonly #boot: string;
  readonly #maxBytes: number;
  readonly #queues: Readonly<Record<RecordClass, ClassQueue>>;
  readonly #sequences: Record<RecordClass, number> = { audit: 0, status: 0, logs: 0, samples: 0 };
  #nextPlace = 0;
  #nextBatchId = 1;
  #out: Batch | undefined;

  constructor(boot: string, maxBytes: number) {
    if (maxBytes < 2 * MAX_RECORD_BYTES) throw new RangeError(`a buffer of ${maxBytes} bytes is too small`);
    this.#boot = boot;
    this.#maxBytes = maxBytes;
    this.#queues = {
      audit: new ClassQueue(),
      status: new ClassQueue(),
      logs: new ClassQueue(),
      samples: new ClassQueue(),
    };
  }

  append(recordClass: RecordClass, record: LogRecord): AppendOutcome {
    const fitting = cutToLimit(record);
    this.#sequences[recordClass] += 1;
    const entry: RecordEntry = {
      type: 'record',
      boot: this.#boot,
      class: recordClass,
      sequence: this.#sequences[recordClass],
      record: fitting,
      bytes: recordBytes(fitting),
    };
    const place = this.#nextPlace++;
    if (!this.#makeRoom(entry)) {
      this.#queues[recordClass].pushLost(place, entry);
      return 'dropped';
    }
    this.#queues[recordClass].push(place, entry);
    return fitting === record ? 'kept' : 'cut';
  }

  nextBatch(limits: BatchLimits): Batch | undefined {
    for (const name of RECORD_CLASSES) this.#queues[name].unpin();
    const taken: Record<RecordClass, number> = { audit: 0, status: 0, logs: 0, samples: 0 };
    const entries: Entry[] = [];
    let bytes = 0;
    while (entries.length < Math.max(1, limits.maxEntries)) {
      const next = this.#oldestAfter(taken);
      if (next === undefined) break;
      bytes += entryBytes(next);
      if (entries.length > 0 && bytes > limits.maxBytes) break;
      entries.push(next);
      taken[next.class] += 1;
    }
    for (const name of RECORD_CLASSES) this.#queues[name].pin(taken[name]);
    this.#out = entries.length === 0 ? undefined : { id: this.#nextBatchId++, entries };
    return this.#out;
  }

  ack(batch: Batch): boolean {
    if (this.#out?.id !== batch.id) return false;
    for (const name of RECORD_CLASSES) this.#queues[name].dropPinned();
    this.#out = undefined;
    return true;
  }

  stats(): BufferStats {
    return {
      bytes: this.#bytes(),
      maxBytes: this.#maxBytes,
      entries: RECORD_CLASSES.reduce((sum, name) => sum + this.#queues[name].length, 0),
      classes: {
        audit: statsOf(this.#queues.audit),
        status: statsOf(this.#queues.status),
        logs: statsOf(this.#queues.logs),
        samples: statsOf(this.#queues.samples),
      },
    };
  }

  /** Gives up what is worth no more than `entry` until it fits; false when that is not enough. */
  #makeRoom(entry: RecordEntry): boolean {
    const limit = this.#maxBytes - GAP_RESERVE_BYTES;
    while (this.#bytes() + entry.bytes > limit) {
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
      const queue = this.#queues[name];
      const rank = RANK[name];
      const place = queue.oldestLosable();
      if (place === undefined || rank < lowestRank) continue;
      if (found === undefined || rank > found.rank || (rank === found.rank && place < found.place)) {
        found = { queue, rank, place };
      }
    }
    return found?.queue;
  }

  #oldestAfter(taken: Readonly<Record<RecordClass, number>>): Entry | undefined {
    let oldest: { readonly place: number; readonly entry: Entry } | undefined;
    for (const name of RECORD_CLASSES) {
      const head = this.#queues[name].at(taken[name]);
      if (head !== undefined && (oldest === undefined || head.place < oldest.place)) oldest = head;
    }
    return oldest?.entry;
  }

  #bytes(): number {
    return RECORD_CLASSES.reduce((sum, name) => sum + this.#queues[name].bytes, 0);
  }
}

function statsOf(queue: ClassQueue): ClassStats {
  return { records: queue.records, lost: queue.lost };
}
