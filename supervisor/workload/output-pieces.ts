export type OutputName = 'output' | 'errors';

/** Something that was printed, and where. */
export interface Piece {
  readonly stream: OutputName;
  readonly chunk: Buffer;
}

/** Small pieces are joined up to this size: a program that prints byte by byte must not cost an object for each. */
const JOIN_BYTES = 4 << 10;

/** Printed pieces in their order, with what they cost. Its user bounds it. */
export class OutputPieces {
  readonly #pieces: Piece[];
  #bytes: number;

  constructor(from?: OutputPieces) {
    this.#pieces = from === undefined ? [] : [...from.#pieces];
    this.#bytes = from?.bytes ?? 0;
  }

  get bytes(): number {
    return this.#bytes;
  }

  get count(): number {
    return this.#pieces.length;
  }

  push(piece: Piece): void {
    this.#bytes += piece.chunk.length;
    const last = this.#pieces.at(-1);
    if (
      last !== undefined &&
      last.stream === piece.stream &&
      last.chunk.length + piece.chunk.length <= JOIN_BYTES
    )
      this.#pieces[this.#pieces.length - 1] = {
        stream: piece.stream,
        chunk: Buffer.concat([last.chunk, piece.chunk]),
      };
    else this.#pieces.push(piece);
  }

  shift(): Piece | undefined {
    const first = this.#pieces.shift();
    this.#bytes -= first?.chunk.length ?? 0;
    return first;
  }

  clear(): void {
    this.#pieces.length = 0;
    this.#bytes = 0;
  }
}
