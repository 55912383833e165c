import { expect, test } from 'vitest';
import { Backoff } from '../../supervisor/gateway/backoff.ts';

const almostOne = () => 0.999_999;

test('the first redial spreads over the window, later ones over twice the window doubling to 60 s', () => {
  const backoff = new Backoff(almostOne);
  const delays = Array.from({ length: 6 }, () => Math.round(backoff.next()));
  expect(delays).toEqual([10_000, 20_000, 40_000, 60_000, 60_000, 60_000]);
});

test('no later range is narrower than twice the window, also when the gateway made that wide', () => {
  const backoff = new Backoff(almostOne);
  backoff.setWindow(120);
  const delays = Array.from({ length: 4 }, () => Math.round(backoff.next()));
  expect(delays).toEqual([120_000, 240_000, 240_000, 240_000]);
});

test('what the gateway asked for comes on top of the jitter, so that a fleet told the same spreads', () => {
  expect(new Backoff(() => 0).next(5_000)).toBe(5_000);
  expect(Math.round(new Backoff(almostOne).next(5_000))).toBe(15_000);
  expect(new Backoff(() => 0).nextAfterRefusal(60_000)).toBe(75_000);
});

test('redials have full jitter: the least delay is none', () => {
  const backoff = new Backoff(() => 0);
  expect([backoff.next(), backoff.next(), backoff.next()]).toEqual([0, 0, 0]);
});

test('only a session that stood for 60 s starts the sequence anew', () => {
  const backoff = new Backoff(almostOne);
  backoff.next();
  backoff.ended(59_999);
  expect(Math.round(backoff.next())).toBe(20_000);
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
