import { describe, expect, test } from 'vitest';
import { RepeatLimiter } from '../../supervisor/observability/repeat-limiter.ts';
import { VirtualClock } from '../gateway/virtual-clock.ts';

const make = (maxKeys = 1024) => {
  const clock = new VirtualClock();
  const told: [string, number][] = [];
  const limiter = new RepeatLimiter({
    clock,
    burst: 3,
    windowMs: 1_000,
    maxKeys,
    onOverflow: (suppressed) => told.push(['overflow', suppressed]),
  });
  const happen = (key: string, times: number) => {
    let admitted = 0;
    for (let i = 0; i < times; i++)
      if (limiter.admit(key, (suppressed) => told.push([key, suppressed]))) admitted += 1;
    return admitted;
  };
  return { clock, told, limiter, happen };
};

describe('repeated events', () => {
  test('are told up to the burst of a window, and their number once when it is over', () => {
    const { clock, told, happen } = make();
    expect([happen('a', 10), happen('b', 2)]).toEqual([3, 2]);
    clock.run(999);
    expect(told).toEqual([]);
    clock.run(1);
    expect(told).toEqual([['a', 7]]);
    expect(happen('a', 1)).toBe(1);
    clock.run(60_000);
    expect(told).toEqual([['a', 7]]);
  });

  test('are told of at the end, though the window is not over', () => {
    const { clock, told, limiter, happen } = make();
    happen('a', 5);
    limiter.flush();
    clock.run(60_000);
    expect(told).toEqual([['a', 2]]);
  });

  test('of more keys than the bound share one, and not one is lost', () => {
    const { clock, told, happen } = make(4);
    let admitted = 0;
    for (let key = 0; key < 100; key++) admitted += happen(`k${key}`, 5);
    clock.run(1_000);
    expect(admitted).toBe(4 * 3 + 3);
    expect(told.at(-1)?.[0]).toBe('overflow');
    expect(told.reduce((sum, [, suppressed]) => sum + suppressed, admitted)).toBe(500);
  });
});
