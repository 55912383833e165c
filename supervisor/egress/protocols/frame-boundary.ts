/**
 * Follows WebSocket frames (RFC 6455, 5.2) in a stream of chunks without holding any of it, to know where one may be
 * put in between.
 */
export class FrameBoundary {
  /** Of the header that is being read: at most 14 bytes. */
  readonly #header = Buffer.alloc(14);
  #read = 0;
  #payloadLeft = 0;
  /** A close frame has begun: nothing may follow it. */
  #closed = false;
  #fragmented = false;
  #messageBytes = 0;
  /** Of the frame whose payload is being read: whether it belongs to a message, and ends it. */
  #data = false;
  #final = false;

  /** Whether a message has begun that more frames belong to. */
  get fragmented(): boolean {
    return this.#fragmented;
  }

  /** Payload of the message that is under way, in bytes; 0 when none is. */
  get messageBytes(): number {
    return this.#messageBytes;
  }

  /** Whether a message, or the frame of one, has begun and is not whole. */
  get unfinished(): boolean {
    return this.#fragmented || this.#payloadLeft > 0 || this.#read > 0;
  }

  /** Whether the stream stands between two frames, and no close has been sent. */
  get between(): boolean {
    return this.#read === 0 && this.#payloadLeft === 0 && !this.#closed;
  }

  push(chunk: Uint8Array): void {
    let at = 0;
    while (at < chunk.length) {
      if (this.#payloadLeft > 0) {
        const skipped = Math.min(this.#payloadLeft, chunk.length - at);
        this.#payloadLeft -= skipped;
        at += skipped;
        if (this.#data) this.#messageBytes += skipped;
        if (this.#payloadLeft === 0) this.#endFrame();
        continue;
      }
      this.#header[this.#read++] = chunk[at++] ?? 0;
      const length = this.#payloadLength();
      if (length === undefined) continue;
      if (((this.#header[0] ?? 0) & 0x0f) === 8) this.#closed = true;
      const opcode = (this.#header[0] ?? 0) & 0x0f;
      this.#data = opcode < 8;
      this.#final = ((this.#header[0] ?? 0) & 0x80) !== 0;
      this.#payloadLeft = length;
      this.#read = 0;
      if (length === 0) this.#endFrame();
    }
  }

  #endFrame(): void {
    if (!this.#data) return;
    this.#fragmented = !this.#final;
    if (this.#final) this.#messageBytes = 0;
  }

  /** Once the header is whole. */
  #payloadLength(): number | undefined {
    if (this.#read < 2) return undefined;
    const second = this.#header[1] ?? 0;
    const short = second & 0x7f;
    const extended = short === 126 ? 2 : short === 127 ? 8 : 0;
    const mask = (second & 0x80) === 0 ? 0 : 4;
    if (this.#read < 2 + extended + mask) return undefined;
    if (extended === 0) return short;
    return extended === 2 ? this.#header.readUInt16BE(2) : Number(this.#header.readBigUInt64BE(2));
  }
}
