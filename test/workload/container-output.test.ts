import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { describe, expect, test } from 'vitest';
import { ContainerOutput } from '../../supervisor/workload/container-output.ts';

/** As a stream on a descriptor that must not be closed: an error does not destroy it. */
function sink() {
  const taking: ((error?: Error) => void)[] = [];
  const written: string[] = [];
  const stream = new Writable({
    autoDestroy: false,
    highWaterMark: 1,
    write(chunk, _encoding, done) {
      written.push(String(chunk));
      taking.push(done);
    },
  });
  return { stream, written, take: (error?: Error) => taking.shift()?.(error) };
}
const settled = async (promise: Promise<void>): Promise<boolean> => {
  let done = false;
  void promise.then(() => {
    done = true;
  });
  await new Promise((resolve) => setImmediate(resolve));
  return done;
};

describe('the container’s output', () => {
  test('takes its time', async () => {
    const { stream, take } = sink();
    const output = new ContainerOutput(stream);
    const writing = output.write(Buffer.from('a'));
    expect(await settled(writing)).toBe(false);
    take();
    expect(await settled(writing)).toBe(true);
  });

  test('is flushed when all of it is out', async () => {
    const { stream, written, take } = sink();
    const output = new ContainerOutput(stream);
    void output.write(Buffer.from('a'));
    void output.write(Buffer.from('b'));
    const flushed = output.flushed();
    take();
    expect(await settled(flushed)).toBe(false);
    take();
    take();
    expect(await settled(flushed)).toBe(true);
    expect(written.join('')).toBe('ab');
  });

  test('that breaks is waited for no more, and gets nothing any more', async () => {
    const { stream, written, take } = sink();
    const output = new ContainerOutput(stream);
    const [writing, flushed] = [output.write(Buffer.from('a')), output.flushed()];
    take(new Error('EPIPE'));
    expect([await settled(writing), await settled(flushed)]).toEqual([true, true]);
    expect(stream.destroyed).toBe(false);
    expect([await settled(output.write(Buffer.from('b'))), await settled(output.flushed())]).toEqual([
      true,
      true,
    ]);
    expect(written).toEqual(['a']);
  });

  test('that is given up is waited for no more', async () => {
    const { stream, written } = sink();
    const output = new ContainerOutput(stream);
    const [writing, flushed] = [output.write(Buffer.from('a')), output.flushed()];
    output.giveUp();
    expect([await settled(writing), await settled(flushed)]).toEqual([true, true]);
    expect(await settled(output.write(Buffer.from('b')))).toBe(true);
    expect(written).toEqual(['a']);
  });

  test('that was closed is waited for no more', async () => {
    const { stream } = sink();
    const output = new ContainerOutput(stream);
    const writing = output.write(Buffer.from('a'));
    stream.destroy();
    expect([await settled(writing), await settled(output.flushed())]).toEqual([true, true]);
  });

  test.each([1, 2] as const)(
    'on a pipe that does not block loses nothing when it is full: descriptor %i',
    async (fd) => {
      const module = join(import.meta.dirname, '../../supervisor/workload/container-output.ts');
      const other = fd === 1 ? 'stderr' : 'stdout';
      const script = `import { ContainerOutput, containerStream } from ${JSON.stringify(module)};
      process.${fd === 1 ? 'stdout' : 'stderr'}.on('error', () => undefined); // makes it one that does not block
      const output = new ContainerOutput(containerStream(${fd}));
      const written = output.write(Buffer.alloc(8 << 20, 'x'));
      process.${other}.write('waits');
      await written;
      await output.flushed();
      process.exit();`;
      const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
        stdio: ['ignore', 'pipe', 'pipe'],
      });
      await once(child[other], 'data');
      let bytes = 0;
      child[fd === 1 ? 'stdout' : 'stderr'].on('data', (chunk: Buffer) => {
        bytes += chunk.length;
      });
      await once(child, 'close');
      expect(bytes).toBe(8 << 20);
    },
  );
});
