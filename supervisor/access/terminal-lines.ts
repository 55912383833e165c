const [LF, CR] = [0x0a, 0x0d];

/**
 * Between a client on a terminal and a program without one: what the program's own terminal would do to the ends of lines
 * (ONLCR and ICRNL of termios(3)), so that output does not climb down in stairs, and Enter ends a line.
 */
export class TerminalLines {
  #last = 0;

  /** For the client's screen: LF becomes CR LF, unless a CR came before it, in this piece or the last one. */
  shown(chunk: Buffer): Buffer {
    const pieces: Buffer[] = [];
    let from = 0;
    for (let at = chunk.indexOf(LF); at >= 0; at = chunk.indexOf(LF, at + 1)) {
      if ((at === 0 ? this.#last : chunk[at - 1]) === CR) continue;
      pieces.push(chunk.subarray(from, at), CRLF);
      from = at + 1;
    }
    this.#last = chunk.at(-1) ?? this.#last;
    return from === 0 ? chunk : Buffer.concat([...pieces, chunk.subarray(from)]);
  }

  /** For the program: CR becomes LF. */
  typed(chunk: Buffer): Buffer {
    return chunk.includes(CR) ? Buffer.from(chunk.map((byte) => (byte === CR ? LF : byte))) : chunk;
  }
}

const CRLF = Buffer.from([CR, LF]);
