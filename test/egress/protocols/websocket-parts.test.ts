import type { IncomingMessage } from 'node:http';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { FrameBoundary } from '../../../supervisor/egress/protocols/frame-boundary.ts';
import {
  agreedDeflate,
  handshakeFault,
  isAccepted,
  readableOffer,
} from '../../../supervisor/egress/protocols/websocket-handshake.ts';
import { closeReason } from '../../../supervisor/egress/protocols/websocket-messages.ts';
import { frame } from '../websocket-fixture.ts';

describe('the boundary of frames', () => {
  test('is where it was written, however the bytes are cut', () => {
    const anyFrame = fc
      .record({
        opcode: fc.constantFrom(0, 1, 2, 9, 10),
        size: fc.oneof(fc.nat({ max: 130 }), fc.constantFrom(125, 126, 127, 65_535, 65_536, 70_000)),
        mask: fc.boolean(),
        fin: fc.boolean(),
      })
      .map(({ opcode, size, mask, fin }) => frame(opcode, Buffer.alloc(size, 0x88), { mask, fin }));
    fc.assert(
      fc.property(
        fc.array(anyFrame, { maxLength: 5 }),
        fc.array(fc.integer({ min: 1, max: 3000 }), { minLength: 1 }),
        (frames, cuts) => {
          const boundary = new FrameBoundary();
          const bytes = Buffer.concat(frames);
          const ends = new Set([0]);
          let end = 0;
          for (const one of frames) {
            end += one.length;
            ends.add(end);
          }
          expect(boundary.between).toBe(true);
          for (let at = 0, turn = 0; at < bytes.length; turn++) {
            const next = Math.min(bytes.length, at + (cuts[turn % cuts.length] ?? 1));
            boundary.push(bytes.subarray(at, next));
            at = next;
            expect(boundary.between).toBe(ends.has(at));
          }
        },
      ),
    );
  });

  test('is none behind a close frame, and any bytes are followed without throwing', () => {
    const boundary = new FrameBoundary();
    boundary.push(frame(8, '', { mask: false }));
    expect(boundary.between).toBe(false);
    boundary.push(frame(1, 'x'));
    expect(boundary.between).toBe(false);
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 40 })), (chunks) => {
        const any = new FrameBoundary();
        for (const chunk of chunks) any.push(chunk);
        expect(typeof any.between).toBe('boolean');
      }),
      { numRuns: 2000 },
    );
  });
});

describe('the parts of a handshake', () => {
  const request = (headers: Record<string, string>, more: Partial<IncomingMessage> = {}): IncomingMessage =>
    ({
      method: 'GET',
      httpVersion: '1.1',
      headers: Object.fromEntries(
        Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]),
      ),
      rawHeaders: Object.entries(headers).flat(),
      ...more,
    }) as IncomingMessage;
  const whole = {
    Upgrade: 'websocket',
    'Sec-WebSocket-Version': '13',
    'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25jZQ==',
  };

  test('make a whole one, and nothing else does', () => {
    expect(handshakeFault(request(whole))).toBeUndefined();
    expect(handshakeFault(request(whole, { method: 'POST' }))).toBeDefined();
    expect(handshakeFault(request(whole, { httpVersion: '1.0' }))).toBeDefined();
    for (const name of Object.keys(whole))
      expect(
        handshakeFault(request(Object.fromEntries(Object.entries(whole).filter(([key]) => key !== name)))),
      ).toBeDefined();
    fc.assert(
      fc.property(fc.dictionary(fc.constantFrom(...Object.keys(whole), 'X'), fc.string()), (headers) => {
        if (handshakeFault(request(headers)) === undefined)
          expect(headers['Sec-WebSocket-Version']).toBe('13');
      }),
    );
  });

  test('prove that the server has read the key (RFC 6455, 1.3)', () => {
    const key = 'dGhlIHNhbXBsZSBub25jZQ==';
    expect(isAccepted(key, [['sec-websocket-accept', 's3pPLMBiTxaQ9kYGzzhZRbK+xOo=']])).toBe(true);
    expect(isAccepted(key, [['sec-websocket-accept', 's3pPLMBiTxaQ9kYGzzhZRbK+xOp=']])).toBe(false);
    expect(isAccepted(key, [])).toBe(false);
  });

  test('offer and agree to compression alone', () => {
    const offer = (value: string) =>
      readableOffer([
        ['Sec-WebSocket-Extensions', value],
        ['X', '1'],
      ]);
    expect(offer('x-a, permessage-deflate; client_max_window_bits , x-b; c=1')).toEqual([
      ['X', '1'],
      ['Sec-WebSocket-Extensions', 'permessage-deflate; client_max_window_bits'],
    ]);
    expect(offer('x-a')).toEqual([['X', '1']]);
    const offered = [['Sec-WebSocket-Extensions', 'permessage-deflate']] as const;
    const agree = (...values: string[]) =>
      agreedDeflate(
        offered,
        values.map((value) => ['Sec-WebSocket-Extensions', value] as const),
        1000,
      );
    expect(agree()).toBeUndefined();
    expect(agree('')).toBeUndefined();
    expect(agree('permessage-deflate')).toBeDefined();
    expect(agree('permessage-deflate; server_no_context_takeover; client_no_context_takeover')).toBeDefined();
    for (const bad of [
      ['x-a'],
      ['permessage-deflate', 'x-a'],
      ['permessage-deflate, permessage-deflate'],
      ['permessage-deflate; x=1'],
      [';'],
      ['permessage-deflate; client_max_window_bits=7'],
    ])
      expect(() => agree(...bad)).toThrow();
    expect(() => agreedDeflate([], [['Sec-WebSocket-Extensions', 'permessage-deflate']], 1000)).toThrow();
  });
});

test('a close reason is UTF-8 of at most 123 bytes, and begins as what it was made of', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme', maxLength: 300 }), (text) => {
      const reason = closeReason(text);
      expect(Buffer.byteLength(reason)).toBeLessThanOrEqual(123);
      expect(Buffer.from(reason).toString()).toBe(reason);
      expect(
        text.toWellFormed().startsWith(reason) || text.slice(0, 123).toWellFormed().startsWith(reason),
      ).toBe(true);
      if (/^[ -~]{0,123}$/.test(text)) expect(reason).toBe(text);
    }),
  );
  expect(closeReason('\u{1f600}'.repeat(40))).toBe('\u{1f600}'.repeat(30));
});
