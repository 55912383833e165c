/** Clients that are honest and slow, asleep or unusual, and some that are not: what ssh2 1.17 alone gets wrong. */
import { once } from 'node:events';
import { createServer } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Client } from 'ssh2';
import { describe, expect, test, vi } from 'vitest';
import { VirtualClock } from '../gateway/virtual-clock.ts';
import { undoAfterEach } from '../undo-after-each.ts';
import { accessFixture, exec, finished, login, run } from './access-fixture.ts';
import { heard, open, openForward, packet, request, send, text, u32 } from './packets.ts';

const undo = undoAfterEach();

function fixture(overrides: Parameters<typeof accessFixture>[0] = {}) {
  const made = accessFixture(overrides);
  undo.push(() => made.server.stop());
  return made;
}

async function loggedIn(made: ReturnType<typeof accessFixture>): Promise<Client> {
  const client = await login(made.server);
  client.on('error', () => undefined);
  return client;
}

/** Serves one connection on the loopback. */
async function target(serve: (socket: import('node:net').Socket) => void): Promise<number> {
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    socket.on('error', () => undefined);
    undo.push(() => socket.destroy());
    serve(socket);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  undo.push(() => server.close());
  const address = server.address();
  return typeof address === 'object' && address !== null ? address.port : 0;
}

describe('a channel', () => {
  test.each([0, 1, 1023])(
    'whose packets may hold %i bytes is refused: to fill them would take for ever',
    async (size) => {
      const made = fixture();
      const client = await loggedIn(made);
      const failures: number[] = [];
      heard(client)['CHANNEL_OPEN_FAILURE'] = (_, __: never, reason: number) => failures.push(reason);
      send(client, open('session', 0, 0x7fff_ffff, size));
      send(client, openForward(1, '127.0.0.1', 9, 0x7fff_ffff, size));
      send(client, request(0, 'exec', text('echo hello')));
      await expect.poll(() => failures).toEqual([4, 4]);
      expect(made.asked.requests).toEqual([]);
      expect((await run(await login(made.server), 'echo fine')).code).toBe(0);
    },
  );

  test('that is closed before anything was started in it is answered and forgotten, once', async () => {
    const made = fixture();
    const client = await loggedIn(made);
    let closes = 0;
    heard(client)['CHANNEL_CLOSE'] = () => (closes += 1);
    heard(client)['CHANNEL_OPEN_CONFIRMATION'] = () => undefined;
    for (let n = 0; n < 1_000; n += 1) {
      send(client, open('session', n));
      send(client, packet(97, u32(n)));
    }
    await expect.poll(() => closes).toBe(1_000);
    for (let n = 0; n < 300; n += 1) send(client, packet(97, u32(5)));
    // To close one often makes no room for more than 64.
    for (let n = 0; n < 100; n += 1) send(client, open('session', 2_000 + n));
    for (let n = 0; n < 100; n += 1) send(client, request(1_000 + n, 'exec', text('sleep 5')));
    await expect.poll(() => made.asked.requests.length).toBe(64);
    await sleep(100);
    expect([made.asked.requests.length, closes]).toEqual([64, 1_000]);
    client.destroy();
  });

  test('has its requests answered after the start of a program, and windows and signals delivered after the end of its input', async () => {
    const made = fixture();
    const client = await loggedIn(made);
    const answers: string[] = [];
    heard(client)['CHANNEL_OPEN_CONFIRMATION'] = () => undefined;
    heard(client)['CHANNEL_SUCCESS'] = () => answers.push('yes');
    heard(client)['CHANNEL_FAILURE'] = () => answers.push('no');
    send(client, open('session', 0));
    send(client, request(0, 'exec', text('trap "" USR1; sleep 5')));
    await expect.poll(() => made.asked.requests.length).toBe(1);
    send(client, request(0, 'winadj@putty.projects.tartarus.org'));
    send(client, request(0, 'env', text('LANG'), text('C')));
    send(client, request(0, 'exec', text('true')));
    send(client, request(0, 'window-change', u32(100)));
    await expect.poll(() => answers).toEqual(['yes', 'no', 'no', 'no', 'no']);
    send(client, packet(96, u32(0)));
    send(client, request(0, 'window-change', u32(101), u32(51), u32(0), u32(0)));
    send(client, request(0, 'signal', text('USR1')));
    send(client, request(0, 'shell'));
    await expect.poll(() => answers.slice(5)).toEqual(['yes', 'yes', 'no']);
    expect(made.asked.windows.at(-1)).toMatchObject({ columns: 101, rows: 51 });
    expect(made.asked.signals).toEqual(['SIGUSR1']);
    expect(made.asked.requests.length).toBe(1);
    client.destroy();
  });

  test('whose output nobody reads any more ends its program, whose errors still come', async () => {
    const made = fixture();
    const client = await loggedIn(made);
    const channel = await exec(client, 'trap "" PIPE; yes; echo over >&2');
    const end = finished(channel);
    await once(channel, 'data');
    send(client, request(0, 'eow@openssh.com'));
    expect(await end).toMatchObject({ code: 0, stderr: expect.stringMatching(/over\n$/) });
    client.destroy();
  });

  test('is given no window once it is closed', async () => {
    const made = fixture();
    const client = await loggedIn(made);
    const order: string[] = [];
    const hears = heard(client);
    for (const name of ['CHANNEL_WINDOW_ADJUST', 'CHANNEL_EOF', 'CHANNEL_CLOSE'])
      hears[name] = () => order.push(name);
    hears['CHANNEL_OPEN_CONFIRMATION'] = () => undefined;
    send(client, open('session', 0));
    send(client, request(0, 'exec', text('exit 0')));
    await expect.poll(() => order).toContain('CHANNEL_CLOSE');
    // In flight when the close came.
    for (let n = 0; n < 60; n += 1) send(client, packet(94, u32(0), text(Buffer.alloc(30_000))));
    expect((await run(await login(made.server), 'echo fine')).code).toBe(0);
    await sleep(50);
    expect(order.at(-1)).toBe('CHANNEL_CLOSE');
    client.destroy();
  });
});

describe('a client', () => {
  test('that does not finish a key exchange holds its own processes up, and loses its connection after 10 s', async () => {
    const clock = new VirtualClock();
    const made = fixture({ clock });
    const client = await loggedIn(made);
    const { _protocol, _sock } = client as unknown as {
      readonly _protocol: { rekey(): void };
      readonly _sock: import('node:stream').Duplex;
    };
    heard(client)['CHANNEL_OPEN_CONFIRMATION'] = () => undefined;
    send(client, open('session', 0, 0xffff_ffff));
    send(client, request(0, 'exec', text('head -c 300000000 /dev/zero')));
    await expect.poll(() => made.asked.requests.length).toBe(1);
    _protocol.rekey();
    _sock.removeAllListeners('data');
    _sock.resume();
    await sleep(100);
    const before = process.memoryUsage().arrayBuffers;
    await sleep(500);
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(16 << 20);
    expect(made.server.openConnections).toBe(1);
    clock.run(10_000);
    await expect.poll(() => made.server.openConnections).toBe(0);
    expect(made.events.at(-1)).toMatchObject({
      kind: 'closed',
      reason: expect.stringContaining('key exchange'),
    });
  });

  test('that asks on and on during a key exchange is dropped', async () => {
    const made = fixture();
    const client = await loggedIn(made);
    (client as unknown as { readonly _protocol: { rekey(): void } })._protocol.rekey();
    for (let n = 0; n < 20_000 && made.server.openConnections > 0; n += 1) {
      send(client, packet(80, text('what'), Buffer.from([1])));
      if (n % 100 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    await expect.poll(() => made.server.openConnections).toBe(0);
  });

  test('that exchanges keys in the middle loses nothing', async () => {
    const made = fixture();
    const client = await loggedIn(made);
    const channel = await exec(client, 'head -c 20000000 /dev/zero');
    const end = finished(channel);
    await once(channel, 'data');
    const exchanged = once(client, 'handshake');
    (client as unknown as { readonly _protocol: { rekey(): void } })._protocol.rekey();
    await exchanged;
    const { stdout, code } = await end;
    expect([stdout.length, code]).toEqual([20_000_000, 0]);
  });

  test('that is stopped, or asleep, keeps its connection and what it runs', async () => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
    undo.push(() => vi.useRealTimers());
    const made = fixture();
    const client = await loggedIn(made);
    await exec(client, 'sleep 60');
    const { _sock } = client as unknown as { readonly _sock: import('node:stream').Duplex };
    _sock.pause();
    for (let n = 0; n < 20; n += 1) vi.advanceTimersByTime(15_000);
    await sleep(50);
    expect([made.server.openConnections, made.asked.ended]).toEqual([1, 0]);
    client.destroy();
  });

  test('whose login is rejected hears of it after a second', async () => {
    const clock = new VirtualClock();
    const made = fixture({ clock });
    const refused = login(made.server, {
      username: 'x',
      password: 'guess',
      authHandler: ['password'],
    }).then(
      () => 'let in',
      (error: Error) => error.message,
    );
    let answer: string | undefined;
    void refused.then((message) => {
      answer = message;
    });
    await sleep(300);
    expect(answer).toBeUndefined();
    clock.run(1_000);
    expect(await refused).toContain('authentication methods failed');
  });

  test('is told why a port cannot be forwarded', async () => {
    const made = fixture();
    const client = await loggedIn(made);
    const failures: unknown[] = [];
    heard(client)['CHANNEL_OPEN_FAILURE'] = (_, __: never, code: number, reason: string) =>
      failures.push([code, reason]);
    send(client, openForward(0, '10.0.0.1', 80));
    send(client, openForward(1, '127.0.0.1', 3128));
    await expect
      .poll(() => failures)
      .toEqual([
        [1, expect.stringContaining('loopback')],
        [1, expect.stringContaining('3128')],
      ]);
    expect(made.events.filter(({ kind }) => kind === 'forward-refused').length).toBe(2);
  });
});

describe('output that a process of the background goes on printing', () => {
  test('ends with its session after three seconds', async () => {
    const clock = new VirtualClock();
    const made = fixture({ clock });
    const client = await loggedIn(made);
    const channel = await exec(client, '(while sleep 0.02; do echo more; done) & echo own; exit 3');
    const end = finished(channel);
    let over = false;
    void end.then(() => {
      over = true;
    });
    await expect.poll(() => made.asked.requests.length).toBe(1);
    await sleep(300);
    expect(over).toBe(false);
    clock.run(2_000);
    await sleep(100);
    expect(over).toBe(false);
    clock.run(1_000);
    const { stdout, code } = await end;
    expect([code, stdout.toString().startsWith('own\nmore\n')]).toEqual([3, true]);
    client.destroy();
  });
});

describe('a forwarded connection', () => {
  test.each([
    ['is given to a client that ended its own side and reads slowly', true],
    ['is given to a client that reads slowly', false],
  ])('whose target sends and closes %s, to the last byte', async (_, ended) => {
    const port = await target((socket) => {
      socket.resume();
      if (ended) socket.once('end', () => socket.end(Buffer.alloc(100_000, 7)));
      else socket.end(Buffer.alloc(100_000, 7));
    });
    const made = fixture();
    const client = await loggedIn(made);
    const hears = heard(client);
    const order: string[] = [];
    let got = 0;
    let confirmed = false;
    hears['CHANNEL_OPEN_CONFIRMATION'] = () => (confirmed = true);
    hears['CHANNEL_DATA'] = (__, ___: never, data: Buffer) => (got += data.length);
    hears['CHANNEL_EOF'] = () => order.push('eof');
    hears['CHANNEL_CLOSE'] = () => order.push('close');
    send(client, openForward(0, '127.0.0.1', port, 70_000));
    await expect.poll(() => confirmed).toBe(true);
    if (ended) send(client, packet(96, u32(0)));
    await expect.poll(() => got).toBe(70_000);
    await sleep(200);
    expect(order).toEqual([]);
    send(client, packet(93, u32(0), u32(1 << 20)));
    await expect.poll(() => got).toBe(100_000);
    await expect.poll(() => order).toContain('eof');
    if (!ended) send(client, packet(96, u32(0)));
    await expect.poll(() => order).toEqual(['eof', 'close']);
    expect(made.server.openForwards).toBe(0);
  });

  test('whose target breaks off is closed', async () => {
    const port = await target((socket) => {
      socket.write('hello');
      socket.once('data', () => socket.resetAndDestroy());
    });
    const made = fixture();
    const client = await loggedIn(made);
    const order: string[] = [];
    const hears = heard(client);
    let confirmed = false;
    hears['CHANNEL_OPEN_CONFIRMATION'] = () => (confirmed = true);
    hears['CHANNEL_DATA'] = (_, __: never, data: Buffer) => order.push(data.toString());
    hears['CHANNEL_CLOSE'] = () => order.push('close');
    send(client, openForward(0, '127.0.0.1', port));
    await expect.poll(() => confirmed && order).toEqual(['hello']);
    send(client, packet(94, u32(0), text('x')));
    await expect.poll(() => order).toEqual(['hello', 'close']);
    expect(made.server.openForwards).toBe(0);
  });
});
