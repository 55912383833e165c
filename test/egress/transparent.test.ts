import { createSocket } from 'node:dgram';
import { Resolver } from 'node:dns/promises';
import { connect, type Socket } from 'node:net';
import { describe, expect, test } from 'vitest';
import { systemClock } from '../../supervisor/clock.ts';
import { type PolicyDns, startPolicyDns } from '../../supervisor/egress/dns/policy-dns.ts';
import type { EgressEvent } from '../../supervisor/egress/events.ts';
import { listenHere } from '../../supervisor/egress/listen.ts';
import type { ExplicitProxyOptions } from '../../supervisor/egress/proxy.ts';
import type { Intent } from '../../supervisor/policy/intent.ts';
import { err, ok } from '../../supervisor/result.ts';
import { undoAfterEach } from '../undo-after-each.ts';
import { allow, startProxy, startUpstream } from './proxy-fixture.ts';

/** Polls with patience: other tests share the machine. */
const until = <T>(read: () => T, options: { readonly interval?: number; readonly timeout?: number } = {}) =>
  expect.poll(read, { timeout: 15_000, ...options });

const undo = undoAfterEach();

const freePort = async (): Promise<number> => {
  const listener = await listenHere('127.0.0.1', 0);
  if (!listener.ok) throw new Error(listener.error);
  const address = listener.value.address();
  await new Promise((done) => listener.value.close(done));
  return typeof address === 'object' && address !== null ? address.port : 0;
};

/** Policy DNS in front of the real pipeline; the policy is a map that the test owns. */
async function start(
  policy: Map<string, readonly number[]>,
  options: Partial<ExplicitProxyOptions> & { readonly listen?: typeof listenHere } = {},
) {
  const intents: Intent[] = [];
  const events: EgressEvent[] = [];
  const { proxy } = await startProxy({
    authorize: (intent) => {
      intents.push(intent);
      return allow();
    },
    observe: (event) => events.push(event),
    ...options,
  });
  undo.push(() => proxy.stop());
  const port = await freePort();
  const started = await startPolicyDns({
    listen: options.listen ?? listenHere,
    bind: async (host, at) => {
      const socket = createSocket('udp4');
      await new Promise<void>((done) => void socket.bind(at, host, done));
      return ok(socket);
    },
    reachablePorts: (name) => policy.get(name) ?? [],
    wayOut: proxy.wayOut,
    clock: systemClock,
    observe: (event) => events.push(event),
    search: ['cluster.test'],
    port,
  });
  if (!started.ok) throw new Error(started.error);
  const dns: PolicyDns = started.value;
  undo.push(() => dns.stop());
  const resolver = new Resolver({ timeout: 2000, tries: 2 });
  resolver.setServers([`127.0.0.1:${port}`]);
  const addressOf = async (name: string): Promise<string> => (await resolver.resolve4(name))[0] ?? '';
  return { dns, proxy, resolver, addressOf, intents, events };
}

function open(host: string, port: number) {
  const socket: Socket = connect({ port, host, allowHalfOpen: true });
  const state = { text: '', end: '' };
  socket.on('data', (chunk: Buffer) => {
    state.text += chunk.toString('latin1');
  });
  socket.on('error', (error: NodeJS.ErrnoException) => {
    state.end = error.code ?? '';
  });
  socket.on('end', () => {
    state.end = 'end';
    socket.end();
  });
  undo.push(() => socket.destroy());
  return { socket, state };
}

describe('a client that knows of no proxy', () => {
  test('reaches a name of the policy at its address, and the server at once', async () => {
    const upstream = await startUpstream(
      (socket, all) => void (all === 'PING\r\n' && socket.end('+PONG\r\n')),
    );
    undo.push(upstream.stop);
    const { addressOf, intents, resolver, events, dns } = await start(
      new Map([['db.test', [upstream.port]]]),
    );
    const address = await addressOf('db.test');
    expect(address).toBe('127.64.0.1');
    expect(await resolver.reverse(address)).toEqual(['db.test']);
    const { socket, state } = open(address, upstream.port);
    // A server may speak first: nothing waits for the client's first byte.
    await until(upstream.connections).toHaveLength(1);
    expect(dns.openConnections()).toBe(1);
    socket.write('PING\r\n');
    await until(() => state).toEqual({ text: '+PONG\r\n', end: 'end' });
    expect(intents).toEqual([{ host: 'db.test', port: upstream.port, via: 'transparent' }]);
    await until(dns.openConnections).toBe(0);
    await until(() => events.map(({ kind }) => kind)).toEqual(['opened', 'closed']);
  });

  test('names have addresses of their own, and the address tells the name at the same port', async () => {
    const upstream = await startUpstream(() => undefined);
    undo.push(upstream.stop);
    const ports = [upstream.port];
    const { addressOf, intents } = await start(
      new Map([
        ['a.test', ports],
        ['b.test', ports],
      ]),
    );
    const [a, b] = [await addressOf('a.test'), await addressOf('b.test')];
    expect(a).not.toBe(b);
    open(b, upstream.port);
    await until(() => intents).toHaveLength(1);
    open(a, upstream.port);
    await until(() => intents.map(({ host }) => host)).toEqual(['b.test', 'a.test']);
  });

  test('finds nothing at other ports and other addresses', async () => {
    const port = await freePort();
    const { addressOf } = await start(new Map([['a.test', [port]]]));
    const address = await addressOf('a.test');
    for (const [host, at] of [
      [address, await freePort()],
      ['127.64.0.77', port],
    ] as const) {
      const { state } = open(host, at);
      await until(() => state.end).toBe('ECONNREFUSED');
    }
  });

  test('is told of a denial when it speaks HTTP, and reset when it does not', async () => {
    const port = await freePort();
    const { addressOf, events } = await start(new Map([['a.test', [port]]]), {
      authorize: () => ({ kind: 'deny', generation: 1, reason: 'not this binary', policy: 'a' }),
    });
    const address = await addressOf('a.test');
    const http = open(address, port);
    http.socket.write('GET / HTTP/1.1\r\nHost: a.test\r\n\r\n');
    await until(() => http.state.end).toBe('end');
    expect(http.state.text).toMatch(/^HTTP\/1\.1 403 Forbidden\r\n[\s\S]*"reason":"not this binary"/);
    for (const first of ['\u0016\u0003\u0001', '']) {
      const other = open(address, port);
      if (first !== '') other.socket.write(first, 'latin1');
      await until(() => other.state).toEqual({ text: '', end: 'ECONNRESET' });
    }
    expect(events).toMatchObject(
      Array.from({ length: 3 }, () => ({ kind: 'denied', stage: 'transparent-tcp', policy: 'a' })),
    );
  });

  test('is reset when the server cannot be reached', async () => {
    const port = await freePort();
    const { addressOf, events } = await start(new Map([['a.test', [port]]]), {
      resolve: async () => err('a.test cannot be resolved'),
    });
    const { state } = open(await addressOf('a.test'), port);
    await until(() => state.end).toBe('ECONNRESET');
    expect(events).toMatchObject([{ kind: 'failed', reason: 'a.test cannot be resolved' }]);
  });

  test('is reset, not answered in HTTP, when requests must be seen and it speaks something else', async () => {
    const upstream = await startUpstream(() => undefined);
    undo.push(upstream.stop);
    const { addressOf } = await start(new Map([['a.test', [upstream.port]]]), {
      authorize: () => ({ ...allow(), inspect: true }) as ReturnType<typeof allow>,
    });
    const { socket, state } = open(await addressOf('a.test'), upstream.port);
    socket.write('\0\0\0\x08\x04\xd2\x16\x2f', 'latin1');
    await until(() => state).toEqual({ text: '', end: 'ECONNRESET' });
    expect(upstream.received()).toBe('');
  });
});

describe('when the policy changes', () => {
  test('a name that is dropped loses its address, listeners and, with the generation, its connections', async () => {
    const upstream = await startUpstream(() => undefined);
    undo.push(upstream.stop);
    const policy = new Map([['a.test', [upstream.port]]]);
    const { addressOf, dns, proxy, resolver } = await start(policy);
    const address = await addressOf('a.test');
    const before = open(address, upstream.port);
    await until(upstream.connections).toHaveLength(1);
    policy.clear();
    dns.policyChanged();
    proxy.closeStale(2);
    await until(() => before.state.end).toBe('ECONNRESET');
    const after = open(address, upstream.port);
    await until(() => after.state.end).toBe('ECONNREFUSED');
    await expect(addressOf('a.test')).rejects.toMatchObject({ code: 'ENOTFOUND' });
    await expect(resolver.reverse(address)).rejects.toMatchObject({ code: 'ENOTFOUND' });
    policy.set('a.test', [upstream.port]);
    expect(await addressOf('a.test')).not.toBe(address);
  });

  test('a name that stays keeps its address and changes its ports, without being asked for again', async () => {
    const [first, second] = [await startUpstream(() => undefined), await startUpstream(() => undefined)];
    undo.push(first.stop, second.stop);
    const policy = new Map([['a.test', [first.port]]]);
    const { addressOf, dns } = await start(policy);
    const address = await addressOf('a.test');
    policy.set('a.test', [second.port]);
    dns.policyChanged();
    await until(
      () =>
        new Promise((done) => {
          const socket = connect(second.port, address);
          socket.on('connect', () => {
            socket.destroy();
            done('connected');
          });
          socket.on('error', () => done('refused'));
        }),
    ).toBe('connected');
    const old = open(address, first.port);
    await until(() => old.state.end).toBe('ECONNREFUSED');
    expect(await addressOf('a.test')).toBe(address);
  });
});

describe('what goes wrong', () => {
  test('ports that cannot be listened on are told of once, with the sysctl, and the name fails', async () => {
    const reason = 'ports below 1024 are closed to this user: set the pod’s safe sysctl';
    const { addressOf, events } = await start(
      new Map([
        ['a.test', [80, 443]],
        ['b.test', [80]],
      ]),
      {
        listen: async (host, port) => (host === '127.0.0.1' ? listenHere(host, port) : err(reason)),
      },
    );
    await expect(addressOf('a.test')).rejects.toMatchObject({ code: 'ESERVFAIL' });
    await expect(addressOf('b.test')).rejects.toMatchObject({ code: 'ESERVFAIL' });
    const told = events.filter((event) => event.kind === 'name-failed').map(({ reason: why }) => why);
    expect(told.filter((why) => why === reason)).toHaveLength(1);
  });

  test('names outside the policy do not exist, and are told of once, not by every suffix of the search list', async () => {
    const { addressOf, events } = await start(new Map([['a.test', [await freePort()]]]));
    for (const name of ['evil.test', 'evil.test', 'evil.test.cluster.test', 'a.test.cluster.test'])
      await expect(addressOf(name)).rejects.toMatchObject({ code: 'ENOTFOUND' });
    expect(events).toEqual([{ kind: 'name-denied', name: 'evil.test', passedOver: 0 }]);
  });
});
