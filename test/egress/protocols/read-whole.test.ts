import { PassThrough, Readable } from 'node:stream';
import { describe, expect, test } from 'vitest';
import { readWhole } from '../../../supervisor/egress/http/body-facts.ts';

describe('a body that is held for its decision', () => {
  test('is read to its end, up to its bound', async () => {
    const parts = () => Readable.from([Buffer.from('ab'), Buffer.from('cd')]);
    expect(await readWhole(parts(), 4)).toEqual(Buffer.from('abcd'));
    expect(await readWhole(parts(), 3)).toBe('too-large');
    expect(await readWhole(Readable.from([]), 0)).toEqual(Buffer.alloc(0));
  });

  test('that breaks off, or does not end in time, is none', async () => {
    const broken = new PassThrough();
    broken.write('ab');
    setImmediate(() => broken.destroy(new Error('gone')));
    expect(await readWhole(broken, 10)).toBe('aborted');
    const closed = new PassThrough();
    setImmediate(() => closed.destroy());
    expect(await readWhole(closed, 10)).toBe('aborted');
    const slow = new PassThrough();
    slow.write('ab');
    expect(await readWhole(slow, 10, 30)).toBe('aborted');
  });
});
