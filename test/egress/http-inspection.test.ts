import type { RequestListener } from 'node:http';
import { type ClientHttp2Session, connect as connectHttp2 } from 'node:http2';
import type { Socket } from 'node:net';
import { describe, expect, test } from 'vitest';
import { undoAfterEach } from '../undo-after-each.ts';
import {
  bodyOf,
  collect,
  echo,
  makeAuthorities,
  secure,
  startHttp,
  startHttps,
  startInspectingProxy,
  tunnel,
} from './inspection-fixture.ts';

const authorities = await makeAuthorities();
const undo = undoAfterEach();

const policy = (port: number, more = '') => `version: 1
network_policies:
  api:
    endpoints:
      - host: api.test
        port: ${port}
        protocol: rest
        enforcement: enforce
        rules:
          - allow: { method: GET, path: "/v1/**" }
          - allow: { method: POST, path: "/v1/items" }
        deny_rules:
          - { method: GET, path: "/v1/secret" }
${more}
    binaries: [{ path: "/**" }]
`;

async function plain(listener: RequestListener = echo, yaml = policy) {
  const upstream = await startHttp(listener);
  const proxy = await startInspectingProxy(authorities, yaml(upstream.port));
  undo.push(
    () => upstream.stop(),
    () => proxy.proxy.stop(),
  );
  const ask = async (bytes: string | Buffer) =>
    collect(await tunnel(proxy.port, `api.test:${upstream.port}`), bytes);
  return { ...proxy, upstream, ask, place: `api.test:${upstream.port}` };
}

describe('requests in a tunnel', () => {
  test('pass when a rule allows them, with their canonical path and our Host', async () => {
    const { ask, place, requests } = await plain();
    const { text } = await ask(
      `GET /v1/./a//b?x=1&y=%20 HTTP/1.1\r\nHost: ${place}\r\nX-One: 1\r\nConnection: close, X-Hop\r\nX-Hop: no\r\n\r\n`,
    );
    expect(bodyOf(text)).toMatchObject({ url: '/v1/a/b?x=1&y=%20', headers: { host: place, 'x-one': '1' } });
    expect(bodyOf(text)['headers']).not.toHaveProperty('x-hop');
    expect(requests()).toEqual([
      expect.objectContaining({ outcome: 'allowed', method: 'GET', path: '/v1/a/b', policy: 'api' }),
    ]);
  });

  test('are denied with an answer that says what and why', async () => {
    const { ask, place } = await plain();
    const { text } = await ask(`DELETE /v1/items HTTP/1.1\r\nHost: ${place}\r\n\r\n`);
    expect(text).toMatch(/^HTTP\/1\.1 403 Forbidden\r\n/);
    expect(text).toMatch(/\r\nX-OpenShell-Policy: api\r\n/);
    expect(text).toMatch(/\r\nConnection: close\r\n/);
    expect(bodyOf(text)).toMatchObject({
      error: 'policy_denied',
      policy: 'api',
      rule: 'DELETE /v1/items',
      layer: 'l7',
      protocol: 'rest',
      method: 'DELETE',
      path: '/v1/items',
      host: 'api.test',
      rule_missing: { type: 'rest_allow', method: 'DELETE', path: '/v1/items' },
      next_steps: [],
    });
  });

  test('are judged one by one on a connection that is kept, and the connection to the server is kept too', async () => {
    let connections = 0;
    const upstream = await startHttp(echo, (server) => server.on('connection', () => (connections += 1)));
    const proxy = await startInspectingProxy(authorities, policy(upstream.port));
    undo.push(
      () => upstream.stop(),
      () => proxy.proxy.stop(),
    );
    const place = `api.test:${upstream.port}`;
    const socket = await tunnel(proxy.port, place);
    const { text } = await collect(
      socket,
      `GET /v1/a HTTP/1.1\r\nHost: ${place}\r\n\r\nGET /v1/b HTTP/1.1\r\nHost: ${place}\r\n\r\nGET /v1/secret HTTP/1.1\r\nHost: ${place}\r\n\r\n`,
    );
    expect(text.match(/HTTP\/1\.1 \d+/g)).toEqual(['HTTP/1.1 200', 'HTTP/1.1 200', 'HTTP/1.1 403']);
    expect(connections).toBe(1);
  });

  test('to another host than the tunnel goes to are refused', async () => {
    const { ask } = await plain();
    const { text } = await ask('GET /v1/a HTTP/1.1\r\nHost: evil.test\r\n\r\n');
    expect(bodyOf(text)).toMatchObject({
      error: 'request_authority_mismatch',
      message: expect.stringContaining('evil.test'),
    });
  });

  test('carry bodies by length and in chunks, with trailers, both ways', async () => {
    const { ask, place } = await plain((request, response) => {
      if (request.url === '/v1/t') {
        response.writeHead(200, { Trailer: 'X-Sum' });
        response.write('some');
        response.addTrailers({ 'X-Sum': '7' });
        response.end();
      } else echo(request, response);
    });
    const length = await ask(
      `POST /v1/items HTTP/1.1\r\nHost: ${place}\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello`,
    );
    expect(bodyOf(length.text)).toMatchObject({ body: 'hello', headers: { 'content-length': '5' } });
    const chunked = await ask(
      `POST /v1/items HTTP/1.1\r\nHost: ${place}\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n`,
    );
    expect(bodyOf(chunked.text)).toMatchObject({
      body: 'hello',
      headers: { 'transfer-encoding': 'chunked' },
    });
    const trailers = await ask(`GET /v1/t HTTP/1.1\r\nHost: ${place}\r\nConnection: close\r\n\r\n`);
    expect(trailers.text).toMatch(/\r\n4\r\nsome\r\n0\r\nX-Sum: 7\r\n\r\n$/);
  });

  test('wait for the server to say that it wants the body', async () => {
    const upstream = await startHttp(echo, (server) =>
      server.on('checkContinue', (request, response) => {
        if (request.headers['x-no'] !== undefined) return void response.writeHead(417).end();
        response.writeContinue();
        echo(request, response);
      }),
    );
    const proxy = await startInspectingProxy(authorities, policy(upstream.port));
    undo.push(
      () => upstream.stop(),
      () => proxy.proxy.stop(),
    );
    const place = `api.test:${upstream.port}`;
    const head = `POST /v1/items HTTP/1.1\r\nHost: ${place}\r\nContent-Length: 2\r\nExpect: 100-continue\r\nConnection: close\r\n`;
    const socket = await tunnel(proxy.port, place);
    const waiting = new Promise<string>((resolve) =>
      socket.once('data', (chunk) => resolve(chunk.toString())),
    );
    const all = collect(socket, `${head}\r\n`);
    expect(await waiting).toMatch(/^HTTP\/1\.1 100 Continue\r\n\r\n/);
    socket.write('ok');
    expect((await all).text).toContain('"body":"ok"');
    const refused = await collect(await tunnel(proxy.port, place), `${head}X-No: 1\r\n\r\n`);
    expect(refused.text).toMatch(/^HTTP\/1\.1 417/);
  });

  test('end as aborted when the server breaks off, never with a valid end', async () => {
    for (const framing of [{ 'Content-Length': '100' }, {}]) {
      const { ask, place } = await plain((_request, response) => {
        response.writeHead(200, framing);
        response.write('part', () => response.socket?.destroy());
      });
      const { text } = await ask(`GET /v1/a HTTP/1.1\r\nHost: ${place}\r\n\r\n`);
      expect(text).toContain('part');
      expect(text).not.toMatch(/0\r\n\r\n$/);
    }
  });

  test('are given up upstream when the client goes away', async () => {
    let gone = 0;
    const { port, place } = await plain((request, response) => {
      response.on('close', () => (gone += 1));
      response.write('first');
      request.resume();
    });
    const socket = await tunnel(port, place);
    socket.write(`GET /v1/a HTTP/1.1\r\nHost: ${place}\r\n\r\n`);
    await new Promise((resolve) => socket.once('data', resolve));
    socket.destroy();
    await expect.poll(() => gone).toBe(1);
  });

  test('stream: events arrive one by one, and a slow reader slows the server', async () => {
    let written = 0;
    const { port, place } = await plain((_request, response) => {
      response.writeHead(200, { 'Content-Type': 'text/event-stream' });
      response.write('data: 1\n\n');
      const chunk = Buffer.alloc(65_536);
      const more = (): void => {
        while (written < 64 << 20) {
          written += chunk.length;
          if (!response.write(chunk)) return void response.once('drain', more);
        }
        response.end();
      };
      setTimeout(more, 20);
    });
    const socket = await tunnel(port, place);
    socket.write(`GET /v1/a HTTP/1.1\r\nHost: ${place}\r\n\r\n`);
    const first = await new Promise<Buffer>((resolve) => socket.once('data', resolve));
    expect(first.toString()).toContain('data: 1');
    socket.pause();
    let before = -1;
    const stands = (): boolean => {
      const same = written === before;
      before = written;
      return same;
    };
    await expect.poll(stands, { interval: 300 }).toBe(true);
    expect(written).toBeLessThan(32 << 20);
    socket.destroy();
  });

  test('of an older policy end with the next one; the one under way finishes', async () => {
    let answer: (() => void) | undefined;
    const { port, place, replacePolicy } = await plain((_request, response) => {
      answer = () => response.end('late');
    });
    const socket = await tunnel(port, place);
    const all = collect(socket, `GET /v1/a HTTP/1.1\r\nHost: ${place}\r\n\r\n`);
    await expect.poll(() => answer).toBeDefined();
    replacePolicy();
    answer?.();
    await expect.poll(() => socket.bytesRead).toBeGreaterThan(100);
    socket.write(`GET /v1/a HTTP/1.1\r\nHost: ${place}\r\n\r\n`);
    const { text } = await all;
    expect(text.match(/HTTP\/1\.1/g)).toHaveLength(1);
    expect(text).toContain('late');
  });

  test('are of the policy in force when the body has come that they are judged by', async () => {
    const seen: string[] = [];
    const { port, place, replacePolicy } = await plain(
      (request, response) => {
        seen.push(request.url ?? '');
        response.end();
      },
      (upstream) => `version: 1
network_policies:
  rpc:
    endpoints: [{ host: api.test, port: ${upstream}, protocol: json-rpc, enforcement: enforce, rules: [{ allow: { method: "*" } }] }]
    binaries: [{ path: "/**" }]
`,
    );
    const body = '{"jsonrpc":"2.0","id":1,"method":"a"}';
    for (const replaced of [false, true]) {
      const socket = await tunnel(port, place);
      const head = `POST /rpc HTTP/1.1\r\nHost: ${place}\r\nConnection: close\r\nContent-Length: ${body.length}\r\n\r\n`;
      const all = collect(socket, `${head}${body.slice(0, 10)}`);
      // The head is read when the first part of the body is.
      await new Promise((resolve) => setTimeout(resolve, 200));
      if (replaced) replacePolicy();
      socket.write(body.slice(10));
      const { text } = await all;
      expect(text.startsWith('HTTP/1.1 200')).toBe(!replaced);
    }
    expect(seen).toEqual(['/rpc']);
  });

  test('that are no HTTP are refused where requests must be seen', async () => {
    const { ask, events } = await plain();
    const { text } = await ask('SSH-2.0-OpenSSH_9.2\r\n');
    expect(bodyOf(text)).toMatchObject({ error: 'unsupported_l7_protocol' });
    expect(events).toContainEqual(
      expect.objectContaining({ kind: 'denied', stage: 'connect-l7-parse-rejection' }),
    );
  });

  test('over plain proxying are judged as well, one a connection', async () => {
    const { port, upstream } = await plain();
    const { exchange } = await import('./proxy-fixture.ts');
    const place = `api.test:${upstream.port}`;
    const allowed = await exchange(port, `GET http://${place}/v1/a HTTP/1.1\r\nHost: ${place}\r\n\r\n`);
    expect(allowed.text).toMatch(/^HTTP\/1\.1 200.*\r\nConnection: close\r\n/s);
    expect(allowed.text).toContain('"url":"/v1/a"');
    const denied = await exchange(port, `GET http://${place}/v1/secret HTTP/1.1\r\nHost: ${place}\r\n\r\n`);
    expect(denied.text).toMatch(/^HTTP\/1\.1 403/);
    expect(bodyOf(denied.text)).toMatchObject({ error: 'policy_denied', rule: 'GET /v1/secret' });
  });
});

describe('smuggling: what could be read in two ways never reaches the server', () => {
  const CASES: Readonly<Record<string, string>> = {
    'CL.TE': 'Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nX',
    'TE.CL': 'Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n12\r\nGET /v1/secret HTTP\r\n0\r\n\r\n',
    'TE.TE, another coding': 'Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n',
    'TE.TE, an obscured one': 'Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n',
    'TE.TE, a blank before the colon': 'Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n',
    'TE.TE, twice': 'Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
    'TE.TE, a vertical tab': 'Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n',
    'two lengths that differ': 'Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!',
    'two equal lengths': 'Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello',
    'a list of lengths': 'Content-Length: 5, 5\r\n\r\nhello',
    'a signed length': 'Content-Length: +5\r\n\r\nhello',
    'a negative length': 'Content-Length: -5\r\n\r\nhello',
    'a length in hexadecimal': 'Content-Length: 0x5\r\n\r\nhello',
    'a bare CR in a value': 'X-A: a\rb\r\n\r\n',
    'a bare LF between fields': 'X-A: a\nContent-Length: 5\r\n\r\nhello',
    'a folded field': 'X-A: a\r\n b\r\n\r\n',
    'a NUL in a value': 'X-A: a\x00b\r\n\r\n',
    'a field without a name': ': a\r\n\r\n',
    'a field name with a blank': 'X A: a\r\n\r\n',
    'a chunk size that is none': 'Transfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n',
    'a chunk size with a sign': 'Transfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n',
    'a chunk size that overflows':
      'Transfer-Encoding: chunked\r\n\r\n10000000000000005\r\nhello\r\n0\r\n\r\n',
    'a chunk that is longer than its size': 'Transfer-Encoding: chunked\r\n\r\n3\r\nhello\r\n0\r\n\r\n',
    'a chunk ended by a bare LF': 'Transfer-Encoding: chunked\r\n\r\n5\nhello\n0\n\n',
    'two hosts': 'Host: evil.test\r\n\r\n',
  };
  test.each(Object.entries(CASES))('%s', async (_name, rest) => {
    const seen: string[] = [];
    const { ask, place } = await plain((request, response) => {
      let body = '';
      request.on('data', (chunk) => (body += chunk));
      request.on('end', () => {
        seen.push(`${request.method} ${request.url} ${body}`);
        response.end();
      });
    });
    const { text } = await ask(
      `POST /v1/items HTTP/1.1\r\nHost: ${place}\r\n${rest}GET /v1/secret HTTP/1.1\r\nHost: ${place}\r\n\r\n`,
    );
    expect(seen.filter((request) => !request.startsWith('POST /v1/items'))).toEqual([]);
    // Refused as a whole, or broken off before its body was complete: never answered as if it were fine.
    expect(seen).toEqual([]);
    expect(text).not.toContain('200 OK');
  });

  test('chunk extensions are dropped, and the size counts', async () => {
    const { ask, place } = await plain();
    const { text } = await ask(
      `POST /v1/items HTTP/1.1\r\nHost: ${place}\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n5;a=b\r\nhello\r\n0\r\n\r\n`,
    );
    expect(bodyOf(text)).toMatchObject({ body: 'hello' });
  });

  test.each([
    ['GET /v1/%2e%2e/%2e%2e/x HTTP/1.1', 'climbs above the root'],
    ['GET /v1/a%2Fb HTTP/1.1', 'an encoded slash'],
    ['GET /v1/a#b HTTP/1.1', 'a fragment'],
    ['GET * HTTP/1.1', 'the asterisk form'],
    ['GET /v1/a HTTP/1.1 HTTP/1.1', 'a second version'],
    ['GET /v1/a\tb HTTP/1.1', 'a tab'],
    ['Get /v1/a HTTP/1.1', 'a method in small letters'],
    ['GET /v1/a HTTP/2.0', 'another version'],
  ])('%s: %s', async (line) => {
    const seen: string[] = [];
    const { ask, place } = await plain((request, response) => {
      seen.push(request.url ?? '');
      response.end();
    });
    const { text } = await ask(`${line}\r\nHost: ${place}\r\n\r\n`);
    expect([seen, text]).toEqual([[], '']);
  });

  test('a head of more than 16 KiB ends the connection', async () => {
    const { ask, place } = await plain();
    expect((await ask(`GET /v1/a HTTP/1.1\r\nHost: ${place}\r\nX: ${'a'.repeat(17_000)}\r\n\r\n`)).text).toBe(
      '',
    );
  });
});

describe('TLS', () => {
  async function https(options: Parameters<typeof startHttps>[2] = {}, yaml = policy) {
    const upstream = await startHttps(authorities, echo, options);
    const proxy = await startInspectingProxy(authorities, yaml(upstream.port));
    undo.push(
      () => upstream.stop(),
      () => proxy.proxy.stop(),
    );
    return { ...proxy, upstream, place: `api.test:${upstream.port}` };
  }
  const http2 = (socket: Socket): ClientHttp2Session => {
    const session = connectHttp2('https://api.test', { createConnection: () => socket });
    session.on('error', () => undefined);
    undo.push(() => session.destroy());
    return session;
  };
  const request = (session: ClientHttp2Session, headers: Record<string, string>, body?: string) =>
    new Promise<{ status: number; text: string; trailers: Record<string, unknown> }>((resolve, reject) => {
      const stream = session.request(headers, { endStream: body === undefined });
      let status = 0;
      let text = '';
      let trailers: Record<string, unknown> = {};
      stream.on('response', (fields) => (status = Number(fields[':status'])));
      stream.on('trailers', (fields) => (trailers = fields));
      stream.on('data', (chunk) => (text += chunk));
      stream.on('end', () => resolve({ status, text, trailers }));
      stream.on('error', reject);
      stream.on('close', () => reject(new Error('no answer')));
      if (body !== undefined) stream.end(body);
    });

  test('is terminated as the host of the tunnel, and requests in it are judged', async () => {
    const { port, upstream, place } = await https();
    const socket = await secure(port, 'api.test', upstream.port, authorities);
    expect(socket.getPeerCertificate().subjectaltname).toBe('DNS:api.test');
    const allowed = await collect(
      socket,
      `GET /v1/a HTTP/1.1\r\nHost: ${place}\r\nConnection: close\r\n\r\n`,
    );
    expect(bodyOf(allowed.text)).toMatchObject({ url: '/v1/a', headers: { host: place } });
    const denied = await collect(
      await secure(port, 'api.test', upstream.port, authorities),
      `GET /v1/secret HTTP/1.1\r\nHost: ${place}\r\n\r\n`,
    );
    expect(denied.text).toMatch(/^HTTP\/1\.1 403/);
  });

  test('with another server name than the tunnel’s is refused', async () => {
    const { port, upstream, events } = await https();
    await expect(
      secure(port, 'api.test', upstream.port, authorities, { servername: 'evil.test' }),
    ).rejects.toThrow();
    await expect
      .poll(() => events)
      .toContainEqual(
        expect.objectContaining({ kind: 'denied', reason: expect.stringContaining('evil.test') }),
      );
  });

  test.each([
    ['of another host', { host: 'other.test' }],
    ['of an authority that nobody trusts', {}],
  ])('of a server with a certificate %s is never spoken to; the client is told', async (name, options) => {
    const by = name.includes('authority') ? authorities.sandbox : authorities.world;
    const { port, upstream, place } = await https({ ...options, by });
    const socket = await secure(port, 'api.test', upstream.port, authorities);
    const { text } = await collect(socket, `GET /v1/a HTTP/1.1\r\nHost: ${place}\r\n\r\n`);
    expect(text).toMatch(/^HTTP\/1\.1 502/);
    expect(bodyOf(text)).toMatchObject({
      error: 'upstream_unreachable',
      detail: expect.stringMatching(/TLS with api\.test/),
    });
  });

  test.each([[true], [false]])(
    'carries HTTP/2 of the client to a server with HTTP/2: %s',
    async (serverHttp2) => {
      const { port, upstream, requests, place } = await https({ http2: serverHttp2 });
      const socket = await secure(port, 'api.test', upstream.port, authorities, {
        protocols: ['h2', 'http/1.1'],
      });
      expect(socket.alpnProtocol).toBe('h2');
      const session = http2(socket);
      const answers = await Promise.all(
        Array.from({ length: 20 }, (_, index) =>
          request(session, { ':path': `/v1/${index}`, ':authority': place, 'x-one': '1', cookie: 'a=b' }),
        ),
      );
      for (const [index, { status, text }] of answers.entries()) {
        const body = JSON.parse(text) as { readonly url?: string; readonly headers: Record<string, string> };
        expect([status, body.url ?? body.headers[':path']]).toEqual([200, `/v1/${index}`]);
        expect(body.headers).toMatchObject({ 'x-one': '1', cookie: 'a=b' });
      }
      const posted = await request(
        session,
        { ':path': '/v1/items', ':method': 'POST', ':authority': place },
        'hello',
      );
      expect(posted.text).toContain('"body":"hello"');
      if (serverHttp2) expect(posted.trailers).toMatchObject({ 'x-sum': '7' });
      const denied = await request(session, { ':path': '/v1/secret', ':authority': place });
      expect([denied.status, JSON.parse(denied.text)]).toMatchObject([403, { error: 'policy_denied' }]);
      const mismatch = await request(session, { ':path': '/v1/a', ':authority': 'evil.test' });
      expect([mismatch.status, JSON.parse(mismatch.text)]).toMatchObject([
        403,
        { error: 'request_authority_mismatch' },
      ]);
      expect(requests().filter(({ outcome }) => outcome === 'allowed')).toHaveLength(21);
    },
  );

  test('H2 downgrade: nothing in a field of HTTP/2 becomes another request of HTTP/1.1', async () => {
    const seen: string[] = [];
    const upstream = await startHttps(
      authorities,
      (message, response) => {
        seen.push(`${message.method} ${message.url}`);
        message.resume();
        response.end('ok');
      },
      { http2: false },
    );
    const proxy = await startInspectingProxy(authorities, policy(upstream.port));
    undo.push(
      () => upstream.stop(),
      () => proxy.proxy.stop(),
    );
    const place = `api.test:${upstream.port}`;
    const attempt = async (headers: Record<string, string>, body?: string) => {
      const socket = await secure(proxy.port, 'api.test', upstream.port, authorities, { protocols: ['h2'] });
      return request(http2(socket), { ':authority': place, ...headers }, body).catch(() => undefined);
    };
    // Node's own client refuses to send CR and LF; those that nghttp2 lets out are tried.
    await attempt({ ':path': '/v1/a HTTP/1.1' });
    await attempt({ ':path': '/v1/a', ':method': 'GET /v1/secret HTTP/1.1' });
    await attempt(
      { ':method': 'POST', ':path': '/v1/items', 'content-length': '3' },
      'GET /v1/secret HTTP/1.1\r\n\r\n',
    );
    await attempt(
      { ':method': 'POST', ':path': '/v1/items', 'transfer-encoding': 'chunked' },
      '0\r\n\r\nGET /v1/secret HTTP/1.1\r\n\r\n',
    );
    await attempt({ ':path': '/v1/a', host: 'evil.test' });
    expect(seen.filter((line) => !['POST /v1/items', 'GET /v1/a'].includes(line))).toEqual([]);
  });
});
