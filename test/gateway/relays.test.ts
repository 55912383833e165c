/** Relays between the real link and the real development gateway, over loopback. */
import { randomBytes } from 'node:crypto';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { Duplex, PassThrough } from 'node:stream';
import { beforeEach, describe, expect, test } from 'vitest';
import type { GatewayLinkOptions } from '../../supervisor/gateway/link.ts';
import type { RelayEvent } from '../../supervisor/gateway/relay/relays.ts';
import { type RelayTarget, relayTarget } from '../../supervisor/gateway/relay/target.ts';
import { err, ok, type Result } from '../../supervisor/result.ts';
import { GatewayClient } from '../dev-gateway/client/gateway-client.ts';
import { type DevGateway, startDevGateway } from '../dev-gateway/server.ts';
import { undoAfterEach } from '../undo-after-each.ts';
import { linkTo, until } from './link-fixture.ts';
import { SIZES, SlowTarget } from './slow-target.ts';

let gateway: DevGateway;
let client: GatewayClient;
const undo = undoAfterEach();
beforeEach(async () => {
  gateway = await startDevGateway({});
  client = new GatewayClient(`127.0.0.1:${gateway.port}`);
  undo.push(
    () => gateway.stop(),
    () => client.close(),
  );
});

async function listening(serve: (socket: Socket) => void): Promise<number> {
  const sockets = new Set<Socket>();
  const server: Server = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
    serve(socket);
  });
  await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
  undo.push(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  const address = server.address();
  return typeof address === 'object' && address !== null ? address.port : 0;
}

const dialTcp = (target: RelayTarget): Promise<Result<Duplex, string>> =>
  new Promise((resolve) => {
    if (target.kind !== 'tcp') return resolve(err('there is no SSH here'));
    const socket = connect({ host: target.host, port: target.port, allowHalfOpen: true });
    socket.once('connect', () => resolve(ok(socket)));
    socket.once('error', (error) => resolve(err(error.message)));
  });

async function linked(
  relays: Partial<GatewayLinkOptions['relays']> = {},
  more: Partial<GatewayLinkOptions> = {},
) {
  const events: RelayEvent[] = [];
  const { token } = gateway.mintToken('sb-1');
  const started = linkTo(gateway.port, () => token, {
    relays: { connect: dialTcp, max: 64, observe: (event) => events.push(event), ...relays },
    ...more,
  });
  expect((await started.link.prepare()).ok).toBe(true);
  started.link.startSession();
  undo.push(() => started.link.stop(100));
  await started.established();
  return { ...started, events };
}

const tcp = (port: number) => ({ $case: 'tcp' as const, value: { host: '127.0.0.1', port } });
const echo = () => listening((socket) => socket.pipe(socket));

/** All that comes until the end, or why it broke. */
function collect(stream: Duplex): Promise<{ readonly bytes: Buffer; readonly error: Error | undefined }> {
  const chunks: Buffer[] = [];
  return new Promise((resolve) => {
    stream.on('data', (chunk: Buffer) => chunks.push(chunk));
    stream.once('end', () => resolve({ bytes: Buffer.concat(chunks), error: undefined }));
    stream.once('error', (error) => resolve({ bytes: Buffer.concat(chunks), error }));
  });
}

describe('a user who names no sandbox', () => {
  test('gets the only one, and is asked for a name when there are several', async () => {
    const port = await echo();
    await expect(client.forward('', tcp(port))).rejects.toThrow('no sandbox is connected');
    await linked();
    const stream = await client.forward('', tcp(port));
    stream.end('hello');
    expect((await collect(stream)).bytes.toString()).toBe('hello');
    const { token } = gateway.mintToken('sb-2');
    const second = linkTo(gateway.port, () => token, { sandboxId: 'sb-2' });
    undo.push(() => second.link.stop(100));
    expect((await second.link.prepare()).ok).toBe(true);
    second.link.startSession();
    await second.established();
    await expect(client.forward('', tcp(port))).rejects.toThrow(
      '2 sandboxes are connected; name one with --sandbox: sb-1, sb-2',
    );
    await expect(client.logs({ sandboxId: '' })).rejects.toThrow('2 sandboxes are connected');
  });

  test('is told of those that have gone, whose logs are still there', async () => {
    const { link } = await linked();
    await link.stop(100);
    await until(() => gateway.sessions().every(({ endedAtMs }) => endedAtMs !== undefined));
    await expect(client.forward('', tcp(1))).rejects.toThrow(
      'no sandbox is connected; earlier ones, by --sandbox: sb-1',
    );
    await expect(client.logs({ sandboxId: 'sb-1' })).resolves.toMatchObject({ logs: [] });
  });
});

test('a user who names a sandbox wrongly is told at once, while another one is connected', async () => {
  await linked();
  await expect(client.forward('sb-7', tcp(1))).rejects.toThrow(
    'no sandbox is called "sb-7"; connected: sb-1',
  );
  await expect(client.logs({ sandboxId: 'sb-7' })).rejects.toThrow('no sandbox is called "sb-7"');
});

describe('a relay', () => {
  test('carries ten megabytes both ways, byte for byte', async () => {
    const { events } = await linked();
    const stream = await client.forward('sb-1', tcp(await echo()));
    const sent = randomBytes(10 << 20);
    const got = collect(stream);
    stream.end(sent);
    const { bytes, error } = await got;
    expect(error).toBeUndefined();
    expect(bytes.equals(sent)).toBe(true);
    await until(() => events.some(({ kind }) => kind === 'closed'));
    expect(events).toMatchObject([
      { kind: 'opened' },
      { kind: 'closed', reason: undefined, sentBytes: sent.length, receivedBytes: sent.length },
    ]);
  }, 60_000);

  test('passes the target’s end on while the user goes on', async () => {
    const heard: string[] = [];
    const port = await listening((socket) => {
      socket.on('data', (chunk) => heard.push(chunk.toString()));
      socket.end('bye');
    });
    await linked();
    const stream = await gateway.openRelay('sb-1', tcp(port));
    const { bytes } = await collect(stream);
    expect(bytes.toString()).toBe('bye');
    stream.write('still here');
    await until(() => heard.join('') === 'still here');
    stream.end();
  });

  test('passes the user’s end on while the target goes on', async () => {
    const port = await listening((socket) => {
      let text = '';
      socket.on('data', (chunk) => (text += chunk));
      socket.on('end', () => socket.end(`heard ${text}`));
    });
    await linked();
    const stream = await client.forward('sb-1', tcp(port));
    const got = collect(stream);
    stream.end('a question');
    expect((await got).bytes.toString()).toBe('heard a question');
  });

  test('is whole for a user who reads late, after both directions have ended', async () => {
    const sent = randomBytes(60_000);
    const port = await listening((socket) => socket.on('end', () => socket.end(sent)).resume());
    const { events } = await linked();
    const stream = await gateway.openRelay('sb-1', tcp(port));
    stream.end();
    await until(() => events.some(({ kind }) => kind === 'closed'));
    // A later relay of the same connection has been heard: so has all that the first one's sandbox had to say.
    const later = await gateway.openRelay('sb-1', tcp(port));
    later.end();
    await collect(later);
    const { bytes, error } = await collect(stream);
    expect(error).toBeUndefined();
    expect(bytes.equals(sent)).toBe(true);
  });

  test('takes all of an upload to a target that has ended first and reads slowly', async () => {
    const targets = SIZES.map(() => new SlowTarget());
    const { events } = await linked({
      connect: async (asked) => {
        const target = asked.kind === 'tcp' ? targets[asked.port - 1] : undefined;
        return target === undefined ? err('there is nothing here') : ok(target);
      },
    });
    const upload = async (size: number, n: number): Promise<void> => {
      const stream = await client.forward('sb-1', tcp(n + 1));
      const got = collect(stream);
      stream.end(Buffer.alloc(size));
      expect(await got).toEqual({ bytes: Buffer.alloc(0), error: undefined });
    };
    await Promise.all(SIZES.map(upload));
    const closed = () => events.filter((event) => event.kind === 'closed');
    await until(() => closed().length === SIZES.length);
    expect(closed().map(({ reason }) => reason)).toEqual(SIZES.map(() => undefined));
    await until(() => targets.every(({ received }, n) => received === SIZES[n]));
  }, 30_000);

  test('that a user has left while its target was being connected is given up', async () => {
    let late: ((result: Result<Duplex, string>) => void) | undefined;
    const { events } = await linked({ connect: () => new Promise((resolve) => (late = resolve)) });
    const stream = await client.forward('sb-1', tcp(5));
    await until(() => late !== undefined);
    stream.destroy();
    // What comes after it on the same connection has been answered.
    const other = await client.forward('sb-1', tcp(5), 'no token');
    await collect(other);
    late?.(ok(new PassThrough()));
    await until(() => events.some(({ kind }) => kind === 'closed'));
  });

  test('ends when the target breaks off, and when the user does', async () => {
    let inside: Socket | undefined;
    const port = await listening((socket) => {
      inside = socket;
      socket.on('end', () => socket.end()).resume();
      socket.write('hello');
    });
    const { events } = await linked();
    const first = await client.forward('sb-1', tcp(port));
    await new Promise((resolve) => first.once('data', resolve));
    const broken = collect(first);
    inside?.resetAndDestroy();
    expect((await broken).error).toBeDefined();
    const second = await client.forward('sb-1', tcp(port));
    await new Promise((resolve) => second.once('data', resolve));
    const closed = new Promise((resolve) => inside?.once('close', resolve));
    second.destroy();
    await closed;
    await until(() => events.filter(({ kind }) => kind === 'closed').length === 2);
    // CANCEL: nothing has failed at the gateway.
    expect(events.at(-1)).toMatchObject({ reason: 'the stream was reset with HTTP/2 code 8' });
  });

  test('that nobody reads holds up nobody else, and little of it is in memory', async () => {
    let sent = 0;
    const piece = Buffer.alloc(64 << 10, 'x');
    const flood = await listening((socket) => {
      const more = (): void => {
        while (socket.writable && sent < 1 << 30) {
          sent += piece.length;
          if (!socket.write(piece)) return void socket.once('drain', more);
        }
      };
      more();
    });
    const quick = await echo();
    await linked();
    const slow = await Promise.all(Array.from({ length: 16 }, () => client.createSshSession('sb-1')));
    const streams = await Promise.all(slow.map(({ token }) => client.forward('sb-1', tcp(flood), token)));
    for (const stream of streams) {
      undo.push(() => stream.destroy());
      await new Promise((resolve) => stream.once('readable', resolve));
    }
    let before = -1;
    await expect
      .poll(
        () => {
          const still = sent === before;
          before = sent;
          return still;
        },
        { interval: 300, timeout: 20_000 },
      )
      .toBe(true);
    // Of both ends and all buffers between them, in one process here.
    expect(sent / streams.length).toBeLessThan(8 << 20);
    const stream = await client.forward('sb-1', tcp(quick));
    const got = collect(stream);
    stream.end('quick');
    expect((await got).bytes.toString()).toBe('quick');
  }, 60_000);

  const MANY = 96;
  const settled = async (count: () => number): Promise<void> => {
    let before = -1;
    const still = (): boolean => {
      const same = count() === before;
      before = count();
      return same;
    };
    await expect.poll(still, { interval: 300, timeout: 20_000 }).toBe(true);
  };

  test('of a hundred that the gateway does not read holds up neither another one nor a call', async () => {
    let sent = 0;
    const endless = (): Duplex =>
      new Duplex({
        read(size) {
          sent += size;
          this.push(Buffer.alloc(size));
        },
        write: (_chunk, _encoding, done) => done(),
      });
    const echoing = await echo();
    const { link } = await linked({
      max: MANY + 1,
      connect: async (target) =>
        target.kind === 'tcp' && target.port === echoing ? dialTcp(target) : ok(endless()),
    });
    for (let n = 0; n < MANY; n += 1) {
      const stream = await gateway.openRelay('sb-1', tcp(1));
      undo.push(() => stream.destroy());
    }
    await settled(() => sent);
    // A window of the gateway's, 1 MiB, has gone there; the rest is ours.
    expect(sent / MANY - (1 << 20)).toBeLessThan(512 << 10);
    const stream = await gateway.openRelay('sb-1', tcp(echoing));
    const got = collect(stream);
    stream.end('quick');
    expect((await got).bytes.toString()).toBe('quick');
    await expect(link.providerEnvironment()).resolves.toBeDefined();
  }, 60_000);

  test('of a hundred whose targets read nothing holds up neither another one nor a call', async () => {
    const deaf = (): Duplex => new Duplex({ read: () => undefined, write: () => undefined });
    const echoing = await echo();
    const { link } = await linked({
      max: MANY + 1,
      connect: async (target) =>
        target.kind === 'tcp' && target.port === echoing ? dialTcp(target) : ok(deaf()),
    });
    let written = 0;
    for (let n = 0; n < MANY; n += 1) {
      const stream = await gateway.openRelay('sb-1', tcp(1));
      undo.push(() => stream.destroy());
      const more = (): void => {
        written += 64 << 10;
        if (stream.write(Buffer.alloc(64 << 10))) setImmediate(more);
        else stream.once('drain', more);
      };
      more();
    }
    await settled(() => written);
    expect(written / MANY).toBeLessThan(1 << 20);
    const stream = await gateway.openRelay('sb-1', tcp(echoing));
    const got = collect(stream);
    stream.end('quick');
    expect((await got).bytes.toString()).toBe('quick');
    await expect(link.providerEnvironment()).resolves.toBeDefined();
  }, 60_000);

  test('lets its target write only as fast as the gateway reads', async () => {
    const target = new PassThrough({ highWaterMark: 16 << 10 });
    const reads: number[] = [];
    const slow = new Duplex({
      read: () => undefined,
      write(chunk, _encoding, done) {
        reads.push(chunk.length);
        setTimeout(done, 20);
      },
      highWaterMark: 16 << 10,
    });
    undo.push(() => target.destroy());
    await linked({ connect: async () => ok(slow) });
    const stream = await client.forward('sb-1', tcp(1));
    let room = true;
    let given = 0;
    while (room && given < 64 << 20) {
      room = stream.write(Buffer.alloc(64 << 10));
      given += 64 << 10;
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(given).toBeLessThan(8 << 20);
    stream.destroy();
  });

  test.each([
    [
      'an address outside',
      { $case: 'tcp' as const, value: { host: '10.0.0.1', port: 80 } },
      'not a loopback address',
    ],
    ['a name', { $case: 'tcp' as const, value: { host: 'example.com', port: 80 } }, 'not a loopback address'],
    ['a port that is none', { $case: 'tcp' as const, value: { host: '127.0.0.1', port: 0 } }, 'port 0'],
    ['what is not there', { $case: 'tcp' as const, value: { host: '127.0.0.1', port: 1 } }, 'ECONNREFUSED'],
    ['SSH where there is none', { $case: 'ssh' as const, value: {} }, 'no SSH here'],
  ])('to %s is refused with the reason', async (_, target, reason) => {
    const { events } = await linked();
    const { error } = await collect(await client.forward('sb-1', target));
    expect(error?.message).toContain(reason);
    expect(events.map(({ kind }) => kind)).toEqual(['refused']);
  });

  test('beyond the bound is refused until there is room', async () => {
    const port = await echo();
    await linked({ max: 1 });
    const first = await client.forward('sb-1', tcp(port));
    const echoed = new Promise((resolve) => first.once('data', resolve));
    first.write('x');
    await echoed;
    const refused = await collect(await client.forward('sb-1', tcp(port)));
    expect(refused.error?.message).toContain('--max-relays');
    first.end();
    await collect(first);
    await expect
      .poll(async () => {
        const again = await client.forward('sb-1', tcp(port));
        const got = collect(again);
        again.end('y');
        return (await got).bytes.toString();
      })
      .toBe('y');
  });

  test('whose target never answers is refused, and what it connects later is closed', async () => {
    let late: ((result: Result<Duplex, string>) => void) | undefined;
    const { events } = await linked({ connect: () => new Promise((resolve) => (late = resolve)) });
    const { error } = await collect(await client.forward('sb-1', tcp(5)));
    expect(error?.message).toContain('did not answer within 10 s');
    const target = new PassThrough();
    late?.(ok(target));
    await until(() => target.destroyed);
    expect(events.map(({ kind }) => kind)).toEqual(['refused']);
  });

  test('whose target has gone by the time it is connected is refused', async () => {
    const gone = new PassThrough();
    gone.destroy();
    const { events, link } = await linked({ connect: async () => ok(gone) });
    const { error } = await collect(await client.forward('sb-1', tcp(5)));
    expect(error?.message).toContain('broke off at once');
    expect([events.map(({ kind }) => kind), link.openRelays]).toEqual([['refused'], 0]);
  });

  test('counts until its target has taken the rest, which may read nothing any more', async () => {
    const stuck = new Duplex({ read: () => undefined, write: () => undefined });
    let next: Duplex = stuck;
    const { events, link } = await linked({ max: 1, connect: async () => ok(next) });
    const stream = await client.forward('sb-1', tcp(5));
    const got = collect(stream);
    stream.end('x');
    stuck.push(null);
    expect((await got).error).toBeUndefined();
    await until(() => events.at(-1)?.kind === 'closed');
    expect(link.openRelays).toBe(1);
    const refused = await collect(await client.forward('sb-1', tcp(5)));
    expect(refused.error?.message).toContain('--max-relays');
    stuck.destroy();
    await until(() => link.openRelays === 0);
    next = new PassThrough();
    const again = await client.forward('sb-1', tcp(5));
    again.end('y');
    expect((await collect(again)).bytes.toString()).toBe('y');
  });

  test('whose target ends, and closes on what it has not read, is over when its user ends', async () => {
    const port = await listening((socket) => {
      socket.pause();
      socket.end('HTTP/1.1 413 no');
      setTimeout(() => socket.destroy(), 300);
    });
    const { events, link } = await linked();
    const stream = await client.forward('sb-1', tcp(port));
    const got = collect(stream);
    // More than the target's buffers, the windows and ours take.
    for (let n = 0; n < 64; n += 1) stream.write(Buffer.alloc(256 << 10));
    stream.end();
    expect((await got).bytes.toString()).toBe('HTTP/1.1 413 no');
    await until(() => events.at(-1)?.kind === 'closed');
    expect(link.openRelays).toBe(0);
  });

  test('goes on over the old connection when that is replaced, and ends with it when it is lost', async () => {
    const port = await echo();
    const { established, link } = await linked({}, { maxConnectionAgeMs: 4_000 });
    const stream = await client.forward('sb-1', tcp(port));
    let text = '';
    stream.on('data', (chunk) => (text += chunk));
    stream.write('before ');
    await until(() => text === 'before ');
    await established(3);
    stream.write('after');
    await until(() => text === 'before after');
    expect(link.state.kind).toMatch(/established|draining/);
    const broken = collect(stream);
    await gateway.refuse();
    expect((await broken).error).toBeDefined();
  });

  test('is asked for again at the session that takes over', async () => {
    const first = gateway.sessions().length;
    const port = await echo();
    const { established } = await linked();
    gateway.dropSession(gateway.sessions()[first]?.id ?? '');
    const stream = await client.forward('sb-1', tcp(port));
    const got = collect(stream);
    stream.end('over');
    await established(2);
    expect((await got).bytes.toString()).toBe('over');
  });
});

test('a sandbox cannot use what is for people, nor another sandbox’s channel', async () => {
  await expect(client.forward('sb-1', tcp(1), 'no token').then(collect)).resolves.toMatchObject({
    error: expect.objectContaining({ message: expect.stringContaining('unknown or has expired') }),
  });
});

test.each([
  ['localhost', '127.0.0.1'],
  ['127.0.0.1', '127.0.0.1'],
  ['127.9.9.9', '127.9.9.9'],
  ['::1', '::1'],
])('the target %s is %s', (host, expected) => {
  expect(relayTarget({ target: { $case: 'tcp', value: { host, port: 80 } } })).toEqual(
    ok({ kind: 'tcp', host: expected, port: 80 }),
  );
});

test.each(['127.1', '0177.0.0.1', '::ffff:127.0.0.1', '0.0.0.0', '::', 'localhost.', '127.0.0.1.evil', ''])(
  'the target %s is none',
  (host) => {
    expect(relayTarget({ target: { $case: 'tcp', value: { host, port: 80 } } }).ok).toBe(false);
  },
);
