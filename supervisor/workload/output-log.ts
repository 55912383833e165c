export type OutputName = 'output' | 'errors';

/** Something that was printed, and where. */
export interface Piece {
  readonly stream: OutputName;
  readonly chunk: Buffer;
}

/** Reads a log at its own pace, from the oldest that is kept. */
export interface OutputReader {
  /** What was printed next, which never changes any more; undefined when there is nothing yet. */
  next(): Piece | undefined;
  /** How far it is behind. */
  readonly unread: { readonly bytes: number; readonly pieces: number };
  /** It reads no more, and keeps nothing. */
  close(): void;
}

export interface OutputLogBounds {
  readonly bytes: number;
  /** Streams that take turns byte by byte cannot be joined: each turn is a piece. */
  readonly pieces: number;
}

/** Where a piece lies. The newest one may grow at its end; what is before that stays as it is. */
interface Kept {
  readonly stream: OutputName;
  readonly memory: Buffer;
  readonly start: number;
  end: number;
}

interface Cursor {
  /** Of the piece that it reads. */
  number: number;
  /** Read of that piece. */
  offset: number;
  /** Read of all that was ever printed. */
  read: number;
}

/** Smaller pieces are copied together: a program that prints line by line must not cost memory of its own for each. */
const SLAB_BYTES = 4 << 10;

/**
 * The latest that was printed, once in memory for all who read it. What goes beyond the bounds is kept only as long as the
 * slowest reader needs it; its user sends away who needs too much.
 */
export class OutputLog {
  readonly #bounds: OutputLogBounds;
  /** By their numbers, which count all that ever were. */
  readonly #pieces = new Map<number, Kept>();
  readonly #cursors = new Set<Cursor>();
  /** The number of the oldest piece in memory, of the oldest within the bounds, and of the one to come. */
  #first = 0;
  #oldest = 0;
  #next = 0;
  /** Within the bounds, and of all that was ever printed. */
  #bytes = 0;
  #total = 0;
  /** Where small pieces go, of both streams, one behind the other. Not of Node's pool: each would keep 64 KiB alive. */
  #slab: Buffer = Buffer.alloc(0);
  #filled = 0;

  constructor(bounds: OutputLogBounds) {
    this.#bounds = bounds;
  }

  /** Adds what was printed. A large chunk is kept as it is and must not change. */
  append(stream: OutputName, chunk: Buffer): void {
    if (chunk.length >= SLAB_BYTES && chunk.buffer.byteLength <= chunk.length + SLAB_BYTES)
      this.#add({ stream, memory: chunk, start: 0, end: chunk.length });
    else
      for (let from = 0; from < chunk.length; ) {
        if (this.#filled === this.#slab.length) {
          this.#slab = Buffer.allocUnsafeSlow(SLAB_BYTES);
          this.#filled = 0;
        }
        const count = chunk.copy(this.#slab, this.#filled, from);
        this.#grow(stream, count);
        from += count;
      }
    this.#bytes += chunk.length;
    this.#total += chunk.length;
    this.#trim();
  }

  reader(): OutputReader {
    const cursor: Cursor = { number: this.#oldest, offset: 0, read: this.#total - this.#bytes };
    this.#cursors.add(cursor);
    const unread = () => ({ bytes: this.#total - cursor.read, pieces: this.#next - cursor.number });
    return {
      next: () => (this.#cursors.has(cursor) ? this.#read(cursor) : undefined),
      get unread() {
        return unread();
      },
      close: () => {
        this.#cursors.delete(cursor);
        this.#release();
      },
    };
  }

  #add(piece: Kept): void {
    this.#pieces.set(this.#next, piece);
    this.#next += 1;
  }

  /** The next bytes of the slab are of this stream. */
  #grow(stream: OutputName, count: number): void {
    const last = this.#pieces.get(this.#next - 1);
    const start = this.#filled;
    this.#filled += count;
    if (last?.stream === stream && last.memory === this.#slab) last.end = this.#filled;
    else this.#add({ stream, memory: this.#slab, start, end: this.#filled });
  }

  #read(cursor: Cursor): Piece | undefined {
    for (;;) {
      const piece = this.#pieces.get(cursor.number);
      if (piece === undefined) return undefined;
      const from = piece.start + cursor.offset;
      const chunk = piece.memory.subarray(from, piece.end);
      cursor.offset += chunk.length;
      cursor.read += chunk.length;
      if (cursor.number < this.#next - 1) {
        cursor.number += 1;
        cursor.offset = 0;
        this.#release();
      } else if (chunk.length === 0) return undefined; // the newest one, which may grow
      if (chunk.length > 0) return { stream: piece.stream, chunk };
    }
  }

  /** The newest piece stays in any case: it may grow. */
  #trim(): void {
    const { bytes, pieces } = this.#bounds;
    const before = this.#oldest;
    while (this.#oldest < this.#next - 1 && (this.#bytes > bytes || this.#next - this.#oldest > pieces)) {
      const piece = this.#pieces.get(this.#oldest);
      if (piece !== undefined) this.#bytes -= piece.end - piece.start;
      this.#oldest += 1;
    }
    if (this.#oldest > before) this.#release();
  }

  /** Lets go of what is out of the bounds and read by all. */
  #release(): void {
    let needed = this.#oldest;
    for (const { number } of this.#cursors) needed = Math.min(needed, number);
    for (; this.#first < needed; this.#first += 1) this.#pieces.delete(this.#first);
  }
}
