import { connect, createServer } from 'node:net';
import { describe, expect, test, vi } from 'vitest';
import { systemClock } from '../../supervisor/clock.ts';
import { ConnectionSlots } from '../../supervisor/egress/connection-slots.ts';
import { judgeAddress } from '../../supervisor/policy/addresses.ts';
import { ok } from '../../supervisor/result.ts';
import { MainStart } from '../../supervisor/workload/main-start.ts';
import { undoAfterEach } from '../undo-after-each.ts';
import { allow, exchange, startProxy, startUpstream, type Upstream } from './proxy-fixture.ts';

/** Callers are looked for among all processes of the machine, which takes a while on a busy one. */
const eventually = (check: () => void) => vi.waitFor(check, { timeout: 10_000 });
const undo = undoAfterEach();

const proxyWith = async (options: Parameters<typeof startProxy>[0] = {}) => {
  const made = await startProxy(options);
  undo.push(() => made.proxy.stop());
  return made;
};
const upstreamWith = async (onData: Parameters<typeof startUpstream>[0]): Promise<Upstream> => {
  const made = await startUpstream(onData);
  undo.push(() => made.stop());
  return made;
};
const echo = () => upstreamWith((socket, all) => void (all.endsWith('ping') && socket.write('pong')));
const hello = () =>
  upstreamWith((socket, all) => {
    if (all.includes('\r\n\r\n')) socket.end('HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello');
  });
const body = (text: string): unknown => JSON.parse(text.slice(text.indexOf('\r\n\r\n') + 4));

describe('CONNECT', () => {
  test('tunnels bytes both ways, passes half-close on and counts what went', async () => {
    const upstream = await echo();
    const { proxy, events } = await proxyWith();
    const answer = await exchange(
      proxy.port,
      `CONNECT a.test:${upstream.port} HTTP/1.1\r\nHost: a\r\n\r\nping`,
      { end: true },
    );
    expect(answer).toEqual({ text: 'HTTP/1.1 200 Connection Established\r\n\r\npong', end: 'end' });
    await eventually(() => expect(events.map(({ kind }) => kind)).toEqual(['opened', 'closed']));
    expect(events[1]).toMatchObject({ receivedBytes: 4 });
  });

  test('answers a denial with 403 and the contract’s body, and never dials', async () => {
    const upstream = await echo();
    const { proxy, events, asked } = await proxyWith({
      authorize: () => ({ kind: 'deny', generation: 1, reason: 'no rule names it', policy: undefined }),
    });
    const { text } = await exchange(proxy.port, `CONNECT a.test:${upstream.port} HTTP/1.1\r\n\r\n`);
    expect(text).toMatch(/^HTTP\/1\.1 403 Forbidden\r\nContent-Type: application\/json\r\n/);
    expect(body(text)).toEqual({
      error: 'policy_denied',
      detail: `a.test:${upstream.port} is not allowed by policy`,
      reason: 'no rule names it',
    });
    expect(events).toMatchObject([
      { kind: 'denied', stage: 'connect', identity: { binary: process.execPath } },
    ]);
    expect([asked, upstream.connections()]).toEqual([[], []]);
  });

  test('refuses what is neither TLS nor HTTP where requests must be seen, and TLS where it cannot be terminated', async () => {
    for (const bytes of ['SSH-2.0-x\r\n', '\x16\x03\x01\x00\x05hello']) {
      const upstream = await upstreamWith(() => undefined);
      const { proxy } = await proxyWith({
        authorize: () => ({ ...allow(), inspect: true }) as ReturnType<typeof allow>,
      });
      const { text } = await exchange(proxy.port, `CONNECT a.test:${upstream.port} HTTP/1.1\r\n\r\n${bytes}`);
      expect(text).toMatch(/HTTP\/1\.1 403[^{]*\{"error":"unsupported_l7_protocol"/);
      expect(upstream.received()).toBe('');
    }
  });

  test.each([
    ['fail_closed', 'auto', /1\.1 200 [^{]*HTTP\/1\.1 403[^{]*\{"error":"middleware_required"/],
    ['fail_closed', 'skip', /^HTTP\/1\.1 403[^{]*\{"error":"middleware_required"/],
    ['fail_open', 'auto', /^HTTP\/1\.1 200 [^{]*\r\n\r\nwelcome$/],
    ['fail_open', 'skip', /^HTTP\/1\.1 200 [^{]*\r\n\r\nwelcome$/],
  ])(
    'bytes that a middleware cannot look at pass as on_error %s says, tls %s',
    async (onError, tls, expected) => {
      const upstream = await upstreamWith((socket) => socket.end('welcome'));
      const middlewares = [{ config: { name: 'scan', onError }, matches: () => true }];
      const { proxy } = await proxyWith({
        authorize: () =>
          ({ ...allow(), tls, inspect: true, middlewares }) as unknown as ReturnType<typeof allow>,
      });
      const { text } = await exchange(
        proxy.port,
        `CONNECT a.test:${upstream.port} HTTP/1.1\r\n\r\nSSH-2.0-x\r\n`,
      );
      expect(text).toMatch(expected);
      expect(upstream.received()).toBe(onError === 'fail_open' ? 'SSH-2.0-x\r\n' : '');
    },
  );

  test('a server that speaks first is waited for where middlewares may be passed over', async () => {
    const upstream = createServer((socket) => socket.end('220 hello'));
    await new Promise<void>((resolve) => void upstream.listen(0, '127.0.0.1', resolve));
    undo.push(() => upstream.close());
    const middlewares = [{ config: { name: 'scan', onError: 'fail_open' }, matches: () => true }];
    const { proxy } = await proxyWith({
      authorize: () => ({ ...allow(), inspect: true, middlewares }) as unknown as ReturnType<typeof allow>,
    });
    const address = upstream.address();
    const port = typeof address === 'object' && address !== null ? address.port : 0;
    const { text } = await exchange(proxy.port, `CONNECT a.test:${port} HTTP/1.1\r\n\r\n`);
    expect(text).toMatch(/\r\n\r\n220 hello$/);
  });

  test.each([
    [['G', 'ET /x HT', 'TP/1.1\r\nHost: a.test\r\n\r\n'], 'inspected'],
    [['\r\nGET /x HTTP/1.1\r\nHost: a.test\r\n\r\n'], 'inspected'],
    [['S', 'S', 'H-2.0-x\r\n'], 'passed'],
    [['\x16', '\x03\x01'], 'passed'],
  ])('bytes %o are %s where middlewares may be passed over', async (parts, expected) => {
    const upstream = await upstreamWith(() => undefined);
    const middlewares = [{ config: { name: 'scan', onError: 'fail_open' }, matches: () => true }];
    const { proxy, events } = await proxyWith({
      authorize: () => ({ ...allow(), inspect: true, middlewares }) as unknown as ReturnType<typeof allow>,
    });
    const client = connect({ port: proxy.port, host: '127.0.0.1', noDelay: true });
    undo.push(() => client.destroy());
    client.on('error', () => undefined);
    client.write(`CONNECT a.test:${upstream.port} HTTP/1.1\r\n\r\n`);
    await new Promise((resolve) => client.once('data', resolve));
    for (const part of parts) {
      client.write(part);
      await new Promise((resolve) => setImmediate(resolve));
    }
    const whole = parts.join('');
    if (expected === 'passed') await eventually(() => expect(upstream.received()).toBe(whole));
    else {
      // The name is another one than the connection's, which only somebody sees who looks.
      const requests = () => events.filter(({ kind }) => kind === 'request');
      await eventually(() => expect(requests()).toMatchObject([{ request: { outcome: 'denied' } }]));
      expect(upstream.received()).toBe('');
    }
  });

  test('lets who is faster than the news of the main process wait for it', async () => {
    const start = new MainStart(systemClock);
    const { proxy } = await proxyWith({
      mainPid: () => start.pid(),
      authorize: () => ({ kind: 'deny', generation: 1, reason: 'seen', policy: undefined }),
    });
    const answered = exchange(proxy.port, 'CONNECT a.test:443 HTTP/1.1\r\n\r\n');
    await new Promise((resolve) => setImmediate(resolve));
    start.began(process.pid);
    expect(body((await answered).text)).toMatchObject({ reason: 'seen' });
  });

  test('denies everything when no main process comes', async () => {
    const { proxy } = await proxyWith({ mainPid: async () => undefined });
    const { text } = await exchange(proxy.port, 'CONNECT a.test:443 HTTP/1.1\r\n\r\n');
    expect(body(text)).toMatchObject({ error: 'policy_denied', reason: 'the main process does not run yet' });
  });

  test('denies a name that resolves to the metadata address, having asked for it once', async () => {
    let asked = 0;
    const { proxy } = await proxyWith({
      judgeAddress,
      resolve: async () => {
        asked += 1;
        return ok(asked === 1 ? ['169.254.169.254'] : ['127.0.0.1']);
      },
    });
    const { text } = await exchange(proxy.port, 'CONNECT a.test:80 HTTP/1.1\r\n\r\n');
    expect(body(text)).toMatchObject({ error: 'ssrf_denied' });
    expect(asked).toBe(1);
  });

  test('denies a name one of whose addresses is not allowed', async () => {
    const { proxy } = await proxyWith({ judgeAddress, resolve: async () => ok(['8.8.8.8', '127.0.0.1']) });
    const { text } = await exchange(proxy.port, 'CONNECT a.test:80 HTTP/1.1\r\n\r\n');
    expect(body(text)).toMatchObject({ error: 'ssrf_denied' });
  });

  test('says that the upstream cannot be reached', async () => {
    const { proxy } = await proxyWith();
    const { text } = await exchange(proxy.port, 'CONNECT a.test:1 HTTP/1.1\r\n\r\n');
    expect(text).toMatch(/^HTTP\/1\.1 502 /);
    expect(body(text)).toMatchObject({ error: 'upstream_unreachable' });
  });

  test.each(['a.test', 'a.test:0', 'a.test:65536', ':80', 'a test:80', '[::1:80'])(
    'refuses the target %j',
    async (target) => {
      const { proxy } = await proxyWith();
      const { text } = await exchange(proxy.port, `CONNECT ${target} HTTP/1.1\r\n\r\n`);
      expect(text).toMatch(/^HTTP\/1\.1 400 /);
    },
  );

  test('resets the client when the upstream resets: an abort never looks like an end', async () => {
    const upstream = await upstreamWith((socket) => void socket.resetAndDestroy());
    const { proxy } = await proxyWith();
    const answer = await exchange(proxy.port, `CONNECT a.test:${upstream.port} HTTP/1.1\r\n\r\nx`);
    expect(answer.end).toBe('reset');
  });

  test('closes the tunnels of an older policy at once, and no newer one', async () => {
    const upstream = await echo();
    let generation = 1;
    const { proxy } = await proxyWith({ generation: () => generation, authorize: () => allow(generation) });
    const open = async () => {
      const socket = connect(proxy.port, '127.0.0.1');
      undo.push(() => socket.destroy());
      socket.on('error', () => undefined);
      socket.write(`CONNECT a.test:${upstream.port} HTTP/1.1\r\n\r\n`);
      await new Promise((resolve) => socket.once('data', resolve));
      return socket;
    };
    const old = await open();
    generation = 2;
    const young = await open();
    proxy.closeStale(2);
    await new Promise((resolve) => old.once('close', resolve));
    expect(young.destroyed).toBe(false);
  });

  test('breaks an old tunnel off by a reset', async () => {
    const upstream = await echo();
    const { proxy } = await proxyWith();
    const ended = exchange(proxy.port, `CONNECT a.test:${upstream.port} HTTP/1.1\r\n\r\nping`);
    await eventually(() => expect(upstream.received()).toBe('ping'));
    proxy.closeStale(2);
    expect((await ended).end).toBe('reset');
  });

  test('breaks a tunnel off that carries nothing for the idle limit', async () => {
    const upstream = await echo();
    const { proxy, events } = await proxyWith({ idleMs: 50 });
    const answer = await exchange(proxy.port, `CONNECT a.test:${upstream.port} HTTP/1.1\r\n\r\nping`);
    expect(answer).toMatchObject({ text: expect.stringContaining('pong'), end: 'reset' });
    await eventually(() => expect(events.at(-1)).toMatchObject({ kind: 'closed' }));
    expect(proxy.openConnections()).toBe(0);
  });

  test('delivers all that the upstream sent to a client that reads it only after the upstream has ended', async () => {
    const size = 8 * 1024 * 1024;
    const upstream = await upstreamWith((socket) => void socket.end(Buffer.alloc(size, 'z')));
    const { proxy } = await proxyWith();
    const socket = connect({ port: proxy.port, host: '127.0.0.1', allowHalfOpen: true });
    undo.push(() => socket.destroy());
    socket.write(`CONNECT a.test:${upstream.port} HTTP/1.1\r\n\r\nx`);
    socket.end();
    await eventually(() => expect(upstream.received()).toBe('x'));
    let received = 0;
    for await (const chunk of socket) {
      received += (chunk as Buffer).length;
      if (received < size / 2) await new Promise((resolve) => setImmediate(resolve));
    }
    expect(received).toBe('HTTP/1.1 200 Connection Established\r\n\r\n'.length + size);
  });

  test('refuses a grant when the policy changed while the name was being resolved', async () => {
    const upstream = await echo();
    let generation = 1;
    const { proxy } = await proxyWith({
      generation: () => generation,
      resolve: async () => {
        generation = 2;
        return ok(['127.0.0.1']);
      },
    });
    const { text } = await exchange(proxy.port, `CONNECT a.test:${upstream.port} HTTP/1.1\r\n\r\n`);
    expect(body(text)).toMatchObject({ reason: 'the policy changed meanwhile; try again' });
    expect(upstream.connections()).toHaveLength(0);
  });
});

describe('plain proxying', () => {
  test('sends the path to the host of the URL, without fields of one hop', async () => {
    const upstream = await hello();
    const { proxy } = await proxyWith();
    const request =
      `GET http://a.test:${upstream.port}/x?y=1 HTTP/1.1\r\nHost: evil.test\r\nProxy-Authorization: Basic eA==\r\n` +
      'Connection: X-Secret, keep-alive\r\nX-Secret: 1\r\nX-Kept: 2\r\n\r\n';
    const { text } = await exchange(proxy.port, request);
    expect(text).toMatch(/^HTTP\/1\.1 200 OK\r\n/);
    expect(text).toMatch(/\r\n\r\nhello$/);
    const sent = upstream.received();
    expect(sent).toMatch(/^GET \/x\?y=1 HTTP\/1\.1\r\n/);
    expect(sent).toContain(`host: a.test:${upstream.port}\r\n`);
    expect(sent).toContain('via: 1.1 openshell-sandbox\r\n');
    expect(sent).toContain('x-kept: 2\r\n');
    expect(sent).not.toMatch(/evil|secret|authorization|keep-alive/i);
  });

  test('frames a chunked body again: what is inside never becomes a request', async () => {
    const upstream = await hello();
    const { proxy } = await proxyWith();
    const inner = 'GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n';
    const request =
      `GET http://a.test:${upstream.port}/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n` +
      `${inner.length.toString(16)}\r\n${inner}\r\n0\r\n\r\n`;
    await exchange(proxy.port, request);
    await eventually(() => expect(upstream.received()).toContain('smuggled'));
    const [head = '', rest = ''] = upstream.received().split('\r\n\r\n', 2);
    expect(head.toLowerCase()).toContain('transfer-encoding: chunked');
    expect(rest).toMatch(/^[0-9a-f]+\r\nGET \/smuggled/);
  });

  test('keeps the length although the client nominates it away', async () => {
    const upstream = await hello();
    const { proxy } = await proxyWith();
    const request = `POST http://a.test:${upstream.port}/ HTTP/1.1\r\nHost: a\r\nConnection: content-length\r\nContent-Length: 4\r\n\r\nbody`;
    await exchange(proxy.port, request);
    await eventually(() => expect(upstream.received()).toMatch(/content-length: 4\r\n[\s\S]*\r\n\r\nbody$/));
  });

  test.each([
    ['two lengths of framing', 'Content-Length: 3\r\nTransfer-Encoding: chunked\r\n', '0\r\n\r\n'],
    ['a folded field', 'X-A: 1\r\n folded\r\n', ''],
    ['a coding named twice', 'Transfer-Encoding: chunked, chunked\r\n', '0\r\n\r\n'],
    ['two hosts', 'Host: b\r\n', ''],
    ['a coding that it does not know', 'Transfer-Encoding: gzip, chunked\r\n', '0\r\n\r\n'],
    ['conflicting lengths', 'Content-Length: 3\r\nContent-Length: 4\r\n', 'abc'],
  ])('refuses %s', async (_what, fields, tail) => {
    const upstream = await hello();
    const { proxy } = await proxyWith();
    const { text } = await exchange(
      proxy.port,
      `POST http://a.test:${upstream.port}/ HTTP/1.1\r\nHost: a\r\n${fields}\r\n${tail}`,
    );
    expect(text).toMatch(/^HTTP\/1\.1 400 /);
    expect(upstream.received()).toBe('');
  });

  test('refuses a chunked body of HTTP/1.0, which has no such coding', async () => {
    const upstream = await hello();
    const { proxy } = await proxyWith();
    const { text } = await exchange(
      proxy.port,
      `POST http://a.test:${upstream.port}/ HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
    );
    expect(text).toMatch(/^HTTP\/1\.1 400 /);
    expect(body(text)).toMatchObject({ error: 'invalid_request_target' });
    expect(upstream.received()).toBe('');
  });

  test('serves one request a connection, whatever is pipelined behind it', async () => {
    const upstream = await hello();
    const { proxy } = await proxyWith();
    const one = `GET http://a.test:${upstream.port}/one HTTP/1.1\r\nHost: a\r\n\r\n`;
    const { text } = await exchange(proxy.port, `${one}${one.replace('/one', '/two')}`);
    expect(text.match(/HTTP\/1\.1 200/g)).toHaveLength(1);
    expect(upstream.received()).not.toContain('/two');
  });

  test('refuses a CONNECT behind a request', async () => {
    const upstream = await hello();
    const { proxy } = await proxyWith();
    const first = `GET http://a.test:${upstream.port}/one HTTP/1.1\r\nHost: a\r\n\r\n`;
    const { text } = await exchange(proxy.port, `${first}CONNECT a.test:${upstream.port} HTTP/1.1\r\n\r\n`);
    expect(text).not.toContain('Connection Established');
  });

  test('finishes a request under way when the policy changes', async () => {
    const upstream = await upstreamWith((socket) => {
      socket.write('HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel');
    });
    const { proxy, events } = await proxyWith();
    const done = exchange(proxy.port, `GET http://a.test:${upstream.port}/ HTTP/1.1\r\nHost: a\r\n\r\n`);
    await eventually(() => expect(events.at(0)).toMatchObject({ kind: 'opened' }));
    await eventually(() => expect(upstream.received()).toContain('GET / '));
    proxy.closeStale(2);
    upstream.connections()[0]?.end('lo');
    const { text } = await done;
    expect(text.endsWith('hello')).toBe(true);
  });

  test('never writes a second head when what follows a request is malformed', async () => {
    const upstream = await upstreamWith((socket) => {
      socket.write('HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart');
    });
    const { proxy } = await proxyWith();
    const socket = connect(proxy.port, '127.0.0.1');
    socket.on('error', () => undefined);
    let text = '';
    socket.on('data', (chunk) => {
      if (text === '') socket.write('\0 not HTTP\r\n\r\n');
      text += chunk.toString('latin1');
    });
    socket.write(`GET http://a.test:${upstream.port}/ HTTP/1.1\r\nHost: a\r\n\r\n`);
    await new Promise((resolve) => socket.once('close', resolve));
    expect(text.match(/HTTP\/1\.1 /g)).toHaveLength(1);
  });

  test('cuts the connection when the upstream breaks off inside a body', async () => {
    const upstream = await upstreamWith((socket) => {
      socket.write('HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart', () => socket.destroy());
    });
    const { proxy } = await proxyWith();
    const answer = await exchange(
      proxy.port,
      `GET http://a.test:${upstream.port}/ HTTP/1.1\r\nHost: a\r\n\r\n`,
    );
    expect(answer.end).toBe('reset');
  });

  test.each([
    ['GET / HTTP/1.1', 'invalid_request_target'],
    ['GET https://a.test/ HTTP/1.1', 'unsupported_proxy_scheme'],
    ['GET ftp://a.test/ HTTP/1.1', 'unsupported_proxy_scheme'],
    ['GET http://user:pass@a.test/ HTTP/1.1', 'invalid_request_target'],
    ['GET http://0x7f.1/ HTTP/1.1', 'invalid_request_target'],
    ['GET http://0177.0.0.1/ HTTP/1.1', 'invalid_request_target'],
  ])('refuses %s', async (line, error) => {
    const { proxy, asked } = await proxyWith();
    const { text } = await exchange(proxy.port, `${line}\r\nHost: a\r\n\r\n`);
    expect(text).toMatch(/^HTTP\/1\.1 400 /);
    expect(body(text)).toMatchObject({ error });
    expect(asked).toEqual([]);
  });
});

describe('the listener', () => {
  test('answers a head of more than 8 KiB with 431', async () => {
    const { proxy } = await proxyWith();
    const { text } = await exchange(
      proxy.port,
      `GET http://a.test/ HTTP/1.1\r\nX: ${'a'.repeat(9000)}\r\n\r\n`,
    );
    expect(text).toMatch(/^HTTP\/1\.1 431 /);
  });

  test('answers 503 beyond its bound and serves again when there is room', async () => {
    const { proxy } = await proxyWith({ slots: new ConnectionSlots(1) });
    const upstream = await startUpstream(() => undefined);
    undo.push(upstream.stop);
    const first = connect(proxy.port, '127.0.0.1');
    first.write(`CONNECT a.test:${upstream.port} HTTP/1.1\r\nHost: a\r\n\r\n`);
    await new Promise((resolve) => first.once('data', resolve));
    expect((await exchange(proxy.port, '')).text).toMatch(/^HTTP\/1\.1 503 /);
    first.destroy();
    await eventually(() => expect(proxy.openConnections()).toBe(0));
    expect((await exchange(proxy.port, 'GET / HTTP/1.1\r\nHost: a\r\n\r\n')).text).toMatch(
      /^HTTP\/1\.1 400 /,
    );
  });

  test('names the flag when the port is taken', async () => {
    const { proxy } = await proxyWith();
    await expect(startProxy({ port: proxy.port })).rejects.toMatchObject({
      exitCode: 73,
      message: expect.stringContaining('--proxy-port'),
    });
  });
});
