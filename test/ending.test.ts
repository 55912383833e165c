import { describe, expect, test } from 'vitest';
import { Ending } from '../supervisor/ending.ts';
import { VirtualClock } from './gateway/virtual-clock.ts';

describe('the end', () => {
  test('leaves the workload all of the grace but 5 s, and never less than half', () => {
    const { clock } = setUp();
    expect([30_000, 8_000, 1_000, 0].map((ms) => new Ending(clock, ms).workloadMs)).toEqual([
      25_000, 4_000, 500, 0,
    ]);
  });

  test('bounds nothing while nobody asks for it', () => {
    const { ending, pass } = setUp();
    pass(100_000);
    expect([ending.begun, ending.left(10_000)]).toEqual([false, 10_000]);
  });

  test('bounds every step by what is left of the grace since the first signal', () => {
    const { ending, pass } = setUp();
    expect(ending.asked()).toBe('begun');
    pass(24_000);
    expect(ending.left(10_000)).toBe(6_000);
    expect(ending.left(3_000)).toBe(3_000);
    pass(6_001);
    expect(ending.left(3_000)).toBe(0);
  });

  test('is over within a second of the second signal, also for a step that is under way', async () => {
    const { ending, pass } = setUp();
    ending.asked();
    const step = ending.hurriedOr(new Promise<string>(() => undefined), 'late');
    expect(ending.asked()).toBe('hurried');
    expect(ending.left(10_000)).toBe(1_000);
    pass(1_000);
    expect(await step).toBe('late');
    expect(await ending.hurriedOr(Promise.resolve('in time'), 'late')).toBe('in time');
  });

  test('lets others wait no longer than a grace that begins only meanwhile, and a hurry', async () => {
    for (const hurried of [false, true]) {
      const { ending, pass } = setUp();
      let over = 'waits';
      void ending.overOr(new Promise<string>(() => undefined), 'over').then((what) => {
        over = what;
      });
      pass(100_000);
      ending.asked();
      if (hurried) ending.asked();
      pass(hurried ? 999 : 29_999);
      await new Promise(setImmediate);
      expect(over).toBe('waits');
      pass(1);
      await new Promise(setImmediate);
      expect(over).toBe('over');
    }
  });
});

function setUp() {
  const clock = new VirtualClock();
  return { clock, ending: new Ending(clock, 30_000), pass: (ms: number) => clock.run(ms) };
}
