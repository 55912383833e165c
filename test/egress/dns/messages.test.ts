import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { decodeQuery } from '../../../supervisor/egress/dns/decode.ts';
import { encodeAnswer, encodeRejection, udpLimit } from '../../../supervisor/egress/dns/encode.ts';
import type { Answer, Query } from '../../../supervisor/egress/dns/message.ts';
import { ask, readReply, wireName } from './queries.ts';

const decoded = (message: Buffer): Query => {
  const query = decodeQuery(message);
  if (!query.ok) throw new Error(`refused: ${query.error.why}`);
  return query.value;
};
/** What the sender of a message that is refused is told. */
const told = (message: Buffer) => {
  const query = decodeQuery(message);
  if (query.ok) throw new Error('taken for a query');
  const reply = encodeRejection(query.error);
  return { kind: query.error.kind, reply: reply && readReply(reply) };
};
const patched = (message: Buffer, patch: Readonly<Record<number, number>>): Buffer => {
  const copy = Buffer.from(message);
  for (const [at, byte] of Object.entries(patch)) copy[Number(at)] = byte;
  return copy;
};
const address: Answer = { rcode: 0, records: [{ type: 'A', address: '127.64.0.9', ttl: 30 }] };

describe('a query', () => {
  test('is read with its name in lower case and its question as it came', () => {
    const query = decoded(ask('Api.ALLOWED.test', { id: 4711, edns: 4096 }));
    expect(query).toMatchObject({ id: 4711, recursionDesired: true, edns: { udpBytes: 4096 } });
    expect(query.question).toMatchObject({ name: 'api.allowed.test', type: 1, class: 1 });
    expect(query.question.wire).toEqual(wireName('Api.ALLOWED.test'));
  });
  test.each(['a b.test', 'a\0.test', 'ä.test', 'a/b.test', 'a@b', '*.test'])(
    'for %j names no host',
    (name) => {
      expect(decoded(ask(name)).question.name).toBeUndefined();
    },
  );
  test('for the root has an empty name', () => {
    expect(decoded(ask('')).question.name).toBe('');
  });
  test('may have a name of 255 bytes, and none of 256', () => {
    const labels = (last: number) =>
      ['a', 'b', 'c']
        .map((l) => l.repeat(63))
        .concat('d'.repeat(last))
        .join('.');
    expect(decoded(ask(labels(61))).question.name).toHaveLength(253);
    expect(told(ask(labels(62))).reply?.rcode).toBe(1);
  });
});

describe('what is no query of ours', () => {
  const good = ask('api.test');
  const end = good.length;
  test.each<[string, Buffer, number]>([
    ['an opcode other than QUERY', patched(good, { 2: 0x10 }), 4],
    ['the truncation bit', patched(good, { 2: 0x02 }), 1],
    ['no question', patched(good, { 5: 0 }).subarray(0, 12), 1],
    ['two questions', patched(good, { 5: 2 }), 1],
    ['an answer', patched(good, { 7: 1 }), 1],
    ['an authority record', patched(good, { 9: 1 }), 1],
    ['five additional records', patched(good, { 11: 5 }), 1],
    ['an additional record that is missing', patched(good, { 11: 1 }), 1],
    ['a byte left over', Buffer.concat([good, Buffer.from([0])]), 1],
    ['a question cut short', good.subarray(0, end - 1), 1],
    [
      'a compression pointer in the question',
      Buffer.concat([good.subarray(0, 12), Buffer.from([0xc0, 12, 0, 1, 0, 1])]),
      1,
    ],
    ['a label type of old', patched(good, { 12: 0x43 }), 1],
    [
      'EDNS twice',
      patched(Buffer.concat([ask('api.test', { edns: 512 }), ask('', { edns: 512 }).subarray(-11)]), {
        11: 2,
      }),
      1,
    ],
    [
      'EDNS that does not belong to the root',
      patched(Buffer.concat([good, wireName('a'), ask('', { edns: 512 }).subarray(-10)]), { 11: 1 }),
      1,
    ],
    [
      'EDNS whose options do not fill it',
      patched(Buffer.concat([ask('api.test', { edns: 512 }), Buffer.from([0, 1, 0])]), { [end + 10]: 3 }),
      1,
    ],
    ['a later version of EDNS', patched(ask('api.test', { edns: 512 }), { [end + 6]: 1 }), 16],
    ['class CHAOS', ask('version.bind', { class: 3, type: 16 }), 5],
    ['a zone transfer', ask('api.test', { type: 252 }), 5],
    ['a question for EDNS', ask('api.test', { type: 41 }), 1],
  ])('%s is refused by its code', (_, message, rcode) => {
    const { kind, reply } = told(message);
    expect(kind).toBe('refusal');
    expect(reply).toMatchObject({ id: 7, rcode, answers: [] });
    expect((reply?.flags ?? 0) & 0x8000).toBe(0x8000);
  });
  test.each([
    ['a response', patched(good, { 2: 0x81 })],
    ['half a header', good.subarray(0, 11)],
    ['nothing', Buffer.alloc(0)],
  ])('%s is met with silence', (_, message) => {
    expect(told(message)).toEqual({ kind: 'silence', reply: undefined });
  });
});

describe('an answer', () => {
  test('repeats id, question in its case, RD and CD, and says that recursion is available', () => {
    const reply = readReply(encodeAnswer(decoded(ask('Api.Test', { id: 9, flags: 0x0110 })), address, 512));
    expect(reply).toMatchObject({ id: 9, flags: 0x8190, question: 'Api.Test', edns: undefined });
    expect(reply.answers).toMatchObject([
      { name: 'Api.Test', type: 1, ttl: 30, data: Buffer.from([127, 64, 0, 9]) },
    ]);
  });
  test('carries EDNS only to who speaks it, with the extended error', () => {
    const denied: Answer = { rcode: 3, records: [], extended: { code: 15, text: 'no rule' } };
    expect(readReply(encodeAnswer(decoded(ask('x.test')), denied, 512))).toMatchObject({
      rcode: 3,
      edns: undefined,
    });
    const { rcode, edns } = readReply(encodeAnswer(decoded(ask('x.test', { edns: 1232 })), denied, 1232));
    expect(rcode).toBe(3);
    expect(edns).toMatchObject({ udpBytes: 1232, version: 0 });
    expect(edns?.data).toEqual(Buffer.concat([Buffer.from([0, 15, 0, 9, 0, 15]), Buffer.from('no rule')]));
  });
  test('that does not fit is truncated whole, and the extended text goes first', () => {
    const many: Answer = {
      rcode: 0,
      records: Array.from({ length: 60 }, () => ({ type: 'A', address: '127.64.0.1', ttl: 1 })),
    };
    const query = decoded(ask('x.test', { edns: 4096 }));
    expect(readReply(encodeAnswer(query, many, 512))).toMatchObject({
      truncated: true,
      answers: [],
      question: 'x.test',
    });
    expect(readReply(encodeAnswer(query, many, 65_535)).answers).toHaveLength(60);
    const told: Answer = {
      ...many,
      records: many.records.slice(0, 25),
      extended: { code: 0, text: 'x'.repeat(150) },
    };
    expect(readReply(encodeAnswer(query, told, 512))).toMatchObject({
      truncated: false,
      edns: { data: Buffer.alloc(0) },
    });
  });
  test.each([
    [undefined, 512],
    [100, 512],
    [600, 600],
    [65_535, 1232],
  ])('over UDP to who announces %s bytes has at most %i', (edns, limit) => {
    expect(udpLimit(decoded(ask('x.test', edns === undefined ? {} : { edns })))).toBe(limit);
  });
});

describe('whatever bytes come', { timeout: 60_000 }, () => {
  const expectSane = (message: Buffer): void => {
    const query = decodeQuery(message);
    if (query.ok) {
      const reply = encodeAnswer(query.value, address, 512);
      expect(reply.length).toBeLessThanOrEqual(512);
      expect(readReply(reply).id).toBe(message.readUInt16BE(0));
      return;
    }
    const reply = encodeRejection(query.error);
    if (reply === undefined) expect(message.length < 12 || ((message[2] ?? 0) & 0x80) !== 0).toBe(true);
    else expect([1, 4, 5, 16]).toContain(readReply(reply).rcode);
  };
  test('random ones are answered or refused, never thrown at', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 600 }), (bytes) => expectSane(Buffer.from(bytes))),
      { numRuns: 5000 },
    );
  });
  test('damaged queries too', () => {
    const damage = fc.array(fc.tuple(fc.nat(60), fc.nat(255)), { maxLength: 6 });
    fc.assert(
      fc.property(fc.domain(), fc.boolean(), damage, fc.nat(80), (name, edns, changes, length) => {
        const message = Buffer.from(ask(name, edns ? { edns: 1232 } : {}));
        for (const [at, byte] of changes) if (at < message.length) message[at] = byte;
        expectSane(message.subarray(0, Math.max(length, message.length - 3)));
      }),
      { numRuns: 5000 },
    );
  });
  test('every query of a host name is read as it was written', () => {
    fc.assert(
      fc.property(fc.domain(), fc.nat(65_535), fc.constantFrom(1, 12, 28, 64, 65, 255), (name, id, type) => {
        const query = decoded(ask(name, { id, type }));
        expect(query).toMatchObject({ id, question: { name: name.toLowerCase(), type } });
      }),
    );
  });
});
