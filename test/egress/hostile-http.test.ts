import { createSecureServer, type Http2Server } from 'node:http2';
import { createServer, type Socket } from 'node:net';
import { describe, expect, test } from 'vitest';
import { createInspectingServer } from '../../supervisor/egress/http/inspecting-server.ts';
import { undoAfterEach } from '../undo-after-each.ts';
import {
  collect,
  makeAuthorities,
  openHttp2,
  secure,
  startHttps,
  startInspectingProxy,
  tunnel,
} from './inspection-fixture.ts';
import { startUpstream } from './proxy-fixture.ts';

const authorities = await makeAuthorities();
const undo = undoAfterEach();
const WAIT = { timeout: 10_000 };

const policy = (
  port: number,
  protocol = 'rest',
  rules = '- allow: { method: "*", path: "/**" }',
) => `version: 1
network_policies:
  api:
    endpoints:
      - host: api.test
        port: ${port}
        protocol: ${protocol}
        enforcement: enforce
        rules:
          ${rules}
    binaries: [{ path: "/**" }]
`;

/** A server that answers each connection with bytes of the test's choice. */
async function rawServer(onData: Parameters<typeof startUpstream>[0], yaml = policy) {
  const upstream = await startUpstream(onData);
  const proxy = await startInspectingProxy(authorities, yaml(upstream.port));
  undo.push(
    () => upstream.stop(),
    () => proxy.proxy.stop(),
  );
  const place = `api.test:${upstream.port}`;
  const get = (path: string, more = '') => `GET ${path} HTTP/1.1\r\nHost: ${place}\r\n${more}\r\n`;
  return { ...proxy, upstream, place, get, open: () => tunnel(proxy.port, place) };
}

/** A client's HTTP/2 session to a server of the test's choice. */
async function overHttp2(upstreamPort: number, proxyPort: number) {
  const session = await openHttp2(proxyPort, 'api.test', upstreamPort, authorities);
  undo.push(() => session.destroy());
  const request = (headers: Record<string, string>, body?: string) =>
    new Promise<{ status: number; text: string; headers: Record<string, unknown>; ended: boolean }>(
      (resolve) => {
        const stream = session.request(
          { ':authority': `api.test:${upstreamPort}`, ...headers },
          { endStream: body === undefined },
        );
        let status = 0;
        let text = '';
        let fields: Record<string, unknown> = {};
        let ended = false;
        stream.on('response', (received) => {
          status = Number(received[':status']);
          fields = received;
        });
        stream.on('data', (chunk) => (text += chunk));
        stream.on('end', () => (ended = stream.rstCode === 0));
        stream.on('error', () => undefined);
        stream.on('close', () =>
          resolve({ status, text, headers: fields, ended: ended && stream.rstCode === 0 }),
        );
        if (body !== undefined) stream.end(body);
      },
    );
  return { session, request };
}

describe('a client that means harm', () => {
  test('gets nothing out of requests behind one that ended the connection', async () => {
    const { upstream, get, open, place } = await rawServer(() => undefined);
    const denied = `GET /v1/a%00 HTTP/1.1\r\nHost: ${place}\r\n\r\n`;
    const { text } = await collect(await open(), `${denied}${get('/second')}`);
    expect([text, upstream.received()]).toEqual(['', '']);
    const mismatch = `GET /first HTTP/1.1\r\nHost: evil.test\r\n\r\n`;
    const answered = await collect(await open(), `${mismatch}${get('/second')}`);
    expect(answered.text.match(/HTTP\/1\.1 \d+/g)).toEqual(['HTTP/1.1 403']);
    expect(upstream.received()).toBe('');
  });

  test('cannot have more than 32 requests wait on one connection', async () => {
    const { upstream, get, open, requests } = await rawServer(() => undefined);
    const { text } = await collect(
      await open(),
      Array.from({ length: 2000 }, (_, n) => get(`/${n}`)).join(''),
    );
    expect(text).toBe('');
    expect(requests().length).toBeLessThanOrEqual(32);
    await expect.poll(() => upstream.connections().every(({ destroyed }) => destroyed), WAIT).toBe(true);
  });

  test('does not keep what requests reserved that were still waiting for their turn', async () => {
    const { open, place } = await rawServer(
      () => undefined,
      (port) =>
        policy(port, 'json-rpc', '- allow: { method: "*" }').replace(
          'enforcement',
          'json_rpc: { max_body_bytes: 65536 }\n        enforcement',
        ),
    );
    const body = '{"jsonrpc":"2.0","method":"a","id":1}';
    const post = `POST / HTTP/1.1\r\nHost: ${place}\r\nTransfer-Encoding: chunked\r\n\r\n${body.length.toString(16)}\r\n${body}\r\n0\r\n\r\n`;
    // 32 MiB in all; each of these takes 64 KiB.
    for (let round = 0; round < 20; round++) {
      const socket = await open();
      socket.write(post.repeat(30));
      await new Promise((resolve) => setImmediate(resolve));
      const closed = new Promise((resolve) => socket.once('close', resolve));
      socket.resetAndDestroy();
      await closed;
    }
    const last = await open();
    let answer = '';
    last.on('data', (chunk) => (answer += chunk));
    last.on('error', () => undefined);
    last.write(post);
    await expect.poll(() => answer === '' || !answer.includes('503'), WAIT).toBe(true);
    expect(answer).not.toContain('inspection_busy');
    last.destroy();
  });

  test('cannot hide framing in fields past those that are read', async () => {
    const { upstream, open, place } = await rawServer(() => undefined);
    const many = Array.from({ length: 200 }, (_, n) => `X${n}: 1\r\n`).join('');
    const { text } = await collect(
      await open(),
      `POST /a HTTP/1.1\r\nHost: ${place}\r\n${many}Content-Length: 5\r\n\r\nhello`,
    );
    expect([text, upstream.received()]).toEqual(['', '']);
  });

  test('who sends the head too slowly is closed', async () => {
    const server = createInspectingServer(300);
    undo.push(() => server.close());
    const service = { exchange: () => Promise.resolve(), closed: () => undefined };
    const listener = createServer((socket) => server.serve(socket, service));
    await new Promise<void>((resolve) => void listener.listen(0, '127.0.0.1', resolve));
    undo.push(() => void listener.close());
    const address = listener.address();
    const { connect } = await import('node:net');
    const socket = connect({
      port: typeof address === 'object' && address !== null ? address.port : 0,
      host: '127.0.0.1',
    });
    const { text } = await collect(socket, 'GET /a HTTP/1.1\r\nHost: a');
    expect(text).toBe('');
  });

  test.each([
    ['Connection: Content-Length', 'Content-Length: 5\r\n', /content-length: 5\r\n/i],
    ['Connection: Host', 'Content-Length: 5\r\n', /host: api\.test:/i],
    ['Connection: close, Transfer-Encoding', 'Content-Length: 5\r\n', /content-length: 5\r\n/i],
    ['Proxy-Connection: keep-alive', 'Content-Length: 5\r\n', /^(?![\s\S]*proxy-connection)/i],
    ['Keep-Alive: 5', 'Content-Length: 5\r\n', /^(?![\s\S]*keep-alive: 5)/i],
    ['TE: trailers, gzip', 'Content-Length: 5\r\n', /^(?![\s\S]*\r\nte:)/i],
    [
      'Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABk',
      'Content-Length: 5\r\n',
      /^(?![\s\S]*(h2c|http2-settings))/i,
    ],
  ])('cannot nominate away or smuggle through what is of one hop: %s', async (field, length, expected) => {
    const { upstream, open, place } = await rawServer(() => undefined);
    const socket = await open();
    socket.on('error', () => undefined);
    socket.write(`POST /a HTTP/1.1\r\nHost: ${place}\r\n${field}\r\n${length}\r\nhello`);
    await expect.poll(() => upstream.received(), WAIT).toMatch(/hello$/);
    socket.destroy();
    expect(upstream.received()).toMatch(expected);
    expect(upstream.received()).toMatch(/\r\n\r\nhello$/);
  });

  test.each([
    ['Host: evil.test\r\nAuthorization: x', 'hello\r\n0\r\n\r\n'],
    ['Content-Length: 99', ''],
    ['Transfer-Encoding: chunked', ''],
  ])('sends trailers that frame or route a message to nobody: %s', async (trailers, end) => {
    const { upstream, open, place } = await rawServer(() => undefined);
    const socket = await open();
    socket.on('error', () => undefined);
    socket.resume();
    socket.write(
      `POST /a HTTP/1.1\r\nHost: ${place}\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n${trailers}\r\n\r\n`,
    );
    await expect
      .poll(() => upstream.received().endsWith(end) && (end !== '' || socket.destroyed), WAIT)
      .toBe(true);
    if (end === '') expect(upstream.received()).not.toMatch(/0\r\n\r\n$/);
    expect(upstream.received()).not.toMatch(/evil|Authorization|99/);
    socket.destroy();
  });

  test('whose request the server answers early does not go on with it as the next one', async () => {
    const { open, place, upstream } = await rawServer((socket, all) => {
      if (all.includes('\r\n\r\n') && !socket.writableEnded)
        socket.write('HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno');
    });
    const socket = await open();
    const all = collect(socket, `POST /a HTTP/1.1\r\nHost: ${place}\r\nContent-Length: 1000\r\n\r\npart`);
    await expect.poll(() => socket.bytesRead, WAIT).toBeGreaterThan(80);
    socket.end(`GET /second HTTP/1.1\r\nHost: ${place}\r\n\r\n`);
    const { text } = await all;
    expect(text).toMatch(/^HTTP\/1\.1 413[\s\S]*\r\nConnection: close\r\n/);
    expect(text.match(/HTTP\/1\.1/g)).toHaveLength(1);
    expect(upstream.received()).not.toMatch(/^GET \/second/);
  });
});

describe('a client of HTTP/2 that means harm', () => {
  async function https(http2 = false) {
    const asked: string[] = [];
    const open = new Set<Socket>();
    const upstream = await startHttps(
      authorities,
      (request, response) => {
        asked.push(`${request.method} ${request.url}`);
        open.add(request.socket);
        if (request.url === '/wait') return void request.resume();
        request.resume();
        request.on('end', () => response.end('ok'));
      },
      { http2 },
    );
    const proxy = await startInspectingProxy(authorities, policy(upstream.port));
    undo.push(
      () => upstream.stop(),
      () => proxy.proxy.stop(),
    );
    return { ...proxy, upstream, asked, open };
  }

  test('resets its streams as fast as it opens them: they end upstream too, and the session at last', async () => {
    const started = await https();
    const { session } = await overHttp2(started.upstream.port, started.port);
    let closed = false;
    session.on('close', () => (closed = true));
    for (let round = 0; round < 60 && !closed; round++) {
      for (let count = 0; count < 50 && !session.destroyed && !session.closed; count++) {
        const stream = session.request({
          ':authority': `api.test:${started.upstream.port}`,
          ':path': '/wait',
        });
        stream.on('error', () => undefined);
        stream.close(8);
      }
      await new Promise((resolve) => setImmediate(resolve));
    }
    session.destroy();
    await expect.poll(() => started.proxy.openConnections(), WAIT).toBe(0);
    await expect.poll(() => [...started.open].every(({ destroyed }) => destroyed), WAIT).toBe(true);
    // Others are served as before.
    const other = await overHttp2(started.upstream.port, started.port);
    expect(await other.request({ ':path': '/a' })).toMatchObject({ status: 200, text: 'ok' });
  });

  test('cannot have more than 64 streams open', async () => {
    const started = await https();
    const { session } = await overHttp2(started.upstream.port, started.port);
    await new Promise((resolve) => session.once('remoteSettings', resolve));
    expect(session.remoteSettings).toMatchObject({ maxConcurrentStreams: 64, enablePush: false });
  });

  test('sends a list of fields larger than a head may be: no request comes of it', async () => {
    const started = await https();
    const { request } = await overHttp2(started.upstream.port, started.port);
    const fields = Object.fromEntries(Array.from({ length: 150 }, (_, n) => [`x-${n}`, 'a'.repeat(200)]));
    const { status } = await request({ ':path': '/bomb', ...fields });
    expect([200, status === 200]).toEqual([200, false]);
    const many = Object.fromEntries(Array.from({ length: 250 }, (_, n) => [`x-${n}`, 'a']));
    expect((await request({ ':path': '/bomb', ...many })).status).not.toBe(200);
    expect(started.asked).toEqual([]);
  });

  test('floods CONTINUATION frames: the connection ends', async () => {
    const started = await https();
    const socket = await secure(started.port, 'api.test', started.upstream.port, authorities, {
      protocols: ['h2'],
    });
    const frame = (type: number, flags: number, stream: number, payload: Buffer): Buffer => {
      const head = Buffer.alloc(9);
      head.writeUIntBE(payload.length, 0, 3);
      head.writeUInt8(type, 3);
      head.writeUInt8(flags, 4);
      head.writeUInt32BE(stream, 5);
      return Buffer.concat([head, payload]);
    };
    const ended = new Promise((resolve) => socket.once('close', resolve));
    socket.on('error', () => undefined);
    socket.resume();
    // Literal fields without indexing: name x, value of 100 bytes.
    const field = Buffer.concat([Buffer.from([0, 1, 0x78, 100]), Buffer.alloc(100, 97)]);
    const block = Buffer.concat(Array.from({ length: 100 }, () => field));
    socket.write('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
    socket.write(frame(4, 0, 0, Buffer.alloc(0)));
    socket.write(frame(1, 0, 1, block));
    let sent = 0;
    const more = (): void => {
      if (socket.destroyed || sent > 4000) return;
      sent += 1;
      socket.write(frame(9, 0, 1, block), () => setImmediate(more));
    };
    more();
    await ended;
    expect(sent).toBeLessThan(4000);
    expect(started.asked).toEqual([]);
  }, 30_000);

  test('names the host in a field and none in :authority, or two different ones', async () => {
    const started = await https();
    const { request } = await overHttp2(started.upstream.port, started.port);
    expect(await request({ ':path': '/a', host: 'evil.test' })).toMatchObject({ status: 403 });
    expect(started.asked).toEqual([]);
  });

  test('splits its cookies, which reach a server of HTTP/1.1 in one field', async () => {
    const cookies: (string | undefined)[] = [];
    const upstream = await startHttps(
      authorities,
      (request, response) => {
        cookies.push(
          ...request.rawHeaders.filter(
            (_, at) => request.rawHeaders[at - 1]?.toLowerCase() === 'cookie' && at % 2 === 1,
          ),
        );
        response.end();
      },
      { http2: false },
    );
    const proxy = await startInspectingProxy(authorities, policy(upstream.port));
    undo.push(
      () => upstream.stop(),
      () => proxy.proxy.stop(),
    );
    const { request } = await overHttp2(upstream.port, proxy.port);
    await request({ ':path': '/a', cookie: ['a=1', 'b=2'] as unknown as string });
    expect(cookies).toEqual(['a=1; b=2']);
  });
});

describe('a server that means harm', () => {
  const once = (answer: string | Buffer) => (socket: Socket) => void socket.write(answer);

  test('sends two answers to one request: the second is nobody’s', async () => {
    for (const pause of [false, true]) {
      let asked = 0;
      const { open, get } = await rawServer((socket) => {
        asked += 1;
        const own = `HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n#${asked} `;
        const forged = 'HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged';
        if (!pause) return void socket.write(own + forged);
        socket.write(own, () => setTimeout(() => socket.write(forged), 30));
      });
      const socket = await open();
      let text = '';
      socket.on('data', (chunk) => (text += chunk));
      socket.on('error', () => undefined);
      socket.write(get('/one'));
      await expect.poll(() => text, WAIT).toContain('#1');
      if (pause) await new Promise((resolve) => setTimeout(resolve, 150));
      socket.write(get('/two'));
      await expect.poll(() => text.includes('#2') || socket.destroyed, WAIT).toBe(true);
      expect(text).not.toContain('forged');
      socket.destroy();
    }
  });

  test.each([
    ['a bare CR in a field', 'HTTP/1.1 200 OK\r\nX-A: a\rSet-Cookie: b\r\nContent-Length: 2\r\n\r\nok'],
    ['a bare LF between fields', 'HTTP/1.1 200 OK\r\nX-A: a\nSet-Cookie: b\r\nContent-Length: 2\r\n\r\nok'],
    ['a folded field', 'HTTP/1.1 200 OK\r\nX-A: a\r\n b\r\nContent-Length: 2\r\n\r\nok'],
    ['a NUL in a field', 'HTTP/1.1 200 OK\r\nX-A: a\x00b\r\nContent-Length: 2\r\n\r\nok'],
    [
      'a length and a transfer coding',
      'HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
    ],
    ['two lengths', 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!'],
    [
      'a transfer coding nobody asked for',
      'HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n',
    ],
    ['a transfer coding that does not end', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nok'],
    [
      'a head of more than 64 KiB',
      `HTTP/1.1 200 OK\r\nX-A: ${'a'.repeat(70_000)}\r\nContent-Length: 2\r\n\r\nok`,
    ],
    ['no HTTP', 'SSH-2.0-x\r\n\r\n'],
    ['another version', 'HTTP/3.0 200 OK\r\nContent-Length: 2\r\n\r\nok'],
    [
      'another protocol nobody asked for',
      'HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\nraw',
    ],
  ])('answers with %s: the client gets none of it', async (_name, answer) => {
    const { open, get, upstream, proxy } = await rawServer(once(answer));
    const { text } = await collect(await open(), get('/a', 'Connection: close\r\n'));
    expect(text === '' || /^HTTP\/1\.1 502 /.test(text)).toBe(true);
    expect(text).not.toMatch(/\r\n(x-a|set-cookie):/i);
    await expect.poll(() => proxy.openConnections(), WAIT).toBe(0);
    await expect.poll(() => upstream.connections().every(({ destroyed }) => destroyed), WAIT).toBe(true);
  });

  test('ends a chunked body in the middle, or with a size that is none: an abort', async () => {
    for (const rest of ['5\r\nhel', '0\r\nContent-Length: 9\r\n\r\n', 'zz\r\nhello\r\n0\r\n\r\n']) {
      const { open, get } = await rawServer(
        (socket) =>
          void socket.write(`HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n${rest}`, () =>
            socket.resetAndDestroy(),
          ),
      );
      const { text } = await collect(await open(), get('/a'));
      expect(text).not.toMatch(/0\r\n\r\n$/);
    }
  });

  test('sends a body with what has none: HEAD, 204, 304', async () => {
    for (const [method, status] of [
      ['HEAD', '200 OK'],
      ['GET', '204 No Content'],
      ['GET', '304 Not Modified'],
    ]) {
      const { open, place, proxy } = await rawServer(
        once(`HTTP/1.1 ${status}\r\nContent-Length: 6\r\n\r\nforged`),
      );
      const socket = await open();
      const { text } = await collect(
        socket,
        `${method} /a HTTP/1.1\r\nHost: ${place}\r\nConnection: close\r\n\r\n`,
      );
      expect(text.startsWith(`HTTP/1.1 ${status}`)).toBe(true);
      expect(text).not.toContain('forged');
      if (status?.startsWith('204')) expect(text).not.toMatch(/content-length/i);
      await expect.poll(() => proxy.openConnections(), WAIT).toBe(0);
    }
  });

  test('sends informational answers without end: none is passed on, and the client can still leave', async () => {
    let written = 0;
    const { open, get, upstream, proxy } = await rawServer((socket) => {
      const more = (): void => {
        if (socket.destroyed || written > 200_000) return;
        written += 100;
        const flood = 'HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n'.repeat(100);
        if (socket.write(flood)) setImmediate(more);
        else socket.once('drain', more);
      };
      more();
    });
    const socket = await open();
    let bytes = 0;
    socket.on('data', (chunk) => (bytes += chunk.length));
    socket.write(get('/a'));
    await expect.poll(() => written, WAIT).toBeGreaterThan(5000);
    expect(bytes).toBe(0);
    socket.destroy();
    await expect.poll(() => proxy.openConnections(), WAIT).toBe(0);
    await expect.poll(() => upstream.connections().every(({ destroyed }) => destroyed), WAIT).toBe(true);
  });

  test('sends trailers that frame a message: they are left out', async () => {
    const { open, get } = await rawServer(
      once(
        'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nHost: evil\r\nUpgrade: x\r\nConnection: x\r\nX-Sum: 1\r\n\r\n',
      ),
    );
    const { text } = await collect(await open(), get('/a', 'Connection: close\r\n'));
    expect(text).toMatch(/2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n$/);
  });

  test.each([
    [
      'trailers',
      'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n',
      'Content-Type: a\r\nContent-Type: b\r\nconstructor: c\r\n__proto__: d\r\n\r\n',
    ],
    [
      'fields',
      'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n',
      'Content-Type: a\r\nContent-Type: b\r\nconstructor: c\r\n__proto__: d\r\n\r\nok',
    ],
  ])('sends %s that HTTP/2 cannot carry: one stream fails, and nothing else', async (_name, head, rest) => {
    const { TLSSocket } = await import('node:tls');
    const context = await authorities.world.leaf('api.test');
    const server = createServer((socket) => {
      const secured = new TLSSocket(socket, {
        isServer: true,
        secureContext: context,
        ALPNProtocols: ['http/1.1'],
        SNICallback: (_host, callback) => callback(null, context),
      });
      secured.on('error', () => undefined);
      secured.on('data', (chunk) =>
        secured.write(
          chunk.toString('latin1').includes('/fine')
            ? 'HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine'
            : head + rest,
        ),
      );
    });
    await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
    undo.push(() => void server.close());
    const address = server.address();
    const port = typeof address === 'object' && address !== null ? address.port : 0;
    const proxy = await startInspectingProxy(authorities, policy(port));
    undo.push(() => proxy.proxy.stop());
    const { request } = await overHttp2(port, proxy.port);
    const odd = await request({ ':path': '/odd' });
    expect(odd.text === 'ok' && odd.ended).toBe(false);
    expect(await request({ ':path': '/fine' })).toMatchObject({ status: 200, text: 'fine' });
  });

  test('ends its HTTP/2 connection between requests: the next one opens another', async () => {
    const sessions: import('node:http2').ServerHttp2Session[] = [];
    const server: Http2Server = createSecureServer(
      {
        SNICallback: (name, callback) =>
          void authorities.world.leaf(name).then((context) => callback(null, context)),
      },
      (_request, response) => void response.end(`${sessions.length}`),
    ) as unknown as Http2Server;
    server.on('session', (session) => sessions.push(session));
    await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', () => resolve()));
    undo.push(() => {
      for (const session of sessions) session.destroy();
      server.close();
    });
    const address = server.address();
    const port = typeof address === 'object' && address !== null ? address.port : 0;
    const proxy = await startInspectingProxy(authorities, policy(port));
    undo.push(() => proxy.proxy.stop());
    const { request } = await overHttp2(port, proxy.port);
    expect(await request({ ':path': '/a' })).toMatchObject({ status: 200, text: '1' });
    const gone = new Promise((resolve) => sessions[0]?.once('close', resolve));
    sessions[0]?.close();
    await gone;
    await expect.poll(async () => (await request({ ':path': '/a' })).text, WAIT).toBe('2');
  });
});

describe('what a request without a body looks like', () => {
  test.each([
    ['POST', /\r\nContent-Length: 0\r\n/],
    ['GET', /^(?![\s\S]*(content-length|transfer-encoding))/i],
    ['DELETE', /^(?![\s\S]*(content-length|transfer-encoding))/i],
  ])('%s', async (method, expected) => {
    const { open, place, upstream } = await rawServer(() => undefined);
    const socket = await open();
    socket.write(`${method} /a HTTP/1.1\r\nHost: ${place}\r\n\r\n`);
    await expect.poll(() => upstream.received(), WAIT).toMatch(/\r\n\r\n$/);
    expect(upstream.received()).toMatch(expected);
    socket.destroy();
  });
});
