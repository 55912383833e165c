import { describe, expect, test } from 'vitest';
import { FrameBoundary } from '../../supervisor/egress/protocols/frame-boundary.ts';
import { MessageAssembly } from '../../supervisor/egress/protocols/message-assembly.ts';
import { undoAfterEach } from '../undo-after-each.ts';
import { makeAuthorities } from './inspection-fixture.ts';
import { frame, startChat } from './websocket-fixture.ts';

const WAIT = { timeout: 15_000 };
const TEXT = 1;
const CONTINUATION = 0;
const authorities = await makeAuthorities();
const undo = undoAfterEach();

async function chat(assembly: MessageAssembly) {
  const started = await startChat(authorities, { proxy: { assembly } });
  undo.push(
    () => started.upstream.stop(),
    () => started.proxy.stop(),
  );
  const open = async () => {
    const client = await started.raw();
    undo.push(() => client.socket.destroy());
    await expect.poll(() => client.status, WAIT).toBe(101);
    return client;
  };
  return { ...started, open };
}

describe('a message that is not finished', () => {
  test('is ended when nothing more of it comes', async () => {
    const { open, messages } = await chat(new MessageAssembly({ idleMs: 100 }));
    const client = await open();
    client.write(frame(TEXT, 'half', { fin: false }));
    await expect
      .poll(() => client.closed, WAIT)
      .toEqual({
        code: 1008,
        reason: 'a message was not finished: nothing came for 0.1 s',
      });
    expect(messages()).toEqual([]);
  });

  test('is ended when it takes too long, however often a piece comes', async () => {
    const { open } = await chat(new MessageAssembly({ idleMs: 10_000, totalMs: 300 }));
    const client = await open();
    client.write(frame(TEXT, 'a', { fin: false }));
    const more = setInterval(() => client.write(frame(CONTINUATION, 'a', { fin: false })), 20);
    undo.push(() => clearInterval(more));
    await expect.poll(() => client.closed?.code, WAIT).toBe(1008);
    clearInterval(more);
    expect(client.closed?.reason).toContain('more than 0.3 s');
  });

  test('and then is, passes; a silent connection between messages stays', async () => {
    const { open, messages } = await chat(new MessageAssembly({ idleMs: 150 }));
    const client = await open();
    client.write(frame(TEXT, 'one ', { fin: false }));
    client.write(frame(CONTINUATION, 'message'));
    await expect.poll(messages, WAIT).toEqual(['one message']);
    await new Promise((resolve) => setTimeout(resolve, 400));
    client.write(frame(TEXT, 'two'));
    await expect.poll(messages, WAIT).toEqual(['one message', 'two']);
  });

  test('and large waits for a slot, and is refused where too many wait', async () => {
    const { open, messages } = await chat(new MessageAssembly({ slots: 1, waiting: 1 }));
    const large = Buffer.alloc(100_000, 'x');
    const [first, second, third] = [await open(), await open(), await open()];
    first.write(frame(TEXT, large, { fin: false }));
    await new Promise((resolve) => setTimeout(resolve, 200));
    second.write(frame(TEXT, large, { fin: false }));
    await new Promise((resolve) => setTimeout(resolve, 200));
    third.write(frame(TEXT, large, { fin: false }));
    await expect.poll(() => third.closed?.code, WAIT).toBe(1013);
    // A small one needs no slot.
    const small = await open();
    small.write(frame(TEXT, 'small'));
    await expect.poll(messages, WAIT).toEqual(['small']);
    first.write(frame(CONTINUATION, '!'));
    second.write(frame(CONTINUATION, '!'));
    await expect.poll(() => messages().length, WAIT).toBe(3);
  });

  test('gives its slot back when its client goes away', async () => {
    const { open, messages } = await chat(new MessageAssembly({ slots: 1, waiting: 1 }));
    const large = Buffer.alloc(100_000, 'x');
    const [first, second] = [await open(), await open()];
    first.write(frame(TEXT, large, { fin: false }));
    await new Promise((resolve) => setTimeout(resolve, 200));
    first.socket.destroy();
    second.write(frame(TEXT, large));
    await expect.poll(() => messages().length, WAIT).toBe(1);
  });
});

test('frames tell what of a message is under way', () => {
  const boundary = new FrameBoundary();
  const states: [boolean, boolean, number][] = [];
  const push = (bytes: Buffer): void => {
    boundary.push(bytes);
    states.push([boundary.unfinished, boundary.fragmented, boundary.messageBytes]);
  };
  push(frame(TEXT, 'whole'));
  push(frame(TEXT, 'part', { fin: false }));
  push(frame(9, 'ping'));
  const last = frame(CONTINUATION, 'rest');
  push(last.subarray(0, 8));
  push(last.subarray(8));
  push(frame(TEXT, '', { fin: false }));
  push(frame(CONTINUATION, ''));
  expect(states).toEqual([
    [false, false, 0],
    [true, true, 4],
    [true, true, 4],
    [true, true, 6],
    [false, false, 0],
    [true, true, 0],
    [false, false, 0],
  ]);
});
