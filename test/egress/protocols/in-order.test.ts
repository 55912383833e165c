import fc from 'fast-check';
import { expect, test } from 'vitest';
import { InOrder } from '../../../supervisor/egress/protocols/in-order.ts';

test('tasks run one after the other, whichever take their time and whichever fail', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.constantFrom('now', 'later', 'fails')), async (kinds) => {
      const order = new InOrder();
      const done: number[] = [];
      let running = 0;
      for (const [index, kind] of kinds.entries())
        order.run(() => {
          expect(running).toBe(0);
          if (kind === 'now') {
            done.push(index);
            return undefined;
          }
          running += 1;
          return new Promise<void>((resolve, reject) =>
            setImmediate(() => {
              running -= 1;
              done.push(index);
              if (kind === 'fails') reject(new Error('failed'));
              else resolve();
            }),
          );
        });
      await order.idle();
      expect(done).toEqual(kinds.map((_, index) => index));
    }),
    { numRuns: 60 },
  );
});

test('a task that takes no time is done at once where none is under way', () => {
  const order = new InOrder();
  let done = false;
  order.run(() => {
    done = true;
    return undefined;
  });
  expect(done).toBe(true);
});
