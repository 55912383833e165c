import type { Clock } from '../clock.ts';
import { BoundedBuffer, Numbering } from './bounded-buffer.ts';
import { gapOf } from './class-queue.ts';
import { type OpenDatabase, openDatabase } from './database.ts';
import { DiskFile, type Floors, isDamage, isFull, reasonOf } from './disk-file.ts';
import { DEFAULT_MAX_BYTES as MEMORY_BYTES, memoryQueues } from './memory-buffer.ts';
import {
  type BufferRecord,
  type LossReason,
  RECORD_CLASSES,
  type RecordClass,
  type RecordEntry,
} from './record.ts';
import type { AppendOutcome, Batch, BatchLimits, BufferStats, RecordBuffer } from './record-buffer.ts';

export const DEFAULT_DISK_BYTES = 64 * 1024 * 1024;

/** Written through after this; a write takes its own time, which the promise of 100 ms and 1 s leaves. */
const SYNC_MS: Readonly<Record<RecordClass, number>> = { audit: 40, status: 40, logs: 500, samples: 500 };
/** Pages in the write-ahead log after which it is moved into the file. */
const CHECKPOINT_PAGES = 1_000;
const PAGE_BYTES = 4_096;
const FIRST_RETRY_MS = 1_000;
const LAST_RETRY_MS = 60_000;

/** What the owner of a buffer should hear, to log it. */
export type BufferEvent =
  | { readonly kind: 'predecessor'; readonly records: number }
  | {
      readonly kind: 'damaged';
      readonly reason: string;
      readonly recovered: number;
      readonly lost: number;
      readonly aside: string;
    }
  | { readonly kind: 'degraded'; readonly reason: string }
  | { readonly kind: 'restored'; readonly records: number };

export interface DiskBufferOptions {
  /** The supervisor's own directory; made 0700 when it is missing. */
  readonly directory: string;
  /** Names this start of the supervisor in every entry. */
  readonly boot: string;
  readonly sandboxId: string;
  readonly clock: Clock;
  /** Told later, never within a call of the buffer. */
  readonly report: (event: BufferEvent) => void;
  /** The bound in accounted bytes, at least 128 KiB; {@link DEFAULT_DISK_BYTES} when absent. */
  readonly maxBytes?: number;
  /** The bound of the memory that stands in for the disk; 4 MiB when absent. */
  readonly memoryBytes?: number;
  /** How files are opened, made and renamed as their owner. */
  readonly asOwner?: <T>(act: () => T) => T;
  readonly open?: OpenDatabase;
}

/** A buffer with files behind it. */
export interface DurableBuffer extends RecordBuffer {
  /** Many records of a class as one change of the disk. */
  appendAll(recordClass: RecordClass, records: readonly BufferRecord[]): readonly AppendOutcome[];
  /** Writes everything through and lets go of the files. What comes later stays in memory. */
  close(): void;
}

/**
 * A {@link RecordBuffer} on disk. A record that was taken is in the kernel's hands when `append` returns, so
 * the end of the process does not lose it, and on the disk within 100 ms (audit and status) or 1 s. Without a
 * disk that takes writes it goes to memory, and from there to the disk when that works again. Never throws.
 */
export function openDiskBuffer(options: DiskBufferOptions): DurableBuffer {
  return new DiskBuffer(options);
}

class DiskBuffer implements DurableBuffer {
  readonly #options: DiskBufferOptions;
  readonly #numbering: Numbering;
  readonly #maxBytes: number;
  readonly #memoryBytes: number;
  readonly #asOwner: <T>(act: () => T) => T;
  #file: DiskFile | undefined;
  #memory: BoundedBuffer;
  #outOfMemory = false;
  #degraded: string | undefined;
  #closing = false;
  #closed = false;
  /** Of files and memories that are no more. */
  #lostBefore: Readonly<Record<RecordClass, number>> = { audit: 0, status: 0, logs: 0, samples: 0 };
  #corruptBefore = 0;
  #floors: Floors | undefined;
  #retryMs = FIRST_RETRY_MS;
  #cancelRetry: (() => void) | undefined;
  #sync: { readonly at: number; readonly cancel: () => void } | undefined;
  #pages = 0;

  constructor(options: DiskBufferOptions) {
    this.#options = options;
    this.#numbering = new Numbering(options.boot);
    this.#maxBytes = options.maxBytes ?? DEFAULT_DISK_BYTES;
    this.#memoryBytes = options.memoryBytes ?? MEMORY_BYTES;
    this.#asOwner = options.asOwner ?? ((act) => act());
    this.#memory = this.#newMemory();
    try {
      this.#open();
    } catch (error) {
      this.#fail(error);
    }
  }

  append(recordClass: RecordClass, record: BufferRecord): AppendOutcome {
    const entry = this.#numbering.entryFor(recordClass, record);
    const outcome = this.#onDisk((file) => this.#add(file, entry)) ?? this.#memory.add(entry);
    return outcome === 'kept' && entry.record !== record ? 'cut' : outcome;
  }

  appendAll(recordClass: RecordClass, records: readonly BufferRecord[]): readonly AppendOutcome[] {
    const entries = records.map((record) => this.#numbering.entryFor(recordClass, record));
    const outcomes =
      this.#onDisk((file) =>
        file.transaction(() => entries.map((entry) => this.#note(entry, file.bounded.add(entry)))),
      ) ?? entries.map((entry) => this.#memory.add(entry));
    return outcomes.map((outcome, index) =>
      outcome === 'kept' && entries[index]?.record !== records[index] ? 'cut' : outcome,
    );
  }

  nextBatch(limits: BatchLimits): Batch | undefined {
    const tidily = this.#onDisk((file) => ({
      batch: file.transaction(() => file.bounded.nextBatch(limits)),
    }));
    const fromDisk = tidily === undefined ? this.#readOnly(limits) : tidily.batch;
    this.#outOfMemory = fromDisk === undefined;
    if (fromDisk !== undefined) this.#memory.release();
    // The memory's entries are younger than the disk's of their class.
    return fromDisk ?? this.#memory.nextBatch(limits);
  }

  ack(batch: Batch): boolean {
    const file = this.#file;
    if (this.#outOfMemory || file === undefined) return this.#memory.ack(batch);
    if (file.bounded.out?.id !== batch.id) return false;
    const failure = file.dropping(() => void file.bounded.ack(batch));
    this.#pages += 1 + Math.ceil(batch.entries.length / 8);
    this.#dueSync('logs');
    if (failure !== undefined) this.#fail(failure);
    return true;
  }

  giveUp(batch: Batch, reason: LossReason): boolean {
    const file = this.#file;
    if (this.#outOfMemory || file === undefined) return this.#memory.giveUp(batch, reason);
    if (file.bounded.out?.id !== batch.id) return false;
    try {
      file.transaction(() => file.bounded.giveUp(batch, reason));
      this.#pages += 2;
    } catch (error) {
      // A disk that takes nothing must not keep a poisoned record at the head: the gap goes to memory.
      this.#fail(error);
      const again = this.#file;
      if (again === file && file.bounded.out?.id === batch.id)
        file.dropping(() => void file.bounded.ack(batch));
      const gaps = batch.entries.filter((entry) => entry.type === 'record');
      for (const entry of gaps) this.#memory.adopt(gapOf(entry, reason));
      this.#lostBefore = plus(
        this.#lostBefore,
        (name) => gaps.filter((entry) => entry.class === name).length,
      );
    }
    return true;
  }

  stats(): BufferStats {
    const memory = this.#memory.stats();
    const disk = this.#file?.bounded.stats();
    const sum = (name: RecordClass) => ({
      records: memory.classes[name].records + (disk?.classes[name].records ?? 0),
      entries: memory.classes[name].entries + (disk?.classes[name].entries ?? 0),
      lost: memory.classes[name].lost + (disk?.classes[name].lost ?? 0) + this.#lostBefore[name],
    });
    return {
      bytes: memory.bytes + (disk?.bytes ?? 0),
      maxBytes:
        (this.#degraded === undefined ? 0 : this.#memoryBytes) + (disk === undefined ? 0 : this.#maxBytes),
      entries: memory.entries + (disk?.entries ?? 0),
      classes: { audit: sum('audit'), status: sum('status'), logs: sum('logs'), samples: sum('samples') },
      degraded: this.#degraded,
      corrupt: this.#corruptBefore + (this.#file?.corrupt ?? 0),
    };
  }

  close(): void {
    if (this.#closed) return;
    this.#closing = true;
    if (this.#degraded !== undefined) this.#comeBack();
    this.#closed = true;
    this.#cancelRetry?.();
    this.#sync?.cancel();
    this.#sync = undefined;
    try {
      this.#file?.database.checkpoint();
    } catch {
      // the write-ahead log holds it as well
    }
    this.#letGo();
    this.#degraded = 'closed';
  }

  /** Runs `act` on the file, once more on the one that replaces a torn one; undefined when memory has to do. */
  #onDisk<T>(act: (file: DiskFile) => T): T | undefined {
    for (let attempt = 0; attempt < 2; attempt += 1) {
      if (this.#file === undefined || this.#degraded !== undefined) return undefined;
      try {
        return act(this.#file);
      } catch (error) {
        this.#fail(error);
      }
    }
    return undefined;
  }

  #add(file: DiskFile, entry: RecordEntry): AppendOutcome {
    // One statement is a transaction of its own; only when others have to go it takes more.
    if (file.bounded.fits(entry.bytes)) return this.#note(entry, file.bounded.add(entry));
    this.#pages += 2;
    return this.#note(
      entry,
      file.transaction(() => file.bounded.add(entry)),
    );
  }

  #note<O>(entry: RecordEntry, outcome: O): O {
    this.#pages += 1 + Math.floor(entry.bytes / PAGE_BYTES);
    this.#dueSync(entry.class);
    return outcome;
  }

  /** What a disk that takes no writes still holds. */
  #readOnly(limits: BatchLimits): Batch | undefined {
    try {
      return this.#file?.bounded.nextBatch(limits, false);
    } catch (error) {
      this.#fail(error);
      if (!isFull(error)) this.#letGoIfDone();
      return undefined;
    }
  }

  #open(damage?: unknown): void {
    const { directory, sandboxId, open = openDatabase } = this.#options;
    const options = { directory, sandboxId, maxBytes: this.#maxBytes, open };
    const { file, found } = this.#asOwner(() =>
      DiskFile.open(options, this.#numbering, this.#floors, damage),
    );
    this.#file = file;
    const { records } = found;
    if (found.damage !== undefined) {
      const { reason, recovered, lost, aside } = found.damage;
      this.#corruptBefore += lost;
      this.#report({ kind: 'damaged', reason, recovered, lost, aside });
    }
    if (records > 0 && this.#floors === undefined) this.#report({ kind: 'predecessor', records });
    this.#floors = file.floors;
  }

  #fail(error: unknown): void {
    if (this.#closed) return;
    const reason = reasonOf(error);
    if (this.#degraded === undefined) this.#report({ kind: 'degraded', reason });
    this.#degraded = reason;
    if (this.#file !== undefined && isDamage(error)) {
      this.#letGo();
      this.#comeBack(error);
      if (this.#degraded === undefined) return;
    }
    this.#retryLater();
  }

  #retryLater(): void {
    if (this.#closed || this.#cancelRetry !== undefined) return;
    this.#cancelRetry = this.#options.clock.after(this.#retryMs, () => {
      this.#cancelRetry = undefined;
      this.#comeBack();
    });
    this.#retryMs = Math.min(LAST_RETRY_MS, this.#retryMs * 2);
  }

  /** Moves what memory holds to the disk, all of it or nothing. */
  #comeBack(damage?: unknown): void {
    if (this.#closed || this.#degraded === undefined) return;
    // What is out for delivery keeps its place.
    if (this.#memory.out !== undefined && !this.#closing) {
      this.#retryLater();
      return;
    }
    try {
      if (this.#file?.database.gone() && !this.#letGoIfDone()) throw new Error('the file was taken away');
      if (this.#file === undefined) this.#open(damage);
      const file = this.#file;
      if (file === undefined) return;
      const { entries } = this.#memory.stats();
      file.transaction(() => {
        for (const entry of this.#memory.entries()) file.bounded.adopt(entry);
        file.sweep();
      });
      const { classes, bytes } = this.#memory.stats();
      this.#lostBefore = plus(this.#lostBefore, (name) => classes[name].lost);
      this.#memory = this.#newMemory();
      this.#degraded = undefined;
      this.#retryMs = FIRST_RETRY_MS;
      this.#cancelRetry?.();
      this.#cancelRetry = undefined;
      this.#pages += Math.ceil(bytes / PAGE_BYTES);
      this.#dueSync('audit');
      this.#report({ kind: 'restored', records: entries });
    } catch (error) {
      this.#degraded = reasonOf(error);
      if (!isFull(error)) this.#letGoIfDone();
      this.#retryLater();
    }
  }

  /**
   * Lets go of a file that fails, to open it anew next time; but not as long as it can be read and holds what is
   * older than the memory's records.
   */
  #letGoIfDone(): boolean {
    if (this.#file === undefined) return true;
    if (this.#file.bounded.stats().entries > 0 && this.#file.readable()) return false;
    this.#letGo();
    return true;
  }

  #letGo(): void {
    const file = this.#file;
    if (file === undefined) return;
    this.#file = undefined;
    this.#floors = file.floors;
    this.#corruptBefore += file.corrupt;
    const { classes } = file.bounded.stats();
    this.#lostBefore = plus(this.#lostBefore, (name) => classes[name].lost);
    this.#asOwner(() => file.close());
  }

  #newMemory(): BoundedBuffer {
    return new BoundedBuffer(this.#numbering, this.#memoryBytes, memoryQueues());
  }

  /** Sees to it that what is written now is on the disk in time. */
  #dueSync(recordClass: RecordClass): void {
    if (this.#closed) return;
    const { clock } = this.#options;
    const at = clock.monotonic() + SYNC_MS[recordClass];
    if (this.#sync !== undefined && this.#sync.at <= at) return;
    this.#sync?.cancel();
    this.#sync = { at, cancel: clock.after(SYNC_MS[recordClass], () => this.#writeThrough()) };
  }

  #writeThrough(): void {
    this.#sync = undefined;
    const file = this.#file;
    if (file === undefined) return;
    try {
      if (file.database.gone()) throw new Error(`${this.#options.directory}: the file was taken away`);
      file.database.sync((error) => {
        if (this.#file !== file) return;
        if (error !== undefined) this.#fail(error);
        else if (this.#pages >= CHECKPOINT_PAGES) this.#checkpoint(file);
      });
    } catch (error) {
      this.#fail(error);
    }
  }

  #checkpoint(file: DiskFile): void {
    try {
      file.database.checkpoint();
      this.#pages = 0;
    } catch (error) {
      this.#fail(error);
    }
  }

  #report(event: BufferEvent): void {
    // Whoever hears it will log it, and a log line comes back here: not in the middle of a call.
    queueMicrotask(() => this.#options.report(event));
  }
}

function plus(
  sums: Readonly<Record<RecordClass, number>>,
  more: (name: RecordClass) => number,
): Readonly<Record<RecordClass, number>> {
  const [audit, status, logs, samples] = RECORD_CLASSES.map((name) => sums[name] + more(name));
  return { audit: audit ?? 0, status: status ?? 0, logs: logs ?? 0, samples: samples ?? 0 };
}
