import { BoundedBuffer, Numbering, type Queues } from './bounded-buffer.ts';
import { MemoryQueue } from './memory-queue.ts';
import type { RecordBuffer } from './record-buffer.ts';

export const DEFAULT_MAX_BYTES = 4 * 1024 * 1024;

export interface MemoryBufferOptions {
  /** Names this start of the supervisor in every entry. */
  readonly boot: string;
  /** The bound in accounted bytes, at least 128 KiB; {@link DEFAULT_MAX_BYTES} when absent. */
  readonly maxBytes?: number;
}

/** A {@link RecordBuffer} in memory: what it holds is gone with the process. */
export function createMemoryBuffer(options: MemoryBufferOptions): RecordBuffer {
  const numbering = new Numbering(options.boot);
  const bounded = new BoundedBuffer(numbering, options.maxBytes ?? DEFAULT_MAX_BYTES, memoryQueues());
  return {
    append(recordClass, record) {
      const entry = numbering.entryFor(recordClass, record);
      const outcome = bounded.add(entry);
      return outcome === 'kept' && entry.record !== record ? 'cut' : outcome;
    },
    nextBatch: (limits) => bounded.nextBatch(limits),
    ack: (batch) => bounded.ack(batch),
    giveUp: (batch, reason) => bounded.giveUp(batch, reason),
    stats: () => bounded.stats(),
  };
}

export const memoryQueues = (): Queues => ({
  audit: new MemoryQueue(),
  status: new MemoryQueue(),
  logs: new MemoryQueue(),
  samples: new MemoryQueue(),
});
