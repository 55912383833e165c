/** Clients that do not keep to the protocol: each loses at most itself, and others go on. */
import { once } from 'node:events';
import fc from 'fast-check';
import { afterEach, describe, expect, test } from 'vitest';
import { VirtualClock } from '../gateway/virtual-clock.ts';
import { accessFixture, exec, login, plug, run } from './access-fixture.ts';
import { open, packet, request, send, text, u32 } from './packets.ts';

let fixture = accessFixture();
afterEach(() => {
  fixture.server.stop();
  fixture = accessFixture();
});

/** A client that has nothing to do with the hostile one. */
async function worksForOthers(): Promise<void> {
  const client = await login(fixture.server);
  expect((await run(client, 'echo fine')).stdout.toString()).toBe('fine\n');
  client.end();
}

const many = (count: number, make: (n: number) => Buffer): readonly Buffer[] =>
  Array.from({ length: count }, (_, n) => make(n));
const BLOB = Buffer.alloc(30_000, 255);

describe('a client that has logged in and sends', () => {
  test.each<readonly [string, readonly Buffer[]]>([
    ['packets of unknown types', many(200, (n) => packet(200 + (n % 50), BLOB))],
    ['an empty packet', [Buffer.alloc(0)]],
    ['data for channels that are not there', many(500, (n) => packet(94, u32(n), text('x')))],
    ['windows for channels that are not there', many(500, (n) => packet(93, u32(n), u32(0xffff_ffff)))],
    ['requests for channels that are not there', many(500, (n) => request(n, 'exec', text('true')))],
    ['ends and closes of channels that are not there', many(500, (n) => packet(96 + (n % 2), u32(n)))],
    ['opens that are cut off', [packet(90), packet(90, u32(7)), packet(90, text('session'), u32(1))]],
    ['opens whose type is a megabyte that never comes', [packet(90, u32(1 << 20), Buffer.from('session'))]],
    ['opens of unknown types', many(500, (n) => open(`type-${n}`, n))],
    ['a window and a packet size of nothing', [open('session', 0, 0, 0), request(0, 'exec', text('echo x'))]],
    [
      'windows that overflow',
      [open('session', 0, 0xffff_ffff, 0xffff_ffff), ...many(50, () => packet(93, u32(0), u32(0xffff_ffff)))],
    ],
    ['an exec that is cut off', [open('session', 0), request(0, 'exec', u32(1_000_000)), request(0, 'exec')]],
    ['a pty that is cut off', [open('session', 0), request(0, 'pty-req', text('xterm'), u32(80))]],
    [
      'a pty with endless modes',
      [
        open('session', 0),
        request(0, 'pty-req', text('x'.repeat(20_000)), u32(1), u32(1), u32(1), u32(1), text(BLOB)),
        request(0, 'shell'),
      ],
    ],
    ['a key exchange in the middle', [packet(20, BLOB)]],
    ['new keys in the middle', [packet(21)]],
    ['a login after the login', [packet(50, text('root'), text('ssh-connection'), text('none'))]],
    ['a service after the login', many(100, () => packet(5, text('ssh-userauth')))],
    [
      'answers that nobody asked for',
      [
        packet(91, u32(0), u32(0), u32(0), u32(0)),
        packet(92, u32(0)),
        packet(81),
        packet(82),
        packet(99, u32(0)),
        packet(100, u32(0)),
      ],
    ],
    ['global requests by the thousand', many(5_000, (n) => packet(80, text(`what-${n}`), Buffer.from([1])))],
    [
      'agent and X11 forwarding',
      [
        open('session', 0),
        request(0, 'auth-agent-req@openssh.com'),
        request(0, 'x11-req', Buffer.from([0]), text('a'), text('b'), u32(0)),
      ],
    ],
  ])('%s harms nobody else', async (_, packets) => {
    const client = await login(fixture.server);
    client.on('error', () => undefined);
    for (const one of packets) send(client, one);
    await worksForOthers();
    client.destroy();
    await expect.poll(() => fixture.server.openConnections).toBe(0);
  });

  test('a thousand channels gets 64 of them', async () => {
    const client = await login(fixture.server);
    client.on('error', () => undefined);
    const opened = await Promise.allSettled(Array.from({ length: 1_000 }, () => exec(client, 'sleep 60')));
    expect(opened.filter(({ status }) => status === 'fulfilled').length).toBeLessThanOrEqual(64);
    expect(fixture.asked.requests.length).toBeLessThanOrEqual(64);
    await worksForOthers();
    client.destroy();
    await expect.poll(() => fixture.server.openConnections).toBe(0);
    await expect.poll(() => fixture.asked.ended).toBe(fixture.asked.requests.length - 1);
  }, 30_000);

  test('ten thousand variables gets 32 of those that it may set', async () => {
    const client = await login(fixture.server);
    client.on('error', () => undefined);
    send(client, open('session', 0));
    for (let n = 0; n < 10_000; n += 1)
      send(client, request(0, 'env', text(`LC_${n}`), text('x'.repeat(200))));
    for (const name of [
      'LD_PRELOAD',
      'LD_LIBRARY_PATH',
      'BASH_ENV',
      'ENV',
      'http_proxy',
      'OPENSHELL_TOKEN',
      'PATH',
      'LC_=\0',
    ])
      send(client, request(0, 'env', text(name), text('evil')));
    send(client, request(0, 'exec', text('true')));
    await expect.poll(() => fixture.asked.requests.length).toBe(1);
    const { variables } = fixture.asked.requests[0] as { readonly variables: ReadonlyMap<string, string> };
    expect(variables.size).toBeLessThanOrEqual(32);
    expect([...variables.keys()].filter((name) => !/^LC_\d+$/.test(name))).toEqual([]);
    client.destroy();
    await worksForOthers();
  });

  test('more data than its window loses its connection, and little is kept', async () => {
    const client = await login(fixture.server);
    client.on('error', () => undefined);
    const channel = await exec(client, 'sleep 60');
    const closed = once(client, 'close');
    const piece = packet(94, u32(0), text(Buffer.alloc(30_000)));
    for (let n = 0; n < 1_000 && fixture.server.openConnections > 0; n += 1) {
      send(client, piece);
      await new Promise((resolve) => setImmediate(resolve));
    }
    await closed;
    channel.destroy();
    await expect.poll(() => fixture.server.openConnections).toBe(0);
    await worksForOthers();
  }, 30_000);

  test('whatever bytes as a packet, it loses at most itself', async () => {
    const payload = fc.oneof(
      fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes)),
      fc
        .tuple(
          fc.integer({ min: 80, max: 100 }),
          fc.array(
            fc.oneof(
              fc.nat(3).map(u32),
              fc.string({ maxLength: 20 }).map(text),
              fc
                .constantFrom(
                  'session',
                  'exec',
                  'shell',
                  'env',
                  'pty-req',
                  'direct-tcpip',
                  'subsystem',
                  'sftp',
                  'signal',
                )
                .map(text),
            ),
            { maxLength: 8 },
          ),
        )
        .map(([type, fields]) => packet(type, ...fields)),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(payload, { maxLength: 20 }), async (payloads) => {
        const client = await login(fixture.server);
        client.on('error', () => undefined);
        for (const one of payloads) send(client, one);
        client.destroy();
        await expect.poll(() => fixture.server.openConnections).toBe(0);
      }),
      { numRuns: 40 },
    );
    await worksForOthers();
  }, 60_000);
});

describe('a client that has not logged in', () => {
  test('whatever has become of its first bytes, it harms nobody', async () => {
    // What an honest client sends before anything is encrypted.
    const recorded: Buffer[] = [];
    const stream = plug(fixture.server);
    const write = stream.write.bind(stream);
    stream.write = ((chunk: Buffer, ...rest: never[]) => {
      recorded.push(Buffer.from(chunk));
      return write(chunk, ...rest);
    }) as typeof stream.write;
    const { default: ssh2 } = await import('ssh2');
    const honest = new ssh2.Client();
    honest.connect({ sock: stream, username: 'sandbox' });
    await once(honest, 'ready');
    honest.end();
    const first = Buffer.concat(recorded).subarray(0, 2_500);
    const change = fc.record({
      at: fc.nat(first.length - 1),
      with: fc.uint8Array({ minLength: 1, maxLength: 8 }),
      cut: fc.boolean(),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(change, { minLength: 1, maxLength: 6 }), async (changes) => {
        let bytes = Buffer.from(first);
        for (const { at, with: other, cut } of changes) {
          if (cut) bytes = bytes.subarray(0, Math.max(1, at));
          else Buffer.from(other).copy(bytes, Math.min(at, bytes.length - 1));
        }
        const hostile = plug(fixture.server);
        hostile.resume();
        hostile.write(bytes);
        await new Promise((resolve) => setImmediate(resolve));
        hostile.destroy();
        await expect.poll(() => fixture.server.openConnections).toBe(0);
      }),
      { numRuns: 150 },
    );
    await worksForOthers();
  }, 60_000);

  test.each([
    [
      'a packet length beyond all bounds',
      Buffer.concat([Buffer.from('SSH-2.0-x\r\n'), Buffer.alloc(64, 255)]),
    ],
    ['an endless identification', Buffer.alloc(1 << 20, 'S')],
    ['another protocol', Buffer.from('GET / HTTP/1.1\r\nHost: sandbox\r\n\r\n')],
    ['an old version', Buffer.from('SSH-1.5-old\r\n')],
  ])('%s ends it, after the time to log in at the latest', async (_, bytes) => {
    const clock = new VirtualClock();
    fixture = accessFixture({ clock });
    const hostile = plug(fixture.server);
    hostile.resume();
    hostile.write(bytes);
    // The server is made when the first client comes.
    await once(hostile, 'data');
    clock.run(11_000);
    await expect.poll(() => fixture.server.openConnections).toBe(0);
    await worksForOthers();
  });
});
