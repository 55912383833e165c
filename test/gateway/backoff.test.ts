import { expect, test } from 'vitest';
import { Backoff } from '../../supervisor/gateway/backoff.ts';

const almostOne = () => 0.999_999;

test('the first redial spreads over the window, later ones over 1 s doubling to 60 s', () => {
  const backoff = new Backoff(almostOne);
  const delays = Array.from({ length: 10 }, () => Math.round(backoff.next()));
  expect(delays).toEqual([10_000, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000, 60_000]);
});

test('redials have full jitter: the least delay is none', () => {
  const backoff = new Backoff(() => 0);
  expect([backoff.next(), backoff.next(), backoff.next()]).toEqual([0, 0, 0]);
});

test('only a session that stood for 60 s starts the sequence anew', () => {
  const backoff = new Backoff(almostOne);
  for (let attempt = 0; attempt < 4; attempt += 1) backoff.next();
  backoff.ended(59_999);
  expect(Math.round(backoff.next())).toBe(8_000);
  backoff.ended(60_000);
  expect(Math.round(backoff.next())).toBe(10_000);
});

test('the gateway may set the window from 5 to 120 s, and nothing else', () => {
  for (const [wish, expected] of [
    [30, 30_000],
    [5, 5_000],
    [120, 120_000],
    [0, 10_000],
    [4, 10_000],
    [121, 10_000],
  ] as const) {
    const backoff = new Backoff(almostOne);
    backoff.setWindow(wish);
    expect(Math.round(backoff.next())).toBe(expected);
  }
});

test('refused credentials are tried again after 15 to 30 s at first and never faster than 5 min in the end', () => {
  expect(new Backoff(() => 0).nextAfterRefusal()).toBe(15_000);
  const backoff = new Backoff(() => 0);
  for (let attempt = 0; attempt < 40; attempt += 1) backoff.nextAfterRefusal();
  expect(backoff.nextAfterRefusal()).toBe(300_000);
});
