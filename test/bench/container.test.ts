import { expect, test } from 'vitest';
import { parseOutput } from '../../scripts/bench/container.ts';

const OUTPUT = `@bench mechanism socket fence; files: landlock
@bench side confined warm-up
@bench time 99 spawn
socket 99
@bench side unconfined counted
socket 10.5
@bench time 1.5 spawn of true
@bench side confined counted
socket 20
some words of a program
@bench time 2.5 spawn of true
`;

test('figures are told apart by side, and those of the warm-up left out', () => {
  const read = parseOutput(`${OUTPUT}@bench done\n`);
  expect(read).toMatchObject({ done: true, rounds: 1, mechanism: 'socket fence; files: landlock' });
  expect(read.values('unconfined', 'socket')).toEqual([10.5]);
  expect(read.values('confined', 'socket')).toEqual([20]);
  expect(read.values('unconfined', 'spawn of true')).toEqual([1.5]);
  expect(read.values('confined', 'spawn of true')).toEqual([2.5]);
  expect(read.values('confined', 'spawn')).toEqual([]);
});

test('output that breaks off is not done', () => {
  expect(parseOutput(OUTPUT).done).toBe(false);
  expect(parseOutput('').done).toBe(false);
});
