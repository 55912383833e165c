import fc from 'fast-check';
import { expect, test } from 'vitest';
import { TerminalLines } from '../../supervisor/access/terminal-lines.ts';

test('the ends of lines are shown as a terminal shows them, wherever the pieces fall', () => {
  const pieces = fc.array(
    fc.array(fc.constantFrom('\n', '\r', 'a')).map((all) => all.join('')),
    { maxLength: 8 },
  );
  fc.assert(
    fc.property(pieces, (all) => {
      const lines = new TerminalLines();
      const shown = all.map((piece) => lines.shown(Buffer.from(piece)).toString()).join('');
      expect(shown).toBe(all.join('').replace(/(?<!\r)\n/g, '\r\n'));
      expect(lines.typed(Buffer.from(all.join(''))).toString()).toBe(all.join('').replaceAll('\r', '\n'));
    }),
  );
});
