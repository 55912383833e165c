import { err, ok, type Result } from '../../result.ts';
import {
  CLASS_IN,
  HEADER_BYTES,
  type Query,
  type Question,
  RCODE,
  type Rcode,
  type Rejected,
  TYPE,
} from './message.ts';

const MAX_NAME_BYTES = 255;
const MAX_LABEL_BYTES = 63;
/** More records behind the question than any client sends: OPT, and TSIG or SIG(0) perhaps. */
const MAX_ADDITIONAL = 4;
const HOST_LABEL = /^[A-Za-z0-9_-]+$/;

/** A name on the wire: how far it goes, and its text when it could be a host. */
interface WireName {
  readonly end: number;
  readonly text: string | undefined;
}

/**
 * Reads a name (RFC 1035, 3.1) without compression: nothing lies before the first name that it could point
 * to. Undefined when it does not fit, or is no name.
 */
function readName(message: Buffer, start: number): WireName | undefined {
  const labels: string[] = [];
  let isHost = true;
  let at = start;
  for (;;) {
    const length = message[at];
    if (length === undefined || length > MAX_LABEL_BYTES) return undefined;
    at += 1;
    if (at + length > message.length || at + length - start > MAX_NAME_BYTES) return undefined;
    if (length === 0) break;
    const label = message.toString('latin1', at, at + length);
    isHost &&= HOST_LABEL.test(label);
    labels.push(label);
    at += length;
  }
  return { end: at, text: isHost ? labels.join('.').toLowerCase() : undefined };
}

/** A record of the additional section. */
interface Additional {
  readonly type: number;
  readonly class: number;
  readonly ttl: number;
  readonly isRoot: boolean;
  readonly dataStart: number;
  readonly end: number;
}

function readAdditional(message: Buffer, start: number): Additional | undefined {
  const isPointer = ((message[start] ?? 0) & 0xc0) === 0xc0;
  const name = isPointer ? undefined : readName(message, start);
  const at = isPointer ? start + 2 : name?.end;
  if (at === undefined || at + 10 > message.length) return undefined;
  const end = at + 10 + message.readUInt16BE(at + 8);
  if (end > message.length) return undefined;
  return {
    type: message.readUInt16BE(at),
    class: message.readUInt16BE(at + 2),
    ttl: message.readUInt32BE(at + 4),
    isRoot: name?.end === start + 1,
    dataStart: at + 10,
    end,
  };
}

/** Whether the options in an OPT record's data fill it exactly (RFC 6891, 6.1.2). */
function optionsFit(message: Buffer, start: number, end: number): boolean {
  let at = start;
  while (at < end) {
    if (at + 4 > end) return false;
    at += 4 + message.readUInt16BE(at + 2);
  }
  return at === end;
}

/**
 * Reads a DNS query strictly (RFC 1035, 4; RFC 6891): one question and nothing else but EDNS, no byte left over. Never
 * throws and takes time in proportion to the message. The error says what to tell the sender.
 */
export function decodeQuery(message: Buffer): Result<Query, Rejected> {
  if (message.length < HEADER_BYTES) return err({ kind: 'silence', why: 'shorter than a header' });
  const id = message.readUInt16BE(0);
  const flags = message.readUInt16BE(2);
  if ((flags & 0x8000) !== 0) return err({ kind: 'silence', why: 'a response' });
  const opcode = (flags >> 11) & 0xf;
  const recursionDesired = (flags & 0x0100) !== 0;
  let question: Question | undefined;
  let hasEdns = false;
  const refuse = (rcode: Rcode, why: string): Result<Query, Rejected> =>
    err({ kind: 'refusal', rcode, why, id, opcode, recursionDesired, question, edns: hasEdns });

  if (opcode !== 0) return refuse(RCODE.NOTIMP, `opcode ${opcode}`);
  if ((flags & 0x0200) !== 0) return refuse(RCODE.FORMERR, 'a truncated query');
  if (message.readUInt16BE(4) !== 1) return refuse(RCODE.FORMERR, 'not exactly one question');
  if (message.readUInt16BE(6) !== 0 || message.readUInt16BE(8) !== 0)
    return refuse(RCODE.FORMERR, 'records where a query has none');
  const additional = message.readUInt16BE(10);
  if (additional > MAX_ADDITIONAL) return refuse(RCODE.FORMERR, 'too many additional records');

  const name = readName(message, HEADER_BYTES);
  if (name === undefined || name.end + 4 > message.length)
    return refuse(RCODE.FORMERR, 'the question cannot be read');
  question = {
    wire: message.subarray(HEADER_BYTES, name.end),
    name: name.text,
    type: message.readUInt16BE(name.end),
    class: message.readUInt16BE(name.end + 2),
  };
  let at = name.end + 4;
  let edns: Query['edns'];
  for (let i = 0; i < additional; i++) {
    const record = readAdditional(message, at);
    if (record === undefined) return refuse(RCODE.FORMERR, 'an additional record cannot be read');
    if (record.type === TYPE.OPT) {
      if (edns !== undefined) return refuse(RCODE.FORMERR, 'EDNS twice');
      if (!record.isRoot || !optionsFit(message, record.dataStart, record.end))
        return refuse(RCODE.FORMERR, 'EDNS cannot be read');
      edns = { udpBytes: record.class };
      hasEdns = true;
      if (((record.ttl >> 16) & 0xff) !== 0) return refuse(RCODE.BADVERS, 'a later version of EDNS');
    }
    at = record.end;
  }
  if (at !== message.length) return refuse(RCODE.FORMERR, 'bytes behind the last record');
  if (question.class !== CLASS_IN) return refuse(RCODE.REFUSED, `class ${question.class}`);
  if (question.type === TYPE.AXFR || question.type === TYPE.IXFR)
    return refuse(RCODE.REFUSED, 'a zone transfer');
  if (question.type === TYPE.OPT) return refuse(RCODE.FORMERR, 'a question for EDNS');
  const checkingDisabled = (flags & 0x0010) !== 0;
  return ok({ id, recursionDesired, checkingDisabled, question, edns });
}
