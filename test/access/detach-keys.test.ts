import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { DetachKeys } from '../../supervisor/access/detach-keys.ts';

const typed = (...pieces: readonly string[]) => {
  const keys = new DetachKeys();
  let passed = '';
  for (const piece of pieces) {
    const taken = keys.take(Buffer.from(piece, 'latin1'));
    passed += taken.passed.toString('latin1');
    if (taken.detached) return { passed, detached: true };
  }
  return { passed, detached: false };
};

describe('the keys that detach', () => {
  test.each([
    [['a\x10\x11b'], 'a', true],
    [['a\x10', '\x11'], 'a', true],
    [['\x10\x10\x11'], '\x10', true],
    [['\x10a\x11'], '\x10a\x11', false],
    [['\x11\x10'], '\x11', false],
    [['\x10', 'x'], '\x10x', false],
  ])('%j', (pieces, passed, detached) => expect(typed(...pieces)).toEqual({ passed, detached }));

  test('lose nothing of what is typed, however its pieces fall', () => {
    fc.assert(
      fc.property(fc.array(fc.string({ unit: fc.constantFrom('\x10', 'a', 'b') })), (pieces) => {
        const all = pieces.join('');
        // The last key may still wait for the one that follows.
        expect(`${typed(...pieces).passed}\x10`.startsWith(all) || typed(...pieces).passed === all).toBe(
          true,
        );
      }),
    );
  });
});
