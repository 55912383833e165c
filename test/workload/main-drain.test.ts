import { describe, expect, test } from 'vitest';
import { drainMain } from '../../supervisor/workload/main-drain.ts';
import { VirtualClock } from '../gateway/virtual-clock.ts';

const turn = () => new Promise((resolve) => setImmediate(resolve));

async function setUp() {
  const clock = new VirtualClock();
  const [exited, read, drained] = [
    Promise.withResolvers<void>(),
    Promise.withResolvers<void>(),
    Promise.withResolvers<void>(),
  ];
  const seen: string[] = [];
  const streams = {
    read: read.promise,
    drained: drained.promise,
    giveUpContainer: () => void seen.push('container'),
    end: () => void seen.push('end'),
  };
  void drainMain(exited.promise, streams, clock).then(() => seen.push('done'));
  const pass = async (ms: number): Promise<void> => {
    await turn();
    clock.run(ms);
    await turn();
  };
  return { exited, read, drained, seen, pass };
}

describe('after the end of the main process', () => {
  test('viewers hear of it when everything was read, and the container’s output is waited for', async () => {
    const { exited, read, drained, seen, pass } = await setUp();
    read.resolve();
    await pass(10_000);
    expect(seen).toEqual([]); // it has closed its output, and runs
    exited.resolve();
    await pass(100);
    expect(seen).toEqual(['end']);
    drained.resolve();
    await pass(0);
    expect(seen).toEqual(['end', 'end', 'done']);
    await pass(10_000);
    expect(seen).not.toContain('container');
  });

  test('viewers hear of it after two seconds when a process of the background holds the output open', async () => {
    const { exited, seen, pass } = await setUp();
    exited.resolve();
    await pass(1_999);
    expect(seen).toEqual(['container']);
    await pass(1);
    expect(seen).toEqual(['container', 'end', 'done']);
  });

  test('viewers get what a slow container’s output has held back', async () => {
    const { exited, read, seen, pass } = await setUp();
    exited.resolve();
    await pass(1_900);
    expect(seen).toEqual(['container']);
    read.resolve();
    await pass(0);
    expect(seen).toEqual(['container', 'end']);
    await pass(100);
    expect(seen.at(-1)).toBe('done');
  });
});
