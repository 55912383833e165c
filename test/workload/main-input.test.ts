import { PassThrough, type Writable } from 'node:stream';
import { describe, expect, test } from 'vitest';
import { MainInput } from '../../supervisor/workload/main-input.ts';

const nothing = (): void => undefined;
const turn = () => new Promise((resolve) => setImmediate(resolve));
/** A process that reads when it is told to. */
function reader() {
  const stream = new PassThrough({ highWaterMark: 1_000, readableHighWaterMark: 1 });
  return { stream, input: new MainInput(stream) };
}
const listeners = (stream: Writable) =>
  ['drain', 'finish', 'close'].map((event) => stream.listenerCount(event));

describe('the input of the main process', () => {
  test('is one’s at a time, and then the next one’s', () => {
    const { input } = reader();
    const first = input.take();
    expect([first?.held, input.take()]).toEqual([true, undefined]);
    first?.release();
    const second = input.take();
    expect([first?.held, second?.held]).toEqual([false, true]);
    first?.release();
    expect(second?.held).toBe(true);
  });

  test('keeps two chunks at most when nobody reads it, whoever comes and goes', async () => {
    const { stream, input } = reader();
    const before = listeners(stream);
    for (let n = 0; n < 200; n += 1) {
      const lease = input.take();
      for (let m = 0; lease?.write(Buffer.alloc(900), nothing) === true; m += 1) expect(m).toBeLessThan(3);
      expect(lease?.write(Buffer.alloc(900), nothing)).toBe(false);
      lease?.release();
      await turn();
    }
    expect(stream.writableLength + stream.readableLength).toBeLessThanOrEqual(2_700);
    expect(listeners(stream)).toEqual(before);
  });

  test('keeps no tiny pieces either', async () => {
    const { stream, input } = reader();
    const lease = input.take();
    while (lease?.write(Buffer.from('x'), nothing) === true) await turn();
    for (let n = 0; n < 1_000; n += 1) lease?.write(Buffer.from('x'), nothing);
    lease?.release();
    expect(stream.writableLength).toBeLessThanOrEqual(1);
  });

  test('is written to by the next owner although the last one left in the middle', async () => {
    const { stream, input } = reader();
    const first = input.take();
    while (first?.write(Buffer.from('1'), nothing) === true);
    first?.release();
    const second = input.take();
    let drained = 0;
    expect(second?.write(Buffer.from('2'), () => (drained += 1))).toBe(false);
    let typed = '';
    stream.on('data', (chunk) => (typed += chunk));
    await expect.poll(() => [typed, drained]).toEqual(['12', 1]);
    expect(second?.write(Buffer.from('3'), nothing)).toBe(true);
    await expect.poll(() => typed).toBe('123');
  });

  test('loses nothing of an owner that stays, while the container writes to it as well', async () => {
    const { stream, input } = reader();
    const lease = input.take();
    const container = new PassThrough();
    container.pipe(stream, { end: false });
    const got: number[] = [];
    stream.on('data', (chunk: Buffer) => got.push(...chunk)).pause();
    for (let n = 0; n < 50; n += 1) container.write(Buffer.alloc(700, 'z'));
    let next = 0;
    const type = async (): Promise<void> => {
      for (; next < 100; next += 1) {
        const chunk = Buffer.alloc(500, next);
        await new Promise<void>((resolve) => {
          if (lease?.write(chunk, resolve) === true) resolve();
        });
      }
    };
    const typing = type();
    for (let n = 0; n < 20; n += 1) await turn();
    expect(next).toBeLessThan(10);
    stream.resume();
    await typing;
    await expect.poll(() => got.length).toBe(100 * 500 + 50 * 700);
    const typed = got.filter((byte) => byte !== 'z'.charCodeAt(0));
    expect(typed).toEqual(Array.from({ length: 100 * 500 }, (_, n) => Math.floor(n / 500)));
  });

  test.each([
    ['breaks', (stream: PassThrough) => stream.destroy(new Error('EPIPE'))],
    ['ends', (stream: PassThrough) => stream.end().resume()],
  ])('makes nobody wait for ever when it %s', async (_, happens) => {
    const { stream, input } = reader();
    const lease = input.take();
    let drained = 0;
    while (lease?.write(Buffer.alloc(900), () => (drained += 1)) === true);
    happens(stream);
    await expect.poll(() => drained).toBe(1);
    expect(lease?.write(Buffer.alloc(900), nothing)).toBe(true);
  });
});
