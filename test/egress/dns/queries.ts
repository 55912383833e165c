/** DNS messages as a client writes and reads them; written apart from the code under test. */

export interface AskOptions {
  readonly id?: number;
  readonly flags?: number;
  readonly type?: number;
  readonly class?: number;
  /** EDNS with this UDP size. */
  readonly edns?: number;
}

export const wireName = (name: string): Buffer =>
  Buffer.concat([
    ...name
      .split('.')
      .filter((label) => label !== '')
      .map((label) => Buffer.concat([Buffer.from([label.length]), Buffer.from(label, 'latin1')])),
    Buffer.from([0]),
  ]);

const words = (...numbers: readonly number[]): Buffer => {
  const buffer = Buffer.alloc(2 * numbers.length);
  for (const [index, number] of numbers.entries()) buffer.writeUInt16BE(number, 2 * index);
  return buffer;
};

export const ask = (name: string, options: AskOptions = {}): Buffer =>
  Buffer.concat([
    words(options.id ?? 7, options.flags ?? 0x0100, 1, 0, 0, options.edns === undefined ? 0 : 1),
    wireName(name),
    words(options.type ?? 1, options.class ?? 1),
    ...(options.edns === undefined
      ? []
      : [Buffer.from([0]), words(41, options.edns), Buffer.from([0, 0, 0, 0]), words(0)]),
  ]);

export interface Reply {
  readonly id: number;
  readonly flags: number;
  readonly rcode: number;
  readonly truncated: boolean;
  readonly question: string;
  readonly answers: readonly {
    readonly name: string;
    readonly type: number;
    readonly ttl: number;
    readonly data: Buffer;
  }[];
  readonly edns: { readonly udpBytes: number; readonly version: number; readonly data: Buffer } | undefined;
}

/** Reads a reply, and throws unless every byte of it is accounted for. */
export function readReply(message: Buffer): Reply {
  let at = 12;
  const name = (): string => {
    const labels: string[] = [];
    let place = at;
    let jumped = false;
    for (;;) {
      const length = message.readUInt8(place);
      if (length >= 0xc0) {
        if (!jumped) at = place + 2;
        jumped = true;
        place = message.readUInt16BE(place) & 0x3fff;
        continue;
      }
      if (length === 0) break;
      labels.push(message.toString('latin1', place + 1, place + 1 + length));
      place += 1 + length;
    }
    if (!jumped) at = place + 1;
    return labels.join('.');
  };
  const [questions, answers, authority, additional] = [4, 6, 8, 10].map((offset) =>
    message.readUInt16BE(offset),
  );
  if (authority !== 0) throw new Error('an authority section');
  let question = '';
  for (let i = 0; i < (questions ?? 0); i++) {
    question = name();
    at += 4;
  }
  const record = () => {
    const owner = name();
    const [type, klass, ttl] = [
      message.readUInt16BE(at),
      message.readUInt16BE(at + 2),
      message.readUInt32BE(at + 4),
    ];
    const data = message.subarray(at + 10, at + 10 + message.readUInt16BE(at + 8));
    at += 10 + data.length;
    return { name: owner, type, class: klass, ttl, data };
  };
  const found = Array.from({ length: answers ?? 0 }, record);
  const more = Array.from({ length: additional ?? 0 }, record);
  if (at !== message.length) throw new Error(`${message.length - at} bytes left over`);
  const opt = more.find(({ type }) => type === 41);
  const flags = message.readUInt16BE(2);
  return {
    id: message.readUInt16BE(0),
    flags,
    rcode: (flags & 15) | (((opt?.ttl ?? 0) >>> 24) << 4),
    truncated: (flags & 0x0200) !== 0,
    question,
    answers: found,
    edns: opt && { udpBytes: opt.class, version: (opt.ttl >> 16) & 255, data: opt.data },
  };
}
