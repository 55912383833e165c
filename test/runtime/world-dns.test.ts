import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { answer, readQuestion } from '../../scripts/world/dns.ts';

const query = (name: string, type: number): Buffer => {
  const head = Buffer.from([0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
  const labels = name.split('.').map((label) => Buffer.from([label.length, ...Buffer.from(label)]));
  return Buffer.concat([head, ...labels, Buffer.from([0, 0, type, 0, 1])]);
};

describe("the world's DNS", () => {
  it('answers a known name with its addresses', () => {
    const message = query('Api.Allowed.test', 1);
    const question = readQuestion(message);
    expect(question).toMatchObject({ id: 0x1234, name: 'api.allowed.test', type: 1 });
    if (question === undefined) return;
    const reply = answer(message, question, ['198.51.100.10']);
    expect(reply.readUInt16BE(2)).toBe(0x8580);
    expect(reply.readUInt16BE(6)).toBe(1);
    expect([...reply.subarray(-4)]).toEqual([198, 51, 100, 10]);
  });

  it('has no IPv6 address for a known name, and NXDOMAIN for an unknown one', () => {
    const message = query('a.test', 28);
    const question = readQuestion(message);
    if (question === undefined) throw new Error('not read');
    expect(answer(message, question, ['198.51.100.10']).readUInt16BE(2) & 0xf).toBe(0);
    expect(answer(message, question, ['198.51.100.10']).readUInt16BE(6)).toBe(0);
    expect(answer(message, question, undefined).readUInt16BE(2) & 0xf).toBe(3);
  });

  it('reads any bytes without failing', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 600 }), (bytes) => {
        const question = readQuestion(Buffer.from(bytes));
        expect(question === undefined || question.end <= bytes.length).toBe(true);
      }),
    );
  });
});
