import { type AddressInfo, connect, type Socket } from 'node:net';
import { describe, expect, test } from 'vitest';
import { serveSocks } from '../../supervisor/egress/adapters/socks.ts';
import { ConnectionSlots } from '../../supervisor/egress/connection-slots.ts';
import { listenHere } from '../../supervisor/egress/listen.ts';
import type { ExplicitProxyOptions } from '../../supervisor/egress/proxy.ts';
import type { Intent } from '../../supervisor/policy/intent.ts';
import { undoAfterEach } from '../undo-after-each.ts';
import { allow, startProxy, startUpstream } from './proxy-fixture.ts';

/** Polls with patience: other tests share the machine. */
const until = <T>(read: () => T, options: { readonly interval?: number; readonly timeout?: number } = {}) =>
  expect.poll(read, { timeout: 15_000, ...options });

const undo = undoAfterEach();

/** SOCKS in front of the real pipeline, whose decision the test owns. */
async function start(options: Partial<ExplicitProxyOptions> = {}, maxConnections?: number) {
  const intents: Intent[] = [];
  const { proxy, events } = await startProxy({
    authorize: (intent) => {
      intents.push(intent);
      return allow();
    },
    ...options,
  });
  undo.push(() => proxy.stop());
  const listener = await listenHere('127.0.0.1', 0);
  if (!listener.ok) throw new Error(listener.error);
  const refused: string[] = [];
  const server = serveSocks({
    listener: listener.value,
    wayOut: proxy.wayOut,
    onRefused: (reason) => refused.push(reason),
    ...(maxConnections === undefined ? {} : { slots: new ConnectionSlots(maxConnections) }),
  });
  undo.push(() => server.stop());
  const { port } = listener.value.address() as AddressInfo;
  return { port, intents, events, refused, server, proxy };
}

function open(port: number) {
  const socket: Socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
  const state = { hex: '', end: '' };
  socket.on('data', (chunk: Buffer) => {
    state.hex += chunk.toString('hex');
  });
  socket.on('error', () => undefined);
  socket.on('end', () => {
    state.end = 'end';
    socket.end();
  });
  socket.on('close', () => {
    state.end ||= 'reset';
  });
  undo.push(() => socket.destroy());
  return { socket, state };
}

const hex = (text: string): Buffer => Buffer.from(text.replaceAll(' ', ''), 'hex');
const port16 = (port: number): string => port.toString(16).padStart(4, '0');
const byName = (name: string, port: number): Buffer =>
  Buffer.concat([
    hex('05 01 00 03'),
    Buffer.from([name.length]),
    Buffer.from(name, 'latin1'),
    hex(port16(port)),
  ]);
const GREETING = hex('05 01 00');
const GRANTED = '0500 0001 00000000 0000'.replaceAll(' ', '');

describe('CONNECT', () => {
  test('by name is decided by the name, resolved here, and carried both ways with half-close', async () => {
    const upstream = await startUpstream((socket, all) => void (all === 'hello' && socket.write('world')));
    undo.push(upstream.stop);
    const { port, intents, events } = await start();
    const { socket, state } = open(port);
    socket.write(GREETING);
    await until(() => state.hex).toBe('0500');
    socket.write(byName('API.Test.', upstream.port));
    await until(() => state.hex).toBe(`0500${GRANTED}`);
    expect(intents).toEqual([{ host: 'api.test', port: upstream.port, via: 'socks' }]);
    socket.end('hello');
    await until(() => state.end).toBe('end');
    expect(state.hex).toBe(`0500${GRANTED}${Buffer.from('world').toString('hex')}`);
    expect(upstream.received()).toBe('hello');
    await until(() => events.map(({ kind }) => kind)).toEqual(['opened', 'closed']);
  });

  test('with all in one piece, bytes of the tunnel too, loses nothing', async () => {
    const upstream = await startUpstream(() => undefined);
    undo.push(upstream.stop);
    const { port } = await start();
    const { socket } = open(port);
    socket.write(Buffer.concat([GREETING, byName('api.test', upstream.port), Buffer.from('early')]));
    await until(upstream.received).toBe('early');
  });

  test('byte by byte works as well', async () => {
    const upstream = await startUpstream(() => undefined);
    undo.push(upstream.stop);
    const { port } = await start();
    const { socket, state } = open(port);
    for (const byte of Buffer.concat([GREETING, byName('api.test', upstream.port)])) {
      socket.write(Buffer.from([byte]));
      await new Promise((done) => setImmediate(done));
    }
    await until(() => state.hex).toBe(`0500${GRANTED}`);
  });

  test('takes a name and password that are offered, and looks at neither', async () => {
    const { port, intents } = await start();
    const { socket, state } = open(port);
    socket.write(hex('05 02 01 02'));
    await until(() => state.hex).toBe('0502');
    socket.write(Buffer.concat([hex('01 02 7575 00'), byName('api.test', 1)]));
    await until(() => intents).toHaveLength(1);
    expect(state.hex.startsWith('05020100')).toBe(true);
  });

  test.each([
    ['an IPv4 address', '05 01 00 01 0a000001 0050', '10.0.0.1'],
    ['an IPv6 address', '05 01 00 04 20010db8000000000000000000000001 0050', '2001:db8::1'],
    ['a mapped address', '05 01 00 04 00000000000000000000ffff7f000001 0050', '::ffff:7f00:1'],
    ['an address as a name', `05 01 00 03 08 ${Buffer.from('10.0.0.2').toString('hex')} 0050`, '10.0.0.2'],
  ])('by %s is decided by it', async (_, request, host) => {
    const { port, intents } = await start();
    open(port).socket.write(Buffer.concat([GREETING, hex(request)]));
    await until(() => intents).toEqual([{ host, port: 80, via: 'socks' }]);
  });
});

describe('what is not carried gets its code', () => {
  const ends = async (port: number, request: Buffer) => {
    const { socket, state } = open(port);
    socket.write(request);
    await until(() => state.end, { timeout: 8000 }).not.toBe('');
    return state;
  };
  const code = (number: string): string => `0500 05${number} 0001 00000000 0000`.replaceAll(' ', '');

  test('a denial: not allowed by ruleset', async () => {
    const { port, events } = await start({
      authorize: () => ({ kind: 'deny', generation: 1, reason: 'no rule', policy: undefined }),
    });
    expect(await ends(port, Buffer.concat([GREETING, byName('api.test', 80)]))).toEqual({
      hex: code('02'),
      end: 'end',
    });
    expect(events).toMatchObject([
      { kind: 'denied', stage: 'connect', intent: { via: 'socks' }, reason: 'no rule' },
    ]);
  });
  test('a server that cannot be reached: host unreachable', async () => {
    const { port } = await start();
    expect(await ends(port, Buffer.concat([GREETING, byName('api.test', 1)]))).toEqual({
      hex: code('04'),
      end: 'end',
    });
  });
  test.each([
    ['BIND', '05 02 00 01 7f000001 0050', '07'],
    ['UDP ASSOCIATE', '05 03 00 01 00000000 0000', '07'],
    ['an unknown command', '05 09 00 01 7f000001 0050', '07'],
    ['an unknown kind of address', '05 01 00 05 7f000001 0050', '08'],
    ['a name that is none', `05 01 00 03 05 ${Buffer.from('a b/c').toString('hex')} 0050`, '01'],
    ['an empty name', '05 01 00 03 00 0050', '01'],
    ['port 0', '05 01 00 01 7f000001 0000', '01'],
  ])('%s', async (_, request, number) => {
    const { port, intents, refused } = await start();
    expect(await ends(port, Buffer.concat([GREETING, hex(request)]))).toEqual({
      hex: code(number),
      end: 'end',
    });
    expect(intents).toEqual([]);
    expect(refused).toEqual(['malformed']);
  });
  test('only methods that are not served: none is acceptable', async () => {
    const { port } = await start();
    expect(await ends(port, hex('05 01 01'))).toEqual({ hex: '05ff', end: 'end' });
  });
  test.each([
    ['SOCKS 4', '04 01 0050 7f000001 00'],
    ['HTTP', Buffer.from('GET / HTTP/1.1\r\n\r\n').toString('hex')],
    ['another version in the request', '05 01 00 04 01 00 01 7f000001 0050'],
    ['a password of another version', '05 01 02 05 01 61 01 62'],
  ])('%s: the connection ends', async (_, request) => {
    const { port, refused, intents } = await start();
    await ends(port, hex(request));
    expect(refused).toEqual(['malformed']);
    expect(intents).toEqual([]);
  });
  test('one connection too many is reset', async () => {
    const { port, server, refused } = await start({}, 1);
    const upstream = await startUpstream(() => undefined);
    undo.push(upstream.stop);
    const { socket, state } = open(port);
    socket.write(Buffer.concat([GREETING, byName('api.test', upstream.port)]));
    await until(() => state.hex).toBe(`0500${GRANTED}`);
    await until(server.openConnections).toBe(1);
    expect(await ends(port, GREETING)).toEqual({ hex: '', end: 'reset' });
    expect(refused).toEqual(['too-many-connections']);
  });
});

test('a tunnel of an older policy is closed', async () => {
  const upstream = await startUpstream(() => undefined);
  undo.push(upstream.stop);
  const { port, proxy } = await start();
  const { socket, state } = open(port);
  socket.write(Buffer.concat([GREETING, byName('api.test', upstream.port)]));
  await until(() => state.hex).toBe(`0500${GRANTED}`);
  proxy.closeStale(2);
  await until(() => state.end).toBe('reset');
});
