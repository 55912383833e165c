import { createServer, type Server } from 'node:http';
import { connect, type Socket } from 'node:net';
import { describe, expect, test } from 'vitest';
import { parseNoProxy, type UpstreamProxy } from '../../supervisor/egress/upstream-proxy.ts';
import { Secret } from '../../supervisor/observability/secret.ts';
import { err, ok } from '../../supervisor/result.ts';
import { undoAfterEach } from '../undo-after-each.ts';
import { exchange, startProxy, startUpstream } from './proxy-fixture.ts';

const undo = undoAfterEach();

/** A proxy of a site that connects everything to one port, and tells what it was asked. */
async function startSiteProxy(target: number, answer: (socket: Socket) => boolean = () => true) {
  const asked: { readonly authority: string; readonly authorization: string | undefined }[] = [];
  const server: Server = createServer((_request, response) => void response.writeHead(500).end());
  server.on('connect', (request, socket: Socket) => {
    asked.push({ authority: request.url ?? '', authorization: request.headers['proxy-authorization'] });
    socket.on('error', () => undefined);
    if (!answer(socket)) return;
    const upstream = connect(target, '127.0.0.1', () => {
      socket.write('HTTP/1.1 200 OK\r\n\r\n');
      socket.pipe(upstream).pipe(socket);
    });
    upstream.on('error', () => socket.destroy());
  });
  await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
  undo.push(() => {
    server.closeAllConnections();
    server.close();
  });
  return { asked, port: (server.address() as { readonly port: number }).port };
}

async function world(part: Partial<UpstreamProxy> = {}, answer?: (socket: Socket) => boolean) {
  const upstream = await startUpstream((socket, all) => {
    if (all.endsWith('ping')) socket.write('pong');
  });
  const site = await startSiteProxy(upstream.port, answer);
  const upstreamProxy: UpstreamProxy = {
    host: '127.0.0.1',
    port: site.port,
    credentials: undefined,
    byHostname: false,
    bypass: () => false,
    ...part,
  };
  const started = await startProxy({ upstreamProxy, resolve: async () => ok(['127.0.0.1']) });
  undo.push(
    () => upstream.stop(),
    () => started.proxy.stop(),
  );
  return { ...started, site, upstream, upstreamProxy };
}
const CONNECT = 'CONNECT a.test:443 HTTP/1.1\r\n\r\n';

describe('the site’s proxy', () => {
  test('is asked for the address that was judged, and carries the connection', async () => {
    const { proxy, site } = await world();
    const { text } = await exchange(proxy.port, `${CONNECT}ping`, { end: true });
    expect(text).toBe('HTTP/1.1 200 Connection Established\r\n\r\npong');
    expect(site.asked).toEqual([{ authority: '127.0.0.1:443', authorization: undefined }]);
  });

  test('is asked for the name where it is to resolve, with its credentials', async () => {
    const { proxy, site } = await world({ byHostname: true, credentials: new Secret('me:s3cret') });
    expect((await exchange(proxy.port, `${CONNECT}ping`, { end: true })).text).toContain('pong');
    expect(site.asked).toEqual([
      { authority: 'a.test:443', authorization: `Basic ${Buffer.from('me:s3cret').toString('base64')}` },
    ]);
  });

  test('is left a name that nobody here can resolve, when it is to resolve and the policy trusts the name', async () => {
    const { site, upstreamProxy } = await world({ byHostname: true });
    for (const [byHostname, found] of [
      [true, 'pong'],
      [false, 'upstream_unreachable'],
    ] as const) {
      const { proxy } = await startProxy({
        upstreamProxy: { ...upstreamProxy, byHostname },
        resolve: async (host) => err(`${host} cannot be resolved`),
      });
      undo.push(() => proxy.stop());
      expect((await exchange(proxy.port, `${CONNECT}ping`, { end: true })).text).toContain(found);
    }
    expect(site.asked).toHaveLength(1);
  });

  test('is passed by for what its list excepts', async () => {
    const { proxy, site, upstream } = await world({ bypass: (host) => host === 'a.test' });
    const { text } = await exchange(proxy.port, `CONNECT a.test:${upstream.port} HTTP/1.1\r\n\r\nping`, {
      end: true,
    });
    expect([text.endsWith('pong'), site.asked]).toEqual([true, []]);
  });

  test.each<[string, (socket: Socket) => boolean, RegExp]>([
    ['refuses', (socket) => !socket.end('HTTP/1.1 407 No\r\n\r\n'), /refuses 127\.0\.0\.1:443 with 407/],
    ['answers 204', (socket) => !socket.write('HTTP/1.1 204 No\r\n\r\n'), /with 204/],
    ['speaks no HTTP', (socket) => !socket.write('hello\r\n\r\n'), /does not answer in HTTP/],
    ['hangs up', (socket) => !socket.destroy(), /closed the connection/],
    [
      'answers without end',
      (socket) => !socket.write(`HTTP/1.1 200 OK\r\n${'X: y\r\n'.repeat(2000)}`),
      /exceeds 8192 bytes/,
    ],
  ])('that %s fails the connection, and says so', async (_name, answer, reason) => {
    const { proxy } = await world({ credentials: new Secret('me:s3cret') }, (socket) => {
      answer(socket);
      return false;
    });
    const { text } = await exchange(proxy.port, CONNECT);
    expect(text).toMatch(/^HTTP\/1\.1 502/);
    expect(text).toMatch(reason);
    expect(text).not.toContain('s3cret');
  });
});

describe('the list of exceptions', () => {
  const passes = (list: string, host: string, port = 443, address = '203.0.113.1') => {
    const parsed = parseNoProxy(list);
    return parsed.ok ? parsed.value(host, port, address) : parsed.error;
  };
  test.each<[string, string, number, string, boolean]>([
    ['*', 'a.test', 443, '203.0.113.1', true],
    ['corp.test', 'corp.test', 443, '203.0.113.1', true],
    ['corp.test', 'a.corp.test', 443, '203.0.113.1', true],
    ['.corp.test', 'a.corp.test', 443, '203.0.113.1', true],
    ['*.corp.test', 'a.b.corp.test', 443, '203.0.113.1', true],
    ['corp.test', 'notcorp.test', 443, '203.0.113.1', false],
    ['corp.test:8443', 'corp.test', 443, '203.0.113.1', false],
    ['corp.test:443', 'corp.test', 443, '203.0.113.1', true],
    ['10.0.0.0/8', 'a.test', 443, '10.1.2.3', true],
    ['10.0.0.0/8', 'a.test', 443, '203.0.113.1', false],
    ['10.0.0.0/8:80', 'a.test', 443, '10.1.2.3', false],
    ['192.0.2.7', 'a.test', 443, '192.0.2.7', true],
    ['fd00::/8', 'a.test', 443, 'fd00::1', true],
    ['[fd00::1]:443', 'a.test', 443, 'fd00::1', true],
    ['a.test, ,b.test', 'b.test', 443, '203.0.113.1', true],
    ['', 'b.test', 443, '203.0.113.1', false],
  ])('%s and %s:%i at %s: %s', (list, host, port, address, expected) => {
    expect(passes(list, host, port, address)).toBe(expected);
  });

  test.each(['a b', 'a.test:0', 'a.test:99999', '-a', 'a..b', 'http://a'])(
    'names the entry that is none: %s',
    (entry) => {
      expect(passes(`corp.test,${entry}`, 'x')).toBe(entry);
    },
  );
});
