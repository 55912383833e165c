import { expect, test } from 'vitest';
import { SessionPlaces, WorkAdmission } from '../../../supervisor/egress/middleware/admission.ts';

test('work is taken in turn, so much at once, so much in line, and no more', async () => {
  const work = new WorkAdmission(2, 2);
  const [one, two] = [await work.enter(), await work.enter()];
  const order: string[] = [];
  const entered = async (name: string) => {
    const release = await work.enter();
    order.push(name);
    return release;
  };
  const [third, fourth] = [entered('third'), entered('fourth')];
  expect(await work.enter()).toBeUndefined();
  one?.();
  one?.(); // the second time it does nothing
  const release = await third;
  expect(order).toEqual(['third']);
  release?.();
  (await fourth)?.();
  two?.();
  expect(order).toEqual(['third', 'fourth']);
  expect([await work.enter(), await work.enter()]).toEqual([expect.any(Function), expect.any(Function)]);
});

test('there are 32 places for sessions, and one that is given back twice is one', () => {
  const places = new SessionPlaces();
  const taken = Array.from({ length: 32 }, () => places.take());
  expect(taken).not.toContain(undefined);
  expect(places.take()).toBeUndefined();
  taken[0]?.();
  taken[0]?.();
  expect([places.take() === undefined, places.take()]).toEqual([false, undefined]);
});
