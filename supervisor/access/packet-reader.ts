/** Reads the fields of an SSH message (RFC 4251, 5) one after the other; undefined once one is not whole. */
export class PacketReader {
  readonly #packet: Buffer;
  #at: number;

  /** From the byte at `at` on. */
  constructor(packet: Buffer, at: number) {
    this.#packet = packet;
    this.#at = at;
  }

  bool(): boolean | undefined {
    const value = this.#packet[this.#at];
    this.#at += 1;
    return value === undefined ? undefined : value !== 0;
  }

  uint32(): number | undefined {
    const at = this.#at;
    this.#at += 4;
    return this.#at <= this.#packet.length ? this.#packet.readUInt32BE(at) : undefined;
  }

  /** Its bytes, not copied. */
  string(): Buffer | undefined {
    const size = this.uint32();
    if (size === undefined) return undefined;
    const at = this.#at;
    this.#at += size;
    return this.#at <= this.#packet.length ? this.#packet.subarray(at, this.#at) : undefined;
  }

  text(): string | undefined {
    return this.string()?.toString('utf8');
  }
}
