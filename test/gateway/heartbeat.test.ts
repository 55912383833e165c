import { expect, test } from 'vitest';
import { acceptInterval, Heartbeat } from '../../supervisor/gateway/heartbeat.ts';
import { VirtualClock } from './virtual-clock.ts';

function beating(random: () => number) {
  const clock = new VirtualClock();
  const beats: number[] = [];
  const silences: number[] = [];
  const leaps: number[] = [];
  const heartbeat = new Heartbeat({
    clock,
    random,
    intervalMs: 14_000,
    beat: () => beats.push(clock.now()),
    onSilence: () => silences.push(clock.now()),
    onLeap: () => leaps.push(clock.now()),
  });
  return { clock, beats, silences, leaps, heartbeat };
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

test('a process that was frozen asks for a sign of life, and judges the link only an interval later', () => {
  const answered = beating(() => 0.5);
  answered.clock.run(20_000);
  answered.clock.freeze(600_000);
  answered.clock.run(0);
  expect(answered.silences).toEqual([]);
  expect(answered.leaps).toHaveLength(1);
  answered.heartbeat.heard(); // what had come in meanwhile
  answered.clock.run(40_000);
  expect(answered.silences).toEqual([]);
  const silent = beating(() => 0.5);
  silent.clock.run(20_000);
  silent.clock.freeze(600_000);
  silent.clock.run(14_000);
  expect(silent.silences).toHaveLength(1);
});

test('beats that a freeze delayed are made up for by one, not by all', () => {
  const { clock, beats } = beating(() => 0.5);
  clock.run(20_000);
  const before = beats.length;
  clock.freeze(600_000);
  clock.run(0);
  expect(beats.length - before).toBe(1);
});

test('a sleep, which the wall clock counts and the monotonic one does not, asks for a sign of life at the next beat', () => {
  const { clock, leaps } = beating(() => 0.5);
  clock.run(8_000);
  clock.leap(-3_600_000); // a step back is no sleep
  clock.run(14_000);
  expect(leaps).toHaveLength(0);
  clock.leap(7_200_000);
  clock.run(14_000);
  expect(leaps).toHaveLength(1);
});
