import { expect, test } from 'vitest';
import { MainStart } from '../../supervisor/workload/main-start.ts';
import { VirtualClock } from '../gateway/virtual-clock.ts';

test('tells who asked too early as soon as it is known, and everybody else at once', async () => {
  const clock = new VirtualClock();
  const start = new MainStart(clock);
  const early = [start.pid(), start.pid()];
  start.began(42);
  expect(await Promise.all(early)).toEqual([42, 42]);
  expect(start.pid()).toBe(42);
});

test('keeps nobody waiting for longer than five seconds', async () => {
  const clock = new VirtualClock();
  const start = new MainStart(clock);
  const asked = start.pid();
  let answer: unknown = 'none';
  void Promise.resolve(asked).then((pid) => {
    answer = pid;
  });
  clock.run(4_999);
  await Promise.resolve();
  expect(answer).toBe('none');
  clock.run(1);
  await asked;
  expect(answer).toBeUndefined();
  start.began(42);
  expect(start.pid()).toBe(42);
});
