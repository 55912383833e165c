import { CallError, STATUS } from './status.ts';

/** Of gRPC: one flag byte and four bytes of length. */
const HEAD = 5;
/** Field 2, length-delimited: what RelayFrame and TcpForwardFrame carry their bytes in. */
const DATA_TAG = 0x12;
/** A tag and a varint of 32 bits. */
const MAX_PREFIX = 6;

/** What stands before `length` bytes of data in a frame of its own. */
export function dataHead(length: number): Buffer {
  let lengthBytes = 1;
  for (let rest = length >>> 7; rest > 0; rest >>>= 7) lengthBytes += 1;
  const head = Buffer.allocUnsafe(HEAD + 1 + lengthBytes);
  head.writeUInt8(0, 0);
  head.writeUInt32BE(1 + lengthBytes + length, 1);
  head.writeUInt8(DATA_TAG, HEAD);
  let at = HEAD + 1;
  let rest = length;
  for (; rest > 0x7f; rest >>>= 7) head.writeUInt8((rest & 0x7f) | 0x80, at++);
  head.writeUInt8(rest, at);
  return head;
}

export interface DataFrameEvents {
  /** Bytes of data, in order and as they come: a frame may come in many pieces. */
  data(bytes: Buffer): void;
  /** A message that is anything else. */
  message(bytes: Buffer): void;
}

/**
 * Reads frames that mostly carry data: those bytes are handed on as they are, never gathered and never copied, because
 * relays move much. Other messages are gathered as FrameReader does.
 */
export class DataFrameReader {
  readonly #maxBytes: number;
  readonly #events: DataFrameEvents;
  /** Head and prefix of the frame at hand, as far as they have come. */
  readonly #scratch = Buffer.alloc(HEAD + MAX_PREFIX);
  #scratched = 0;
  /** Bytes of data that are still to come. */
  #data = 0;
  /** A message that is gathered, and how much of it is there. */
  #message: Buffer | undefined;
  #gathered = 0;

  constructor(maxBytes: number, events: DataFrameEvents) {
    this.#maxBytes = maxBytes;
    this.#events = events;
  }

  /** Whether the stream stands between two messages. */
  get complete(): boolean {
    return this.#scratched === 0 && this.#data === 0 && this.#message === undefined;
  }

  /** Throws a CallError at a message that is too large or compressed. */
  push(chunk: Buffer): void {
    let at = 0;
    while (at < chunk.length) {
      if (this.#data > 0) {
        const piece = chunk.subarray(at, at + this.#data);
        this.#data -= piece.length;
        at += piece.length;
        this.#events.data(piece);
      } else if (this.#message !== undefined) {
        const taken = chunk.copy(this.#message, this.#gathered, at);
        at += taken;
        this.#gathered += taken;
        this.#settle();
      } else {
        this.#scratch.writeUInt8(chunk.readUInt8(at++), this.#scratched++);
        this.#look();
      }
    }
  }

  /** After each byte of head and prefix: says what the frame is as soon as that is known. */
  #look(): void {
    if (this.#scratched < HEAD) return;
    const length = this.#scratch.readUInt32BE(1);
    const prefix = this.#scratched - HEAD;
    if (prefix === 0) {
      if (this.#scratch.readUInt8(0) !== 0)
        throw new CallError(STATUS.INTERNAL, 'a compressed message, which was not asked for');
      if (length > this.#maxBytes)
        throw new CallError(
          STATUS.RESOURCE_EXHAUSTED,
          `a message of ${length} bytes, above ${this.#maxBytes}`,
        );
      if (length === 0) this.#gather(0, 0);
      return;
    }
    const last = this.#scratch.readUInt8(this.#scratched - 1);
    if (this.#scratch.readUInt8(HEAD) === DATA_TAG && prefix < length) {
      const whole = prefix > 1 && last < 0x80;
      if (whole && this.#declared(prefix) === length - prefix) {
        this.#data = length - prefix;
        this.#scratched = 0;
        return;
      }
      if (!whole && prefix < MAX_PREFIX) return;
    }
    this.#gather(length, prefix);
  }

  /** The length that the prefix names. */
  #declared(prefix: number): number {
    let value = 0;
    for (let i = prefix - 1; i >= 1; i--) value = value * 128 + (this.#scratch.readUInt8(HEAD + i) & 0x7f);
    return value;
  }

  /** It is no plain data: all of it is needed. */
  #gather(length: number, prefix: number): void {
    this.#message = Buffer.allocUnsafe(length);
    this.#gathered = this.#scratch.copy(this.#message, 0, HEAD, HEAD + prefix);
    this.#scratched = 0;
    this.#settle();
  }

  #settle(): void {
    const message = this.#message;
    if (message === undefined || this.#gathered < message.length) return;
    this.#message = undefined;
    this.#gathered = 0;
    this.#events.message(message);
  }
}
