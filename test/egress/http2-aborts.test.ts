/** What is broken off over HTTP/2 ends as broken off: nobody may take a part for the whole (RFC 9113, 8.1). */
import type { ClientHttp2Stream, ServerHttp2Stream } from 'node:http2';
import { expect, test } from 'vitest';
import { undoAfterEach } from '../undo-after-each.ts';
import { makeAuthorities, openHttp2, startHttps, startInspectingProxy } from './inspection-fixture.ts';

const WAIT = { timeout: 15_000 };
const authorities = await makeAuthorities();
const undo = undoAfterEach();

/** How a stream went: its end, and whether it was reset. */
function fateOf(stream: ClientHttp2Stream | ServerHttp2Stream) {
  const fate = { text: '', ended: false, closed: false, code: 0 };
  stream.on('data', (chunk) => (fate.text += chunk));
  stream.on('end', () => {
    fate.ended = !stream.aborted && (stream.rstCode ?? 0) === 0;
  });
  stream.on('error', () => undefined);
  stream.on('close', () => {
    fate.closed = true;
    fate.code = stream.rstCode ?? 0;
  });
  return fate;
}

/** A client of the proxy and a server behind it, both speaking HTTP/2. */
async function start(serve: (stream: ServerHttp2Stream) => void) {
  const upstream = await startHttps(authorities, ((request: { stream?: ServerHttp2Stream }) => {
    if (request.stream !== undefined) serve(request.stream);
  }) as never);
  undo.push(() => upstream.stop());
  const { proxy, port } = await startInspectingProxy(
    authorities,
    `version: 1
network_policies:
  api:
    endpoints: [{ host: api.test, port: ${upstream.port}, protocol: rest, enforcement: enforce, access: full }]
    binaries: [{ path: "/**" }]
`,
  );
  undo.push(() => proxy.stop());
  const session = await openHttp2(port, 'api.test', upstream.port, authorities);
  undo.push(() => session.destroy());
  return session;
}

test('an upload that its client gives up is no whole one for the server', async () => {
  let fate: ReturnType<typeof fateOf> | undefined;
  const session = await start((stream) => {
    fate = fateOf(stream);
    stream.respond({ ':status': 200 });
  });
  const aborted = new AbortController();
  const stream = session.request(
    { ':method': 'POST', ':path': '/upload' },
    { endStream: false, signal: aborted.signal },
  );
  stream.on('error', () => undefined);
  stream.write('half of it');
  await expect.poll(() => fate?.text, WAIT).toBe('half of it');
  aborted.abort();
  await expect.poll(() => fate?.closed, WAIT).toBe(true);
  expect(fate).toMatchObject({ ended: false, code: 8 });
});

test('an answer that the server breaks off is no whole one for the client', async () => {
  const session = await start((stream) => {
    stream.on('error', () => undefined);
    stream.respond({ ':status': 200 });
    stream.write('half of it', () => setTimeout(() => stream.destroy(new Error('broken')), 20));
  });
  const stream = session.request({ ':path': '/download' });
  const fate = fateOf(stream);
  await expect.poll(() => fate.closed, WAIT).toBe(true);
  expect(fate).toMatchObject({ text: 'half of it', ended: false });
  expect(fate.code).not.toBe(0);
});
