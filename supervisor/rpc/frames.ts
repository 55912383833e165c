import { CallError, STATUS } from './status.ts';

/** One flag byte and four bytes of length stand before each message (grpc/doc/PROTOCOL-HTTP2.md). */
const HEAD = 5;

/** A message as it travels. */
export function frameOf(message: Uint8Array): Buffer {
  const framed = Buffer.allocUnsafe(HEAD + message.length);
  framed.writeUInt8(0, 0);
  framed.writeUInt32BE(message.length, 1);
  framed.set(message, HEAD);
  return framed;
}

/** Cuts a byte stream into messages, however its chunks fall. Copies each byte at most twice. */
export class FrameReader {
  readonly #maxBytes: number;
  #chunks: Buffer[] = [];
  #held = 0;
  /** Bytes that must be held before anything can be said. */
  #wanted = HEAD;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** The messages that this chunk completes. Throws a CallError at a message that is too large or compressed. */
  push(chunk: Buffer): readonly Buffer[] {
    this.#chunks.push(chunk);
    this.#held += chunk.length;
    if (this.#held < this.#wanted) return [];
    let rest = this.#chunks.length === 1 ? chunk : Buffer.concat(this.#chunks, this.#held);
    const messages: Buffer[] = [];
    this.#wanted = HEAD;
    while (rest.length >= HEAD) {
      if (rest.readUInt8(0) !== 0)
        throw new CallError(STATUS.INTERNAL, 'a compressed message, which was not asked for');
      const length = rest.readUInt32BE(1);
      if (length > this.#maxBytes)
        throw new CallError(
          STATUS.RESOURCE_EXHAUSTED,
          `a message of ${length} bytes, above ${this.#maxBytes}`,
        );
      this.#wanted = HEAD + length;
      if (rest.length < this.#wanted) break;
      messages.push(rest.subarray(HEAD, this.#wanted));
      rest = rest.subarray(this.#wanted);
      this.#wanted = HEAD;
    }
    this.#chunks = rest.length === 0 ? [] : [rest];
    this.#held = rest.length;
    return messages;
  }

  /** Whether the stream stands between two messages. */
  get complete(): boolean {
    return this.#held === 0;
  }
}
