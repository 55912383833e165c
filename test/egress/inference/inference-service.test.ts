import type { IncomingMessage, ServerResponse } from 'node:http';
import { describe, expect, test } from 'vitest';
import { ResolvedRoute } from '../../../proto/generated/openshell/inference/v1/inference.ts';
import { systemClock } from '../../../supervisor/clock.ts';
import { BodyBudget } from '../../../supervisor/egress/http/connection-context.ts';
import { Backends } from '../../../supervisor/egress/inference/backends.ts';
import {
  type InferenceEvent,
  InferenceService,
  type InferenceServiceOptions,
} from '../../../supervisor/egress/inference/inference-service.ts';
import { readRoute } from '../../../supervisor/egress/inference/route.ts';
import { RouteTable } from '../../../supervisor/egress/inference/route-table.ts';
import { LocalServices } from '../../../supervisor/egress/local-services.ts';
import { upstreamTrust } from '../../../supervisor/egress/tls/upstream.ts';
import { ok } from '../../../supervisor/result.ts';
import { undoAfterEach } from '../../undo-after-each.ts';
import { collect, makeAuthorities, openHttp2, secure, startHttps, tunnel } from '../inspection-fixture.ts';
import { startProxy } from '../proxy-fixture.ts';

const KEY = 'sk-canary-service';
const authorities = await makeAuthorities();
const undo = undoAfterEach();

interface Provider {
  readonly route?: Partial<ResolvedRoute>;
  readonly service?: Partial<InferenceServiceOptions>;
}

/** inference.local behind a real proxy, and a provider of the test's behind TLS. */
async function start(
  provider: ((request: IncomingMessage, response: ServerResponse, body: string) => void) | undefined,
  { route = {}, service = {} }: Provider = {},
) {
  const events: InferenceEvent[] = [];
  const seen: {
    readonly url: string | undefined;
    readonly headers: IncomingMessage['headers'];
    readonly body: string;
  }[] = [];
  const upstream = await startHttps(authorities, (request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const body = Buffer.concat(chunks).toString();
      seen.push({ url: request.url, headers: request.headers, body });
      provider?.(request, response, body);
    });
  });
  undo.push(() => upstream.stop());
  const routes = new RouteTable({
    clock: systemClock,
    random: Math.random,
    fetch: undefined,
    onChange: () => undefined,
    onFault: () => undefined,
  });
  if (provider !== undefined) {
    const read = readRoute(
      ResolvedRoute.fromPartial({
        name: 'inference.local',
        baseUrl: `https://llm.test:${upstream.port}/v1`,
        protocols: ['openai_chat_completions', 'openai_embeddings', 'model_discovery'],
        apiKey: KEY,
        modelId: 'the-model',
        providerType: 'openai',
        ...route,
      }),
    );
    if (!read.ok) throw new Error(read.error);
    routes.set([read.value]);
  }
  const backends = new Backends({
    resolve: async () => ok(['127.0.0.1']),
    trust: upstreamTrust(authorities.world.certificate),
    upstreamProxy: undefined,
    hostGateways: new Map([['llm.test', '127.0.0.1']]),
  });
  undo.push(() => backends.close());
  const made = new InferenceService({
    routes,
    backends,
    now: () => performance.now(),
    bodies: new BodyBudget(64 << 20),
    observe: (event) => events.push(event),
    ...service,
  });
  const { proxy } = await startProxy({
    local: new LocalServices([made], authorities.sandbox),
    authorize: () => {
      throw new Error('the policy is not asked about a service of ours');
    },
  });
  undo.push(() => proxy.stop());
  const client = async () => {
    const opened = await secure(proxy.port, 'inference.local', 443, authorities);
    undo.push(() => opened.destroy());
    return opened;
  };
  const post = (path: string, body: string, fields = '') =>
    `POST ${path} HTTP/1.1\r\nHost: inference.local\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\n${fields}\r\n${body}`;
  const ask = async (text: string) => collect(await client(), text);
  return { proxy, events, seen, client, post, ask };
}

const CHAT = '/v1/chat/completions';
const closing = 'Connection: close\r\n';

describe('inference.local', () => {
  test('asks the provider with the model and the key of the route, and nothing of the workload’s', async () => {
    const { ask, post, seen, events } = await start((_, response) => response.end('{"id":1}'));
    const { text } = await ask(
      post(CHAT, '{"model":"mine"}', `Authorization: Bearer mine\r\nCookie: a=b\r\n${closing}`),
    );
    expect(text).toMatch(/^HTTP\/1.1 200 [\s\S]*\{"id":1\}/);
    expect(seen).toHaveLength(1);
    expect(seen[0]).toMatchObject({
      url: CHAT,
      body: '{"model":"the-model"}',
      headers: { authorization: `Bearer ${KEY}` },
    });
    expect(seen[0]?.headers).not.toHaveProperty('cookie');
    expect(seen[0]?.headers.host).toMatch(/^llm\.test:/);
    expect(events).toMatchObject([
      { status: 200, operation: 'openai_chat_completions', model: 'the-model', fault: undefined },
    ]);
    expect(`${text}${JSON.stringify(events)}`).not.toContain(KEY);
  });

  test('lets a stream through piece by piece', async () => {
    let next: (() => void) | undefined;
    const { client, post } = await start((_, response) => {
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      response.write('data: one\n\n');
      next = () => response.end('data: two\n\n');
    });
    const socket = await client();
    let text = '';
    socket.on('data', (chunk) => (text += chunk));
    socket.write(post(CHAT, '{}', closing));
    await expect.poll(() => text).toContain('data: one');
    expect(text).not.toContain('two');
    next?.();
    await expect.poll(() => text).toMatch(/data: two\n\n\r\n0\r\n\r\n$/);
  });

  test('tells a broken stream of events by an event, and breaks anything else off', async () => {
    const type = { value: 'text/event-stream' };
    const { ask, post, events } = await start((_, response) => {
      response.writeHead(200, { 'content-type': type.value });
      response.write('data: one\n\n', () => setImmediate(() => response.destroy()));
    });
    const told = await ask(post(CHAT, '{}', closing));
    expect(told.text).toContain('"type":"proxy_stream_error"');
    expect(told.text).toMatch(/0\r\n\r\n$/);
    type.value = 'application/json';
    const broken = await ask(post(CHAT, '{}', closing));
    expect(broken.text).not.toContain('proxy_stream_error');
    expect(broken.text).not.toMatch(/0\r\n\r\n$/);
    expect(events.map(({ fault }) => fault)).toEqual(['the provider broke off', 'the provider broke off']);
  });

  test('ends a stream that pauses for too long', async () => {
    const { ask, post } = await start(
      (_, response) => {
        response.writeHead(200, { 'content-type': 'text/event-stream' });
        response.write('data: one\n\n');
      },
      { service: { idleMs: 150 } },
    );
    expect((await ask(post(CHAT, '{}', closing))).text).toContain('nothing came for 0.15 s');
  });

  test('ends a stream that is too large', async () => {
    const { ask, post, events } = await start((_, response) => {
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      const piece = Buffer.alloc(1 << 20, 'x');
      const more = (): void => {
        while (response.writable && response.write(piece));
        if (response.writable) response.once('drain', more);
      };
      response.on('error', () => undefined);
      more();
    });
    const { text } = await ask(post(CHAT, '{}', closing));
    expect(text.length).toBeLessThan(34 << 20);
    expect(text.slice(-300)).toContain('proxy_stream_error');
    expect(events[0]?.fault).toContain('larger');
  });

  test('gives the provider’s connection up when the client goes away', async () => {
    let closed = false;
    const { client, post, events } = await start((_, response) => {
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      response.write('data: one\n\n');
      response.once('close', () => (closed = true));
    });
    const socket = await client();
    let text = '';
    socket.on('data', (chunk) => (text += chunk));
    socket.write(post(CHAT, '{}'));
    await expect.poll(() => text).toContain('one');
    socket.destroy();
    await expect.poll(() => closed).toBe(true);
    await expect.poll(() => events).toHaveLength(1);
  });

  test('reads no faster than its client', async () => {
    let sent = 0;
    const { client, post } = await start((_, response) => {
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      const piece = Buffer.alloc(64 << 10, 'x');
      const more = (): void => {
        while (response.writable && sent < 30 << 20) {
          sent += piece.length;
          if (!response.write(piece)) return void response.once('drain', more);
        }
      };
      response.on('error', () => undefined);
      more();
    });
    const socket = await client();
    socket.pause();
    socket.write(post(CHAT, '{}'));
    let before = -1;
    await expect
      .poll(
        () => {
          const still = sent === before && sent > 0;
          before = sent;
          return still;
        },
        { interval: 200, timeout: 10_000 },
      )
      .toBe(true);
    expect(sent).toBeLessThan(16 << 20);
  });

  test.each([
    ['another path', 'POST', '/v1/files', 403, 'connection not allowed by policy'],
    ['another method', 'GET', CHAT, 403, 'connection not allowed by policy'],
    ['an API without a route', 'POST', '/v1/messages', 400, 'no compatible route for anthropic_messages'],
  ])('refuses %s', async (_, method, path, status, error) => {
    const { ask, seen } = await start((_request, response) => response.end('{}'));
    const { text } = await ask(
      `${method} ${path} HTTP/1.1\r\nHost: inference.local\r\nContent-Length: 2\r\n\r\n{}`,
    );
    expect(text).toMatch(new RegExp(`^HTTP/1.1 ${status} `));
    expect(JSON.parse(text.slice(text.indexOf('{')))).toMatchObject({ error });
    expect(seen).toEqual([]);
  });

  test('says that nothing is configured', async () => {
    const { ask, post } = await start(undefined);
    const { text } = await ask(post(CHAT, '{}'));
    expect(text).toMatch(/^HTTP\/1.1 503 /);
    expect(JSON.parse(text.slice(text.indexOf('{')))).toMatchObject({ error: 'inference is not configured' });
  });

  test('refuses a body that is no JSON, and one that is too large', async () => {
    const { ask, post, seen } = await start((_, response) => response.end('{}'));
    expect((await ask(post(CHAT, 'x'))).text).toMatch(/^HTTP\/1.1 400 /);
    expect(
      (await ask(`POST ${CHAT} HTTP/1.1\r\nHost: inference.local\r\nContent-Length: 10485761\r\n\r\n`)).text,
    ).toMatch(/^HTTP\/1.1 413 /);
    expect(seen).toEqual([]);
  });

  test('refuses a body that all bodies together leave no room for', async () => {
    const { ask, post } = await start((_, response) => response.end('{}'), {
      service: { bodies: new BodyBudget(10) },
    });
    expect((await ask(post(CHAT, '{"a":12345}'))).text).toMatch(/^HTTP\/1.1 503 /);
    expect((await ask(post(CHAT, '{}', closing))).text).toMatch(/^HTTP\/1.1 200 /);
  });

  test('holds no more of the bound than a chunked body takes, while its answer streams', async () => {
    const { client, ask, post } = await start(
      (_, response, body) => {
        response.writeHead(200, { 'content-type': 'text/event-stream' });
        if (body.includes('"last"')) response.end('data: end\n\n');
        else response.write('data: 1\n\n');
      },
      { service: { bodies: new BodyBudget(11 << 20) } },
    );
    const streaming = await client();
    const first = new Promise((resolve) => streaming.once('data', resolve));
    streaming.write(
      `POST ${CHAT} HTTP/1.1\r\nHost: inference.local\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n`,
    );
    expect(String(await first)).toMatch(/^HTTP\/1.1 200 /);
    const large = `{"last":"${'a'.repeat(2 << 20)}"}`;
    expect((await ask(post(CHAT, large, closing))).text).toMatch(/^HTTP\/1.1 200 /);
  });

  test('tells a refused key from other answers, which it passes on', async () => {
    let status = 401;
    const { ask, post } = await start((_, response) =>
      response.writeHead(status, { 'set-cookie': 'a=b' }).end(`{"key":"${KEY}"}`),
    );
    const refused = await ask(post(CHAT, '{}'));
    expect(refused.text).toMatch(/^HTTP\/1.1 401 /);
    expect(refused.text).not.toContain(KEY);
    status = 429;
    const limited = await ask(post(CHAT, '{}', closing));
    expect(limited.text).toMatch(/^HTTP\/1.1 429 /);
    expect(limited.text.toLowerCase()).not.toContain('set-cookie');
  });

  test('is unavailable when the provider cannot be reached, and asks again the next time', async () => {
    const { ask, post, events } = await start((_, response) => response.end('{}'), {
      route: { baseUrl: 'https://llm.test:1/v1' },
    });
    expect((await ask(post(CHAT, '{}'))).text).toMatch(/^HTTP\/1.1 503 /);
    expect(events[0]?.fault).toContain('ECONNREFUSED');
  });

  test('speaks to nobody that it cannot verify', async () => {
    const { ask, post, events } = await start((_, response) => response.end('{}'), {
      service: {
        backends: new Backends({
          resolve: async () => ok(['127.0.0.1']),
          trust: upstreamTrust(undefined),
          upstreamProxy: undefined,
          hostGateways: new Map([['llm.test', '127.0.0.1']]),
        }),
      },
    });
    expect((await ask(post(CHAT, '{}'))).text).toMatch(/^HTTP\/1.1 503 /);
    expect(events[0]?.fault).toContain('TLS with llm.test');
  });

  test.each([
    '169.254.169.254',
    '0.0.0.0',
    '::ffff:169.254.169.254',
    'fe80::1',
    '127.0.0.1',
    '100.100.100.200',
    'fd00:ec2::254',
  ])('does not take %s for a provider’s address', async (address) => {
    const backends = new Backends({
      resolve: async () => ok([address]),
      trust: upstreamTrust(undefined),
      upstreamProxy: undefined,
      hostGateways: new Map(),
    });
    const opened = await backends.to(new URL('https://llm.test'));
    expect(opened.ok ? '' : opened.error).toContain('which no provider has');
  });

  test('answers over HTTP/2 too, and only over TLS', async () => {
    const { proxy, events } = await start((_, response) => response.end('{"id":2}'));
    const session = await openHttp2(proxy.port, 'inference.local', 443, authorities);
    undo.push(() => session.destroy());
    const stream = session.request({ ':method': 'POST', ':path': CHAT, 'content-type': 'application/json' });
    let text = '';
    stream.setEncoding('utf8').on('data', (chunk) => (text += chunk));
    stream.end('{"model":"x"}');
    await expect.poll(() => text).toBe('{"id":2}');
    await expect.poll(() => events).toHaveLength(1);
    const plain = await collect(
      await tunnel(proxy.port, 'inference.local:443'),
      'GET / HTTP/1.1\r\nHost: a\r\n\r\n',
    );
    expect(plain.text).toMatch(/^HTTP\/1.1 400 /);
  });
});
