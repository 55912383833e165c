import { createSocket, type Socket as DatagramSocket } from 'node:dgram';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { describe, expect, test } from 'vitest';
import {
  createDnsServer,
  type DnsServer,
  type DnsServerOptions,
} from '../../../supervisor/egress/dns/server.ts';
import { listenHere } from '../../../supervisor/egress/listen.ts';
import { undoAfterEach } from '../../undo-after-each.ts';
import { ask, type Reply, readReply } from './queries.ts';

/** Polls with patience: other tests share the machine. */
const until = <T>(read: () => T, options: { readonly interval?: number; readonly timeout?: number } = {}) =>
  expect.poll(read, { timeout: 15_000, ...options });

const undo = undoAfterEach();

async function start(options: Partial<DnsServerOptions> = {}): Promise<{ server: DnsServer; port: number }> {
  const server = createDnsServer({
    answer: async () => ({ rcode: 0, records: [{ type: 'A', address: '127.64.0.9', ttl: 30 }] }),
    ...options,
  });
  undo.push(() => server.stop());
  const listener = await listenHere('127.0.0.1', 0);
  if (!listener.ok) throw new Error(listener.error);
  server.serveTcp(listener.value);
  const { port } = listener.value.address() as AddressInfo;
  const datagrams: DatagramSocket = createSocket('udp4');
  await new Promise<void>((done) => void datagrams.bind(port, '127.0.0.1', done));
  server.serveUdp(datagrams);
  return { server, port };
}

function open(port: number) {
  const socket: Socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
  let bytes = Buffer.alloc(0);
  const state = { ended: false, closed: false };
  socket.on('data', (chunk: Buffer) => {
    bytes = Buffer.concat([bytes, chunk]);
  });
  socket.on('error', () => undefined);
  socket.on('end', () => {
    state.ended = true;
  });
  socket.on('close', () => {
    state.closed = true;
  });
  undo.push(() => socket.destroy());
  const replies = (): Reply[] => {
    const found: Reply[] = [];
    for (let at = 0; at + 2 <= bytes.length && at + 2 + bytes.readUInt16BE(at) <= bytes.length; ) {
      const size = bytes.readUInt16BE(at);
      found.push(readReply(bytes.subarray(at + 2, at + 2 + size)));
      at += 2 + size;
    }
    return found;
  };
  return { socket, replies, state };
}

const framed = (message: Buffer): Buffer =>
  Buffer.concat([Buffer.from([message.length >> 8, message.length & 255]), message]);

describe('over TCP', () => {
  test('queries come in one piece or many, and are answered in order', async () => {
    let waiting: (() => void) | undefined;
    const { port } = await start({
      answer: async ({ name }) => {
        if (name === 'slow.test')
          await new Promise<void>((done) => {
            waiting = done;
          });
        return { rcode: name === 'no.test' ? 3 : 0, records: [] };
      },
    });
    const { socket, replies } = open(port);
    const all = Buffer.concat(
      ['slow.test', 'no.test', 'c.test'].map((name, id) => framed(ask(name, { id }))),
    );
    for (const byte of all.subarray(0, 20)) {
      socket.write(Buffer.from([byte]));
      await new Promise((done) => setImmediate(done));
    }
    socket.write(all.subarray(20));
    await until(() => waiting).toBeDefined();
    expect(replies()).toEqual([]);
    waiting?.();
    await until(replies).toMatchObject([
      { id: 0, rcode: 0, question: 'slow.test' },
      { id: 1, rcode: 3 },
      { id: 2, rcode: 0 },
    ]);
  });
  test('a client that ends its side still gets its answer, and then the end', async () => {
    const { port } = await start();
    const { socket, replies, state } = open(port);
    socket.end(framed(ask('api.test')));
    await until(() => state.ended).toBe(true);
    expect(replies()).toMatchObject([{ rcode: 0, answers: [{ type: 1 }] }]);
  });
  test('a silent connection is closed', async () => {
    const { port, server } = await start({ idleMs: 50 });
    const { state } = open(port);
    await until(() => state.closed || state.ended).toBe(true);
    await until(server.openConnections).toBe(0);
  });
  test('a message that is too long or no query ends the connection', async () => {
    const { port } = await start();
    for (const bytes of [
      Buffer.from([0xff, 0xff, 0]),
      framed(Buffer.alloc(3)),
      framed(ask('x.test', { flags: 0x8000 })),
    ]) {
      const { socket, state, replies } = open(port);
      socket.write(bytes);
      await until(() => state.closed || state.ended).toBe(true);
      expect(replies()).toEqual([]);
    }
  });
  test('one connection too many takes the place of the one that was silent for longest', async () => {
    const { port, server } = await start({ maxConnections: 2 });
    const [first, second] = [open(port), open(port)];
    await until(server.openConnections).toBe(2);
    first.socket.write(framed(ask('api.test')));
    await until(first.replies).toHaveLength(1);
    const third = open(port);
    await until(() => second.state.closed || second.state.ended).toBe(true);
    for (const one of [first, third]) one.socket.write(framed(ask('api.test', { id: 5 })));
    await until(third.replies).toHaveLength(1);
    await until(first.replies).toHaveLength(2);
    expect(server.openConnections()).toBe(2);
  });
  test('a client that reads nothing makes the server hold next to nothing', async () => {
    let answered = 0;
    const { port } = await start({
      answer: async () => {
        answered += 1;
        return { rcode: 0, records: [] };
      },
    });
    const { socket } = open(port);
    socket.pause();
    const many = Buffer.concat(Array.from({ length: 2000 }, () => framed(ask('a-name-of-some-length.test'))));
    const asked = 250;
    for (let round = 0; round < asked; round++) socket.write(many);
    let before = -1;
    const settled = (): boolean => {
      const same = answered === before;
      before = answered;
      return same;
    };
    await until(settled, { interval: 300, timeout: 30_000 }).toBe(true);
    // What the kernel's buffers hold, and not all that was asked.
    expect(answered).toBeLessThan((2000 * asked) / 2);
    const waiting = answered;
    socket.resume();
    await until(() => answered, { timeout: 30_000 }).toBeGreaterThan(waiting);
  }, 60_000);
});

describe('over UDP', () => {
  async function exchange(port: number, message: Buffer): Promise<Reply> {
    const socket = createSocket('udp4');
    undo.push(() => socket.close());
    const reply = new Promise<Buffer>((done) => socket.once('message', done));
    socket.send(message, port, '127.0.0.1');
    return readReply(await reply);
  }
  test('a query is answered, and what cannot be read is refused', async () => {
    const { port } = await start();
    expect(await exchange(port, ask('api.test', { id: 3 }))).toMatchObject({
      id: 3,
      rcode: 0,
      answers: [{ ttl: 30 }],
    });
    expect(await exchange(port, ask('api.test').subarray(0, 20))).toMatchObject({ id: 7, rcode: 1 });
  });
  test('an answer that is too long says so, and comes whole over TCP', async () => {
    const records = Array.from({ length: 50 }, () => ({ type: 'A' as const, address: '127.64.0.1', ttl: 1 }));
    const { port } = await start({ answer: async () => ({ rcode: 0, records }) });
    expect(await exchange(port, ask('api.test'))).toMatchObject({ truncated: true, answers: [] });
    const { socket, replies } = open(port);
    socket.write(framed(ask('api.test')));
    await until(replies).toHaveLength(1);
    expect(replies()[0]?.answers).toHaveLength(50);
  });
  test('a failure inside is a failure of the server', async () => {
    const { port } = await start({ answer: () => Promise.reject(new Error('inside')) });
    expect(await exchange(port, ask('api.test'))).toMatchObject({ rcode: 2, answers: [] });
  });
});
