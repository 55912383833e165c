import {
  type Answer,
  type AnswerRecord,
  CLASS_IN,
  MAX_UDP_BYTES,
  PLAIN_UDP_BYTES,
  type Query,
  type Question,
  type Rejected,
  TYPE,
} from './message.ts';

/** A pointer to the question's name, which always begins behind the header (RFC 1035, 4.1.4). */
const QUESTION_NAME = 0xc00c;
const EDE_OPTION = 15;
const MAX_EXTENDED_TEXT = 200;

const OPT_BYTES = 11;

function encodeHeader(
  fields: { readonly id: number; readonly flags: number; readonly rcode: number },
  counts: readonly [questions: number, answers: number, additional: number],
): Buffer {
  const header = Buffer.alloc(12);
  header.writeUInt16BE(fields.id, 0);
  // A response; recursion is available, or Go takes an empty answer for a lame server's.
  header.writeUInt16BE(0x8080 | fields.flags | (fields.rcode & 0xf), 2);
  header.writeUInt16BE(counts[0], 4);
  header.writeUInt16BE(counts[1], 6);
  header.writeUInt16BE(counts[2], 10);
  return header;
}

function encodeQuestion(question: Question): Buffer {
  const tail = Buffer.alloc(4);
  tail.writeUInt16BE(question.type, 0);
  tail.writeUInt16BE(question.class, 2);
  return Buffer.concat([question.wire, tail]);
}

/** A name's wire form; names here come from questions, so every label fits. */
function encodeName(name: string): Buffer {
  const parts: Buffer[] = [];
  for (const label of name.split('.')) parts.push(Buffer.from([label.length]), Buffer.from(label, 'latin1'));
  return Buffer.concat([...parts, Buffer.from([0])]);
}

function encodeRecord(record: AnswerRecord): Buffer {
  const data =
    record.type === 'A' ? Buffer.from(record.address.split('.').map(Number)) : encodeName(record.name);
  const head = Buffer.alloc(12);
  head.writeUInt16BE(QUESTION_NAME, 0);
  head.writeUInt16BE(TYPE[record.type], 2);
  head.writeUInt16BE(CLASS_IN, 4);
  head.writeUInt32BE(record.ttl, 6);
  head.writeUInt16BE(data.length, 10);
  return Buffer.concat([head, data]);
}

/** The OPT record of an answer (RFC 6891, 6.1.2), with an extended error (RFC 8914) when there is one. */
function encodeOpt(rcode: number, extended: Answer['extended']): Buffer {
  const text = Buffer.from(extended?.text ?? '').subarray(0, MAX_EXTENDED_TEXT);
  const option = Buffer.alloc(extended === undefined ? 0 : 6 + text.length);
  if (extended !== undefined) {
    option.writeUInt16BE(EDE_OPTION, 0);
    option.writeUInt16BE(2 + text.length, 2);
    option.writeUInt16BE(extended.code, 4);
    text.copy(option, 6);
  }
  const head = Buffer.alloc(OPT_BYTES);
  head.writeUInt16BE(TYPE.OPT, 1);
  head.writeUInt16BE(MAX_UDP_BYTES, 3);
  head.writeUInt8(rcode >> 4, 5);
  head.writeUInt16BE(option.length, 9);
  return Buffer.concat([head, option]);
}

/** How large an answer over UDP may be for the sender of a query. */
export const udpLimit = ({ edns }: Query): number =>
  edns === undefined ? PLAIN_UDP_BYTES : Math.min(Math.max(edns.udpBytes, PLAIN_UDP_BYTES), MAX_UDP_BYTES);

/**
 * Writes the answer to a query in at most `limit` bytes (512 or more). What does not fit is left out whole: first the
 * text of an extended error, then every record, with the TC bit set so that the sender asks again over TCP.
 */
export function encodeAnswer(query: Query, answer: Answer, limit: number): Buffer {
  const flags = (query.recursionDesired ? 0x0100 : 0) | (query.checkingDisabled ? 0x0010 : 0);
  const question = encodeQuestion(query.question);
  const write = (records: readonly AnswerRecord[], extended: Answer['extended'], more: number): Buffer => {
    const opt = query.edns === undefined ? [] : [encodeOpt(answer.rcode, extended)];
    const header = encodeHeader({ id: query.id, flags: flags | more, rcode: answer.rcode }, [
      1,
      records.length,
      opt.length,
    ]);
    return Buffer.concat([header, question, ...records.map(encodeRecord), ...opt]);
  };
  const whole = write(answer.records, answer.extended, 0);
  if (whole.length <= limit) return whole;
  const plain = write(answer.records, undefined, 0);
  return plain.length <= limit ? plain : write([], undefined, 0x0200);
}

/** Writes the answer to a message that is no query of ours; undefined when it is to be met with silence. */
export function encodeRejection(rejected: Rejected): Buffer | undefined {
  if (rejected.kind === 'silence') return undefined;
  const { id, opcode, recursionDesired, rcode, question, edns } = rejected;
  const flags = (opcode << 11) | (recursionDesired ? 0x0100 : 0);
  return Buffer.concat([
    encodeHeader({ id, flags, rcode }, [question === undefined ? 0 : 1, 0, edns ? 1 : 0]),
    ...(question === undefined ? [] : [encodeQuestion(question)]),
    ...(edns ? [encodeOpt(rcode, undefined)] : []),
  ]);
}
