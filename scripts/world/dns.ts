/**
 * As much of DNS (RFC 1035) as the world needs: one question, addresses in the answer.
 */
export interface Question {
  readonly id: number;
  readonly name: string;
  readonly type: number;
  /** Offset of the first byte behind the question. */
  readonly end: number;
}

export const TYPE_A = 1;
export const TYPE_AAAA = 28;
const HEADER = 12;
const ANSWER_SECONDS = 5;

/** Reads the question of a query; undefined when the message is none or is damaged. */
export const readQuestion = (message: Buffer): Question | undefined => {
  if (message.length < HEADER || (message.readUInt16BE(2) & 0x8000) !== 0) return undefined;
  if (message.readUInt16BE(4) !== 1) return undefined;
  const labels: string[] = [];
  let at = HEADER;
  for (;;) {
    const length = message[at];
    // A query has no reason to compress, so a pointer is damage.
    if (length === undefined || length > 63) return undefined;
    if (length === 0) break;
    labels.push(message.toString('latin1', at + 1, at + 1 + length));
    at += 1 + length;
  }
  if (at + 5 > message.length) return undefined;
  const name = labels.join('.').toLowerCase();
  return { id: message.readUInt16BE(0), name, type: message.readUInt16BE(at + 1), end: at + 5 };
};

const record = (type: number, data: Buffer): Buffer => {
  const head = Buffer.alloc(12);
  head.writeUInt16BE(0xc00c, 0); // the question's name
  head.writeUInt16BE(type, 2);
  head.writeUInt16BE(1, 4);
  head.writeUInt32BE(ANSWER_SECONDS, 6);
  head.writeUInt16BE(data.length, 10);
  return Buffer.concat([head, data]);
};

/** The answer to a query: the addresses of a known name, NXDOMAIN (`addresses` undefined) for others. */
export const answer = (
  message: Buffer,
  question: Question,
  addresses: readonly string[] | undefined,
): Buffer => {
  const found = question.type === TYPE_A ? (addresses ?? []) : [];
  const head = Buffer.alloc(HEADER);
  head.writeUInt16BE(question.id, 0);
  head.writeUInt16BE(0x8580 | (addresses === undefined ? 3 : 0), 2); // answer, authoritative, recursion
  head.writeUInt16BE(1, 4);
  head.writeUInt16BE(found.length, 6);
  const records = found.map((address) => record(TYPE_A, Buffer.from(address.split('.').map(Number))));
  return Buffer.concat([head, message.subarray(HEADER, question.end), ...records]);
};
