import { expect, test } from 'vitest';
import { acceptInterval, Heartbeat } from '../../supervisor/gateway/heartbeat.ts';
import { VirtualClock } from './virtual-clock.ts';

function beating(random: () => number) {
  const clock = new VirtualClock();
  const beats: number[] = [];
  const silences: number[] = [];
  const heartbeat = new Heartbeat({
    clock,
    random,
    intervalMs: 14_000,
    beat: () => beats.push(clock.now()),
    onSilence: () => silences.push(clock.now()),
  });
  return { clock, beats, silences, heartbeat };
}

test('an interval from 5 to 300 s is accepted, any other becomes 15 s', () => {
  expect([0, 4, 5, 15, 300, 301].map(acceptInterval)).toEqual([
    15_000, 15_000, 5_000, 15_000, 300_000, 15_000,
  ]);
});

test('the first beat falls anywhere in the interval, each later one after 6/7 of it at the least', () => {
  const { clock, beats } = beating(() => 0);
  clock.run(24_500);
  expect(beats.map(Math.round)).toEqual([0, 12_000, 24_000]);
});

test('no two beats are further apart than the interval', () => {
  const { clock, beats } = beating(() => 1);
  clock.run(42_500);
  expect(beats.map(Math.round)).toEqual([14_000, 28_000, 42_000]);
});

test('a link is dead after three silent intervals, told once, and anything heard starts them anew', () => {
  const { clock, silences, heartbeat } = beating(() => 0.5);
  clock.run(41_000);
  heartbeat.heard();
  clock.run(41_999);
  expect(silences).toEqual([]);
  clock.run(100_000);
  expect(silences).toEqual([83_000]);
});

test('nothing happens after the stop', () => {
  const { clock, beats, silences, heartbeat } = beating(() => 0.5);
  heartbeat.stop();
  clock.run(200_000);
  expect([...beats, ...silences]).toEqual([]);
});
