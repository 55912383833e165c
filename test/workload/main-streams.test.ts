import { PassThrough, Writable } from 'node:stream';
import { describe, expect, test } from 'vitest';
import { MainStreams, type Viewer } from '../../supervisor/workload/main-streams.ts';
import type { OutputName } from '../../supervisor/workload/output-log.ts';

function streams(container: Partial<Record<OutputName, Writable>> = {}) {
  const input = new PassThrough();
  const output = new PassThrough();
  const errors = new PassThrough();
  const printed = { output: '', errors: '' };
  const sink = (name: OutputName) =>
    new Writable({
      write(chunk, _encoding, done) {
        printed[name] += chunk;
        done();
      },
    });
  const made = new MainStreams({
    input,
    output,
    errors,
    container: { output: sink('output'), errors: sink('errors'), ...container },
  });
  return { made, input, output, errors, printed };
}

/** A viewer that keeps what it is told; `slow` never takes a second piece. */
function viewer(slow = false) {
  const seen = { output: '', errors: '', lagged: 0, ended: 0 };
  let writes = 0;
  const made: Viewer = {
    write: (stream, chunk) => {
      seen[stream] += chunk;
      writes += 1;
      return slow && writes > 1 ? new Promise(() => undefined) : Promise.resolve();
    },
    lagged: () => {
      seen.lagged += 1;
    },
    ended: () => {
      seen.ended += 1;
    },
  };
  return { seen, made };
}
const turn = () => new Promise((resolve) => setImmediate(resolve));

describe('the streams of the main process', () => {
  test('go to the container, and to who watches; who comes later gets what was before', async () => {
    const { made, output, errors, printed } = streams();
    const early = viewer();
    made.attach(early.made, true);
    output.write('one ');
    errors.write('bad ');
    await turn();
    const late = viewer();
    made.attach(late.made, true);
    output.write('two');
    await turn();
    expect(printed).toEqual({ output: 'one two', errors: 'bad ' });
    expect(early.seen).toMatchObject({ output: 'one two', errors: 'bad ' });
    expect(late.seen).toMatchObject({ output: 'one two', errors: 'bad ' });
  });

  test('are replayed up to a mebibyte', async () => {
    const { made, output } = streams();
    for (let n = 0; n < 40; n += 1) {
      output.write(Buffer.alloc(64 << 10, `${n % 10}`));
      await turn();
    }
    const late = viewer();
    made.attach(late.made, true);
    await turn();
    expect(late.seen.output.length).toBe(1 << 20);
    expect(late.seen.output.endsWith('9')).toBe(true);
  });

  test('cost little when they come byte by byte, and are bounded when they cannot be joined', async () => {
    const { made, output, errors } = streams();
    const early = viewer(true);
    made.attach(early.made, true);
    for (let n = 0; n < 20_000; n += 1) {
      output.write('o');
      if (n % 500 === 0) await turn();
    }
    await turn();
    expect(early.seen.lagged).toBe(0);
    let writes = 0;
    const count = async (): Promise<void> => {
      writes += 1;
    };
    made.attach({ ...viewer().made, write: count }, true);
    await expect.poll(() => writes).toBeGreaterThan(0);
    await turn();
    expect(writes).toBeLessThan(10);
    for (let n = 0; n < 20_000; n += 1) {
      output.write('o');
      errors.write('e');
      await turn();
    }
    expect(early.seen.lagged).toBe(1);
    const late = viewer();
    made.attach(late.made, true);
    await expect.poll(() => late.seen.output.length + late.seen.errors.length).toBe(8_192);
  });

  test('send away who does not keep up, and wait for nobody', async () => {
    const { made, output, printed } = streams();
    const slow = viewer(true);
    made.attach(slow.made, true);
    for (let n = 0; n < 64; n += 1) {
      output.write(Buffer.alloc(64 << 10, 'x'));
      await turn();
    }
    expect(slow.seen.lagged).toBe(1);
    expect(printed.output.length).toBe(64 * (64 << 10));
  });

  test('have one owner of the input at a time, who is the first that may write', async () => {
    const { made, input } = streams();
    let typed = '';
    input.on('data', (chunk) => (typed += chunk));
    const watcher = made.attach(viewer().made, true);
    const first = made.attach(viewer().made, false);
    const second = made.attach(viewer().made, false);
    expect([watcher?.owner, first?.owner, second?.owner]).toEqual([false, true, false]);
    const nothing = (): void => undefined;
    watcher?.input(Buffer.from('w'), nothing);
    first?.input(Buffer.from('1'), nothing);
    second?.input(Buffer.from('2'), nothing);
    await turn();
    expect(typed).toBe('1');
    first?.detach();
    expect(made.attach(viewer().made, false)?.owner).toBe(true);
    expect(input.writableEnded).toBe(false);
  });

  test('tell when the process takes no more input', async () => {
    const { made, input } = streams();
    const attachment = made.attach(viewer().made, false);
    let drained = false;
    let room = true;
    const onDrained = (): void => {
      drained = true;
    };
    for (let n = 0; n < 100 && room; n += 1)
      room = attachment?.input(Buffer.alloc(16 << 10), onDrained) ?? true;
    expect(room).toBe(false);
    input.resume();
    await expect.poll(() => drained).toBe(true);
  });

  test('end for each viewer once, when it has got all there is', async () => {
    const { made, output, errors } = streams();
    const quick = viewer();
    made.attach(quick.made, true);
    output.end('last');
    errors.end();
    await made.drained;
    expect(quick.seen.ended).toBe(0);
    made.end();
    await turn();
    expect(quick.seen).toMatchObject({ output: 'last', ended: 1 });
    const late = viewer();
    made.attach(late.made, true);
    await turn();
    expect(late.seen).toMatchObject({ output: 'last', ended: 1 });
    made.end();
    await turn();
    expect([quick.seen.ended, late.seen.ended]).toEqual([1, 1]);
  });

  test('leave the input to its owner when the process has closed its output, and runs', async () => {
    const { made, input, output, errors } = streams();
    const owner = made.attach(viewer().made, false);
    output.end();
    errors.end();
    await made.drained;
    await turn();
    let typed = '';
    input.on('data', (chunk) => (typed += chunk));
    owner?.input(Buffer.from('heard'), () => undefined);
    await turn();
    expect([owner?.owner, typed]).toEqual([true, 'heard']);
  });

  test('give all that is kept, in its order, and then the end, to who attaches while they end', async () => {
    const { made, output, errors } = streams();
    let expected = '';
    for (let n = 0; n < 2_000; n += 1) {
      (n % 3 === 0 ? errors : output).write(`${n} `.padStart(100));
      expected += `${n} `.padStart(100);
      await turn();
    }
    output.end();
    errors.end();
    await made.read;
    let all = '';
    let ended = 0;
    const attach = (after: number): void => {
      let writes = 0;
      made.attach(
        {
          write: async (_, chunk) => {
            all += chunk.toString();
            writes += 1;
            if (writes === after) made.end();
            await turn();
          },
          lagged: () => undefined,
          ended: () => {
            ended += 1;
          },
        },
        true,
      );
    };
    attach(5);
    await expect.poll(() => ended).toBe(1);
    expect(all).toBe(expected);
    all = '';
    attach(0);
    await expect.poll(() => ended).toBe(2);
    expect(all).toBe(expected);
  });

  test('tell viewers nothing that a process of the background prints after the end, so that they come to it', async () => {
    const { made, output, printed } = streams();
    const { seen, made: quick } = viewer();
    const taken: (() => void)[] = [];
    const slow: Viewer = {
      ...quick,
      write: (stream, chunk) =>
        new Promise((resolve) => taken.push(() => void quick.write(stream, chunk).then(resolve))),
    };
    made.attach(slow, true);
    output.write('before ');
    await turn();
    made.end();
    output.write('after');
    await turn();
    expect([seen.output, seen.ended]).toEqual(['', 0]);
    for (const take of taken) take();
    await turn();
    expect([seen.output, seen.ended, printed.output]).toEqual(['before ', 1, 'before after']);
  });

  test('go on, and reach viewers, when the container’s output breaks', async () => {
    const broken = new Writable({
      autoDestroy: false,
      highWaterMark: 1,
      write: (_chunk, _encoding, done) => setImmediate(done, new Error('EPIPE')),
    });
    const { made, output, errors } = streams({ output: broken });
    const watching = viewer();
    made.attach(watching.made, true);
    for (let n = 0; n < 100; n += 1) {
      output.write(Buffer.alloc(10_000, 'x'));
      await turn();
    }
    output.end();
    errors.end();
    await made.drained;
    expect(watching.seen.output.length).toBe(1_000_000);
    expect(broken.writableLength).toBeLessThan(100_000);
  });

  test('give viewers what a stuck container’s output has held back, when that is given up', async () => {
    const stuck = new Writable({ highWaterMark: 1, write: () => undefined });
    const { made, output, errors } = streams({ output: stuck });
    const watching = viewer();
    made.attach(watching.made, true);
    output.write('one ');
    await turn();
    output.end('two');
    errors.end();
    await turn();
    expect(watching.seen.output).toBe('one ');
    made.giveUpContainer();
    await made.drained;
    expect(watching.seen.output).toBe('one two');
  });

  test('take the input from an owner that is sent away, for the next one', async () => {
    const { made, output } = streams();
    const slow = viewer(true);
    const owner = made.attach(slow.made, false);
    expect(owner?.owner).toBe(true);
    for (let n = 0; n < 64; n += 1) {
      output.write(Buffer.alloc(64 << 10, 'x'));
      await turn();
    }
    expect([slow.seen.lagged, owner?.owner]).toEqual([1, false]);
    expect(made.attach(viewer().made, false)?.owner).toBe(true);
  });

  test('take at most sixteen viewers', () => {
    const { made } = streams();
    const all = Array.from({ length: 17 }, () => made.attach(viewer().made, true));
    expect(all.filter((one) => one !== undefined)).toHaveLength(16);
  });

  test('take what comes by the container’s own input, and its end where that counts', async () => {
    for (const closes of [true, false]) {
      const { made, input } = streams();
      let typed = '';
      input.on('data', (chunk) => (typed += chunk));
      const source = new PassThrough();
      made.feed(source, closes);
      source.end('given');
      await turn();
      await turn();
      expect([typed, input.writableEnded]).toEqual(['given', closes]);
    }
  });
});
