/** Whatever a client sends for a head, its server sees no request that was not decided on. */
import { createServer, type Server, type Socket } from 'node:net';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { collect, makeAuthorities, startInspectingProxy, tunnel } from './inspection-fixture.ts';

/** A server that takes apart what it is sent in the plainest way: a request for each line that looks like one. */
let server: Server;
let port: number;
const arrived: string[] = [];
const sockets = new Set<Socket>();
let proxy: Awaited<ReturnType<typeof startInspectingProxy>>;

beforeAll(async () => {
  server = createServer((socket) => {
    sockets.add(socket);
    let text = '';
    socket.on('error', () => undefined);
    socket.on('data', (chunk) => {
      text += chunk.toString('latin1');
      for (let end = text.indexOf('\r\n\r\n'); end >= 0; end = text.indexOf('\r\n\r\n')) {
        arrived.push(text.slice(0, text.indexOf('\r\n')));
        text = text.slice(end + 4);
        socket.write('HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n');
      }
    });
  });
  await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  port = typeof address === 'object' && address !== null ? address.port : 0;
  proxy = await startInspectingProxy(
    await makeAuthorities(),
    `version: 1
network_policies:
  api:
    endpoints:
      - host: api.test
        port: ${port}
        protocol: rest
        enforcement: enforce
        rules: [{ allow: { method: GET, path: /open/** } }, { allow: { method: POST, path: /open/** } }]
    binaries: [{ path: "/**" }]
`,
  );
}, 60_000);
afterAll(async () => {
  await proxy.proxy.stop();
  for (const socket of sockets) socket.destroy();
  server.close();
});

const EOL = fc.oneof(
  { weight: 12, arbitrary: fc.constant('\r\n') },
  { weight: 1, arbitrary: fc.constantFrom('\n', '\r', '\r\n ') },
);
const mangled = fc.oneof(
  fc.constantFrom(
    'Content-Length: 0',
    'Content-Length: 5',
    'Content-Length: 5, 5',
    'Content-Length: +5',
    'Transfer-Encoding: chunked',
    'Transfer-Encoding: chunked, identity',
    'Transfer-Encoding : chunked',
    'Transfer-Encoding: xchunked',
    'Connection: keep-alive',
    'Connection: close, content-length',
    'Upgrade: websocket',
    'Expect: 100-continue',
    'Host: other.test',
    'X-A: \u0000',
    ' folded',
    ':empty',
  ),
  fc.string({ maxLength: 30, unit: 'binary-ascii' }),
);
const line = fc.oneof(
  { weight: 3, arbitrary: fc.constantFrom('X-Fine: 1', 'Accept: */*', 'Content-Length: 0') },
  { weight: 1, arbitrary: mangled },
);
const target = fc.oneof(
  { weight: 2, arbitrary: fc.constantFrom('/open/a', '/open/b?x=/closed') },
  {
    weight: 1,
    arbitrary: fc.constantFrom(
      '/closed/a',
      '/open/../closed/a',
      '/open/%2e%2e/closed',
      '//closed',
      '/open/a HTTP/1.1',
      'http://api.test/closed',
      '*',
    ),
  },
);
const request = fc
  .tuple(
    fc.constantFrom('GET', 'GET', 'POST', 'POST', 'get', 'DELETE', 'PRI'),
    target,
    fc.constantFrom('HTTP/1.1', 'HTTP/1.1', 'HTTP/1.0', 'HTTP/2.0'),
    fc.array(fc.tuple(line, EOL), { maxLength: 3 }),
    EOL,
    fc.oneof(
      { weight: 4, arbitrary: fc.constant('') },
      {
        weight: 1,
        arbitrary: fc.constantFrom(
          'hello',
          '5\r\nhello\r\n0\r\n\r\n',
          'GET /closed/b HTTP/1.1\r\nHost: a\r\n\r\n',
        ),
      },
    ),
  )
  .map(
    ([method, path, version, lines, end, body]) =>
      `${method} ${path} ${version}${end}Host: api.test:PORT${end}${lines.map(([text, eol]) => text + eol).join('')}${end}${body}`,
  );

test('however it is mangled', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(request, { minLength: 1, maxLength: 2 }), async (requests) => {
      const before = arrived.length;
      const allowed = proxy.requests().filter(({ outcome }) => outcome === 'allowed').length;
      const socket = await tunnel(proxy.port, `api.test:${port}`);
      const over = collect(socket, Buffer.from(requests.join('').replaceAll('PORT', String(port)), 'latin1'));
      // What waits for more of a request would wait for ever.
      const timer = setTimeout(() => socket.end(), 250);
      socket.on('data', () => timer.refresh());
      const late = setTimeout(() => socket.destroy(), 2_000);
      await over;
      clearTimeout(timer);
      clearTimeout(late);
      const seen = arrived.slice(before);
      expect(seen.filter((text) => !/^(GET|POST) \/open\/\S* HTTP\/1\.1$/.test(text))).toEqual([]);
      const decided = proxy.requests().filter(({ outcome }) => outcome === 'allowed').length - allowed;
      expect(seen.length).toBeLessThanOrEqual(decided);
    }),
    { numRuns: 200 },
  );
  // Else it would have shown nothing.
  expect(arrived.length).toBeGreaterThan(0);
}, 120_000);
