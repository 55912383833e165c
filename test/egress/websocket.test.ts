import { describe, expect, test } from 'vitest';
import { undoAfterEach } from '../undo-after-each.ts';
import {
  bodyOf,
  makeAuthorities,
  openHttp2,
  startHttps,
  startInspectingProxy,
  tunnel,
} from './inspection-fixture.ts';
import { chatPolicy, frame, handshake, KEY, RawClient, startChat } from './websocket-fixture.ts';

const authorities = await makeAuthorities();
const undo = undoAfterEach();

const WAIT = { timeout: 10_000 };
async function chat(options: Parameters<typeof startChat>[1] = {}) {
  const started = await startChat(authorities, options);
  undo.push(() => started.stop());
  return started;
}
type Chat = Awaited<ReturnType<typeof chat>>;
/** Nothing of a relay is left on either side. */
async function expectNoLeak(started: Chat) {
  await expect.poll(() => started.proxy.openConnections(), WAIT).toBe(0);
  await expect.poll(() => started.sockets.every(({ destroyed }) => destroyed), WAIT).toBe(true);
}
const TEXT = 1;
const BINARY = 2;
const CLOSE = 8;
const PING = 9;
const PONG = 10;

/** Denies one path of GraphQL operations, by name of field. */
const graphqlPolicy = (port: number) =>
  chatPolicy(port, '', [
    '{ method: GET, path: "/chat" }',
    '{ operation_type: query, fields: [hello] }',
    '{ operation_type: subscription, fields: [news] }',
  ]);

describe('a WebSocket handshake', () => {
  test('that a rule allows reaches the server as it was meant, and its messages pass', async () => {
    const started = await chat();
    const client = await started.raw(
      '/x/../chat',
      'Sec-WebSocket-Protocol: one, two\r\nCookie: a=b\r\nX-Hop: 1\r\n',
    );
    await expect.poll(() => client.status, WAIT).toBe(101);
    expect(client.head).toMatch(/\r\nSec-WebSocket-Accept: ICX\+Yqv66kxgM0FcWaLWlFLwTAI=/i);
    expect(started.heads[0]).toMatchObject({
      url: '/chat',
      headers: { host: started.place, cookie: 'a=b', 'sec-websocket-key': KEY, connection: 'Upgrade' },
    });
    client.write(frame(TEXT, 'hello'));
    await expect.poll(() => client.texts, WAIT).toEqual(['hello']);
    expect(started.requests()).toMatchObject([
      { outcome: 'allowed', method: 'GET', path: '/chat' },
      { outcome: 'allowed', method: 'WEBSOCKET_TEXT', path: '/chat', policy: 'chat' },
    ]);
    client.socket.destroy();
    await expectNoLeak(started);
  });

  test('with frames right behind it loses none of them', async () => {
    const started = await chat();
    const client = new RawClient(await tunnel(started.port, started.place));
    client.write(
      Buffer.concat([
        Buffer.from(handshake('/chat', started.place)),
        frame(TEXT, 'one'),
        frame(TEXT, 'two').subarray(0, 3),
      ]),
    );
    await expect.poll(() => client.texts, WAIT).toEqual(['one']);
  });

  test('that no rule allows is answered with 403, and the server sees none of it', async () => {
    const started = await chat();
    const client = await started.raw('/other');
    await expect.poll(() => client.ended, WAIT).toBe('end');
    expect(client.status).toBe(403);
    expect(bodyOf(client.bytes.toString())).toMatchObject({ error: 'policy_denied', rule: 'GET /other' });
    expect(started.heads).toEqual([]);
    await expectNoLeak(started);
  });

  test.each([
    ['another version', ['Sec-WebSocket-Version: 13', 'Sec-WebSocket-Version: 8']],
    ['no key', [`Sec-WebSocket-Key: ${KEY}\r\n`, '']],
    ['two keys', ['\r\n\r\n', `\r\nSec-WebSocket-Key: ${KEY}\r\n\r\n`]],
    ['a key that is none', [KEY, 'c2hvcnQ=']],
    ['another method', ['GET', 'POST']],
    ['HTTP/1.0', ['HTTP/1.1', 'HTTP/1.0']],
    ['a body', ['\r\n\r\n', '\r\nContent-Length: 5\r\n\r\nhello']],
    ['a chunked body', ['\r\n\r\n', '\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n']],
  ])('with %s is broken off without an answer', async (_name, [before, after]) => {
    const started = await chat();
    const client = new RawClient(await tunnel(started.port, started.place));
    client.write(handshake('/chat', started.place).replace(before ?? '', after ?? ''));
    await expect.poll(() => client.ended, WAIT).toBeDefined();
    expect(client.bytes.toString()).toBe('');
    expect(started.heads).toEqual([]);
    await expectNoLeak(started);
  });

  test('that another answer is still to come before is broken off', async () => {
    const started = await chat({ onRequest: (request) => request.resume() });
    const client = new RawClient(await tunnel(started.port, started.place));
    client.write(`GET /chat HTTP/1.1\r\nHost: ${started.place}\r\n\r\n${handshake('/chat', started.place)}`);
    await expect.poll(() => client.ended, WAIT).toBeDefined();
    expect([client.bytes.length, started.heads.length]).toEqual([0, 0]);
    await expectNoLeak(started);
  });

  test.each([
    ['graphql', 'operation_type: query, fields: ["*"]', '?query=%7Bhello%7D', ''],
    ['mcp', 'method: "*"', '', 'Accept: text/event-stream\r\n'],
    ['json-rpc', 'method: "*"', '', ''],
  ])(
    'on an endpoint of %s would open a way around its rules, and is denied',
    async (protocol, rule, query, more) => {
      const started = await chat({
        yaml: (port) =>
          chatPolicy(port)
            .replace('protocol: websocket', `protocol: ${protocol}`)
            .replace(/rules:[\s\S]*?\n\n/, `rules:\n          - allow: { ${rule} }\n\n`),
      });
      const client = await started.raw(`/chat${query}`, more);
      await expect.poll(() => client.ended, WAIT).toBe('end');
      expect(client.status).toBe(403);
      expect(started.heads).toEqual([]);
      expect(started.requests().at(-1)).toMatchObject({ outcome: 'denied' });
      await expectNoLeak(started);
    },
  );

  test('over HTTP/2 (extended CONNECT) is refused', async () => {
    const asked: string[] = [];
    const upstream = await startHttps(authorities, (request, response) => {
      asked.push(request.url ?? '');
      response.end();
    });
    const proxy = await startInspectingProxy(authorities, chatPolicy(upstream.port));
    undo.push(
      () => upstream.stop(),
      () => proxy.proxy.stop(),
    );
    const session = await openHttp2(proxy.port, 'chat.test', upstream.port, authorities);
    undo.push(() => session.destroy());
    await new Promise((resolve) => session.once('remoteSettings', resolve));
    expect(session.remoteSettings.enableConnectProtocol).not.toBe(true);
    const outcome = await new Promise((resolve) => {
      const stream = session.request(
        {
          ':method': 'CONNECT',
          ':protocol': 'websocket',
          ':path': '/chat',
          ':authority': `chat.test:${upstream.port}`,
          ':scheme': 'https',
          'sec-websocket-version': '13',
        },
        { endStream: false },
      );
      stream.on('response', ({ ':status': status }) => resolve(status));
      stream.on('error', () => resolve('error'));
      stream.on('close', () => resolve('error'));
    });
    expect(outcome).toBe('error');
    expect(asked).toEqual([]);
  });

  describe('that the server', () => {
    const switching = (more: string) => (_request: unknown, socket: { write(text: string): unknown }) =>
      void socket.write(
        `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n${more}\r\n`,
      );
    const ACCEPT = 'Sec-WebSocket-Accept: ICX+Yqv66kxgM0FcWaLWlFLwTAI=\r\n';

    test.each([
      ['answers for another key', 'Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n', ''],
      ['accepts without a proof', '', ''],
      [
        'answers with an extension nobody offered',
        `${ACCEPT}Sec-WebSocket-Extensions: permessage-deflate\r\n`,
        '',
      ],
      [
        'answers with an extension that cannot be read',
        `${ACCEPT}Sec-WebSocket-Extensions: x-own\r\n`,
        'Sec-WebSocket-Extensions: x-own, permessage-deflate\r\n',
      ],
      [
        'answers with a second extension in a field of its own',
        `${ACCEPT}Sec-WebSocket-Extensions: permessage-deflate\r\nSec-WebSocket-Extensions: x-own\r\n`,
        'Sec-WebSocket-Extensions: permessage-deflate\r\n',
      ],
      [
        'agrees to parameters that make no sense',
        `${ACCEPT}Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits=99\r\n`,
        'Sec-WebSocket-Extensions: permessage-deflate\r\n',
      ],
    ])('%s ends with 502 and no relay', async (_name, answer, offer) => {
      const started = await chat({ onUpgrade: switching(answer) });
      const client = await started.raw('/chat', offer);
      await expect.poll(() => client.ended, WAIT).toBe('end');
      expect(client.status).toBe(502);
      expect(bodyOf(client.bytes.toString())).toMatchObject({ error: 'upstream_unreachable' });
      expect(started.requests().at(-1)).toMatchObject({ outcome: 'failed', method: 'GET' });
      await expectNoLeak(started);
    });

    test('was offered unreadable extensions by a client sees only what can be read', async () => {
      const started = await chat();
      await started.raw(
        '/chat',
        'Sec-WebSocket-Extensions: x-own; a=1, permessage-deflate; client_max_window_bits\r\nSec-WebSocket-Extensions: x-other\r\n',
      );
      await expect.poll(() => started.heads.length, WAIT).toBe(1);
      expect(started.heads[0]?.headers['sec-websocket-extensions']).toBe(
        'permessage-deflate; client_max_window_bits',
      );
    });

    test.each([
      ['by length', (body: string) => `Content-Length: ${body.length}\r\nConnection: close\r\n\r\n${body}`],
      [
        'in chunks',
        (body: string) =>
          `Transfer-Encoding: chunked\r\n\r\n${body.length.toString(16)}\r\n${body}\r\n0\r\n\r\n`,
      ],
    ])('refuses %s is passed on with its body', async (_name, framed) => {
      const started = await chat({
        onUpgrade: (_request, socket) =>
          void socket.end(`HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic\r\n${framed('no entry')}`),
      });
      const client = await started.raw();
      await expect.poll(() => client.ended, WAIT).toBe('end');
      expect(client.head).toMatch(/^HTTP\/1\.1 401 Unauthorized\r\nWWW-Authenticate: Basic\r\n/);
      expect(client.bytes.toString()).toContain('no entry');
      await expectNoLeak(started);
    });

    test('breaks off within its refusal is passed on as broken off', async () => {
      const started = await chat({
        onUpgrade: (_request, socket) =>
          void socket.write('HTTP/1.1 401 Unauthorized\r\nContent-Length: 100\r\n\r\npart', () =>
            socket.destroy(),
          ),
      });
      const client = await started.raw();
      await expect.poll(() => client.ended, WAIT).toBe('reset');
      await expectNoLeak(started);
    });

    test('never answers is given up when the client goes', async () => {
      const started = await chat({ onUpgrade: (_request, socket) => void socket.resume() });
      const client = await started.raw();
      await expect.poll(() => started.heads.length, WAIT).toBe(1);
      client.socket.end();
      await expectNoLeak(started);
    });
  });
});

describe('messages of a client', () => {
  test('are denied one by one: 1008 to both, with the reason', async () => {
    const started = await chat();
    const client = await started.raw('/mute');
    await expect.poll(() => client.status, WAIT).toBe(101);
    client.write(frame(TEXT, 'hello'));
    await expect.poll(() => client.closed?.code, WAIT).toBe(1008);
    expect(client.closed?.reason).toContain('WEBSOCKET_TEXT /mute');
    await expect.poll(() => started.seen, WAIT).toMatchObject([{ kind: 'close', code: 1008 }]);
    expect(started.requests().at(-1)).toMatchObject({
      outcome: 'denied',
      method: 'WEBSOCKET_TEXT',
      path: '/mute',
    });
    await expectNoLeak(started);
  });

  test('are logged and passed in audit mode', async () => {
    const started = await chat({ yaml: (port) => chatPolicy(port).replace('enforce\n', 'audit\n') });
    const client = await started.raw('/mute');
    client.write(frame(TEXT, 'hello'));
    await expect.poll(() => client.texts, WAIT).toEqual(['hello']);
    expect(started.requests().at(-1)).toMatchObject({ outcome: 'audited', method: 'WEBSOCKET_TEXT' });
  });

  test('keep their order, kind and content: text, binary, fragments with a ping in between, empty, large', async () => {
    const started = await chat();
    const client = await started.raw();
    const large = 'x'.repeat(200_000);
    client.write(
      Buffer.concat([
        frame(TEXT, 'grüße'),
        frame(BINARY, Buffer.from([0, 255])),
        frame(TEXT, 'frag', { fin: false }),
        frame(PING, 'are you there'),
        frame(0, 'men', { fin: false }),
        frame(0, 'ts'),
        frame(TEXT, ''),
        frame(TEXT, large),
        frame(PONG, 'by itself'),
      ]),
    );
    await expect.poll(() => started.seen.length, WAIT).toBe(7);
    expect(started.seen).toEqual([
      { kind: 'message', text: 'grüße', isBinary: false },
      { kind: 'message', text: Buffer.from([0, 255]).toString(), isBinary: true },
      { kind: 'ping', text: 'are you there' },
      { kind: 'message', text: 'fragments', isBinary: false },
      { kind: 'message', text: '', isBinary: false },
      { kind: 'message', text: '200000 bytes', isBinary: false },
      { kind: 'pong', text: 'by itself' },
    ]);
    await expect.poll(() => client.texts, WAIT).toEqual(['grüße', 'fragments', '', large]);
    expect(client.frames.filter(({ opcode }) => opcode === PONG)).toHaveLength(1);
  });

  test('come through byte by byte as well', async () => {
    const started = await chat();
    const client = await started.raw();
    await expect.poll(() => client.status, WAIT).toBe(101);
    for (const byte of frame(TEXT, 'slowly')) {
      client.write(Buffer.from([byte]));
      await new Promise((resolve) => setImmediate(resolve));
    }
    await expect.poll(() => client.texts, WAIT).toEqual(['slowly']);
  });

  test.each([
    ['no context kept', { clientNoContextTakeover: true, serverNoContextTakeover: true, threshold: 0 }],
    ['context kept', { clientNoContextTakeover: false, serverNoContextTakeover: false, threshold: 0 }],
  ])('are read through permessage-deflate, %s', async (_name, deflate) => {
    const started = await chat({ perMessageDeflate: deflate });
    const { client, received } = await started.client(deflate);
    undo.push(() => client.terminate());
    expect(client.extensions).toBe('permessage-deflate');
    const messages = Array.from({ length: 50 }, (_, index) => `the same words again and again ${index}`);
    for (const message of messages) client.send(message);
    client.send('in ', { fin: false });
    client.send('parts');
    await expect.poll(() => received, WAIT).toEqual([...messages, 'in parts']);
    expect(started.messages()).toEqual([...messages, 'in parts']);
    expect(started.requests().filter(({ method }) => method === 'WEBSOCKET_TEXT')).toHaveLength(51);
    client.close(1000, 'done');
    await expect.poll(() => started.seen.at(-1), WAIT).toEqual({ kind: 'close', code: 1000, reason: 'done' });
    await expectNoLeak(started);
  });

  test.each([
    ['without a mask', [frame(TEXT, 'x', { mask: false })], 1002],
    ['with a reserved bit', [frame(TEXT, 'x', { rsv: 4 })], 1002],
    ['with compression that was not agreed on', [frame(TEXT, 'x', { rsv: 4 })], 1002],
    ['with an unknown opcode', [frame(3, 'x')], 1002],
    ['as a continuation of nothing', [frame(0, 'x')], 1002],
    ['begun within another', [frame(TEXT, 'x', { fin: false }), frame(TEXT, 'y')], 1002],
    ['as a ping in fragments', [frame(PING, 'x', { fin: false })], 1002],
    ['as a ping too long', [frame(PING, 'x'.repeat(126))], 1002],
    ['as a close with a code that may not be sent', [frame(CLOSE, Buffer.from([3, 237]))], 1002],
    ['as a close of one byte', [frame(CLOSE, 'x')], 1002],
    ['that are no UTF-8', [frame(TEXT, Buffer.from([0xc0, 0xaf]))], 1007],
    ['with half a character', [frame(TEXT, Buffer.from([0xe2, 0x82]))], 1007],
    ['with a close reason that is no UTF-8', [frame(CLOSE, Buffer.from([3, 232, 0xff]))], 1007],
    ['longer than any may be', [frame(BINARY, '', { length: (16n << 20n) + 1n })], 1009],
    ['of an absurd length', [frame(TEXT, '', { length: 1n << 62n })], 1009],
    ['of text of more than 4 MiB', [frame(TEXT, Buffer.alloc((4 << 20) + 1, 'x'))], 1009],
    [
      'in too many fragments',
      [frame(TEXT, '', { fin: false }), ...Array.from({ length: 4200 }, () => frame(0, 'x', { fin: false }))],
      1009,
    ],
  ])('%s close both sides', async (_name, frames, code) => {
    const started = await chat();
    const client = await started.raw();
    await expect.poll(() => client.status, WAIT).toBe(101);
    client.write(Buffer.concat(frames));
    await expect.poll(() => client.closed?.code, WAIT).toBe(code);
    expect(started.messages()).toEqual([]);
    await expectNoLeak(started);
  });

  test('that inflate to more than any may be close both sides, and are never whole in memory', async () => {
    const { deflateRawSync } = await import('node:zlib');
    const started = await chat({ perMessageDeflate: { threshold: 0 } });
    const client = await started.raw('/chat', 'Sec-WebSocket-Extensions: permessage-deflate\r\n');
    await expect.poll(() => client.status, WAIT).toBe(101);
    client.write(frame(BINARY, deflateRawSync(Buffer.alloc(64 << 20)), { rsv: 4 }));
    await expect.poll(() => client.closed?.code, WAIT).toBe(1009);
    await expectNoLeak(started);
  });

  test('go no faster than the server reads, however well they are compressed', async () => {
    const { deflateRawSync } = await import('node:zlib');
    const started = await chat({
      perMessageDeflate: { threshold: 0 },
      onUpgrade: (_request, socket) => {
        socket.write(
          'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ICX+Yqv66kxgM0FcWaLWlFLwTAI=\r\nSec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover\r\n\r\n',
        );
        socket.pause();
      },
    });
    const client = await started.raw('/chat', 'Sec-WebSocket-Extensions: permessage-deflate\r\n');
    await expect.poll(() => client.status, WAIT).toBe(101);
    const before = process.memoryUsage().rss;
    const bomb = frame(BINARY, deflateRawSync(Buffer.alloc(15 << 20)), { rsv: 4 });
    for (let count = 0; count < 60; count++) client.write(bomb);
    let read = -1;
    const stands = (): boolean => {
      const same = read === client.socket.bytesWritten - client.socket.writableLength;
      read = client.socket.bytesWritten - client.socket.writableLength;
      return same;
    };
    let most = 0;
    await expect
      .poll(
        () => {
          most = Math.max(most, process.memoryUsage().rss - before);
          return stands();
        },
        { interval: 400, timeout: 15_000 },
      )
      .toBe(true);
    // 60 of them would be 900 MiB.
    expect(most).toBeLessThan(500 << 20);
  });

  test('after the policy was replaced close the connection with 1012; until then it stays', async () => {
    const started = await chat();
    const client = await started.raw();
    client.write(frame(TEXT, 'before'));
    await expect.poll(() => client.texts, WAIT).toEqual(['before']);
    started.replacePolicy();
    client.write(frame(PING, 'still there'));
    await expect.poll(() => client.frames.at(-1)?.opcode, WAIT).toBe(PONG);
    client.write(frame(TEXT, 'after'));
    await expect.poll(() => client.closed?.code, WAIT).toBe(1012);
    expect(started.messages()).toEqual(['before']);
    await expectNoLeak(started);
  });
});

describe('the end of a WebSocket', () => {
  test('by the client passes with its code and reason, and the server’s answer comes back', async () => {
    const started = await chat();
    const { client } = await started.client();
    const closed = new Promise((resolve) =>
      client.once('close', (code: number, reason: Buffer) => resolve([code, reason.toString()])),
    );
    client.close(4001, 'enough');
    expect(await closed).toEqual([4001, 'enough']);
    await expect.poll(() => started.seen, WAIT).toEqual([{ kind: 'close', code: 4001, reason: 'enough' }]);
    await expectNoLeak(started);
  });

  test('by the client without a code passes without one', async () => {
    const started = await chat();
    const client = await started.raw();
    client.write(frame(CLOSE, ''));
    await expect.poll(() => started.seen, WAIT).toEqual([{ kind: 'close', code: 1005, reason: '' }]);
    client.socket.end();
    await expectNoLeak(started);
  });

  test('by the server passes, with everything that it has sent before', async () => {
    const data = Buffer.alloc(3 << 20, 7);
    const started = await chat({
      onConnection(peer) {
        peer.send(data);
        peer.close(1001, 'going away');
      },
    });
    const client = await started.raw();
    client.socket.pause();
    await expect.poll(() => started.heads.length, WAIT).toBe(1);
    client.socket.resume();
    await expect.poll(() => client.closed, WAIT).toEqual({ code: 1001, reason: 'going away' });
    expect(client.frames[0]?.payload.equals(data)).toBe(true);
    client.write(frame(CLOSE, Buffer.from([3, 233])));
    client.socket.end();
    await expectNoLeak(started);
  });

  test('by the server when its peer answers nothing leaves nothing behind', async () => {
    const started = await chat({ onConnection: (peer) => peer.close(1000) });
    const client = await started.raw();
    await expect.poll(() => client.closed?.code, WAIT).toBe(1000);
    client.socket.destroy();
    await expectNoLeak(started);
  });

  test.each([
    ['vanishes', (client: RawClient) => void client.socket.destroy()],
    ['resets', (client: RawClient) => void client.socket.resetAndDestroy()],
    ['half-closes', (client: RawClient) => void client.socket.end()],
    [
      'sends on after its close',
      (client: RawClient) => {
        client.write(Buffer.concat([frame(CLOSE, ''), frame(TEXT, 'late'), Buffer.alloc(100_000)]));
        client.socket.end();
      },
    ],
  ])('by a client that %s is seen by the server, and nothing is left', async (_name, leave) => {
    const started = await chat();
    const client = await started.raw();
    client.write(frame(TEXT, 'hello'));
    await expect.poll(() => client.texts, WAIT).toEqual(['hello']);
    leave(client);
    await expect.poll(() => started.seen.at(-1)?.kind, WAIT).toBe('close');
    expect(started.messages()).toEqual(['hello']);
    await expectNoLeak(started);
  });

  test('by a server that vanishes within a frame is no proper end', async () => {
    const started = await chat({
      onUpgrade: (_request, socket) => {
        socket.write(
          `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ICX+Yqv66kxgM0FcWaLWlFLwTAI=\r\n\r\n`,
        );
        socket.write(Buffer.from([0x81, 100, 1, 2, 3]), () => {
          if ('resetAndDestroy' in socket && typeof socket.resetAndDestroy === 'function')
            socket.resetAndDestroy();
        });
      },
    });
    const client = await started.raw();
    await expect.poll(() => client.ended, WAIT).toBe('reset');
    expect(client.frames).toEqual([]);
    await expectNoLeak(started);
  });

  test('by us within a frame of the server puts no frame into it', async () => {
    const started = await chat({
      onUpgrade: (_request, socket) => {
        socket.write(
          `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ICX+Yqv66kxgM0FcWaLWlFLwTAI=\r\n\r\n`,
        );
        socket.write(Buffer.from([0x82, 100, 1, 2, 3]));
        socket.resume();
      },
    });
    const client = await started.raw('/mute');
    await expect.poll(() => client.bytes.at(-1), WAIT).toBe(3);
    client.write(frame(TEXT, 'denied'));
    await expect.poll(() => client.ended, WAIT).toBeDefined();
    expect(client.bytes.at(-1)).toBe(3);
    await expectNoLeak(started);
  });
});

describe('GraphQL over a WebSocket', () => {
  const message = (value: unknown): Buffer => frame(TEXT, JSON.stringify(value));
  const graphql = async () => {
    const started = await chat({ yaml: graphqlPolicy });
    return { started, client: await started.raw() };
  };

  test('passes what executes nothing, and the operations that are allowed', async () => {
    const { started, client } = await graphql();
    const sent = [
      { type: 'connection_init', payload: { token: 'x' } },
      { type: 'ping' },
      { type: 'subscribe', id: '1', payload: { query: 'query { a: hello }' } },
      { type: 'start', id: '2', payload: { query: 'subscription S { ...F } fragment F on S { news }' } },
      { type: 'complete', id: '1' },
    ];
    for (const one of sent) client.write(message(one));
    await expect.poll(() => started.messages(), WAIT).toEqual(sent.map((one) => JSON.stringify(one)));
  });

  test.each([
    ['a field that is not allowed', { type: 'subscribe', id: '1', payload: { query: '{ secret }' } }],
    ['a mutation', { type: 'subscribe', id: '1', payload: { query: 'mutation { hello }' } }],
    ['a type that is not known', { type: 'execute', payload: { query: '{ hello }' } }],
    ['a type in many bytes', { type: '\u{1f600}'.repeat(40), payload: {} }],
    ['no type', { payload: { query: '{ hello }' } }],
    ['a type in another case', { type: 'ping', Type: 'subscribe', payload: { query: '{ secret }' } }],
    ['a batch', [{ type: 'ping' }]],
    ['a saved query', { type: 'subscribe', id: '1', payload: { id: 'saved' } }],
  ])('is closed with 1008 at %s', async (_name, value) => {
    const { started, client } = await graphql();
    client.write(message(value));
    await expect.poll(() => client.closed?.code, WAIT).toBe(1008);
    expect(started.messages()).toEqual([]);
    await expectNoLeak(started);
  });

  test.each([
    ['text that is no JSON', frame(TEXT, 'hello')],
    [
      'a member that comes twice',
      frame(TEXT, '{"type":"ping","type":"subscribe","payload":{"query":"{secret}"}}'),
    ],
    ['a binary message', frame(BINARY, '{"type":"ping"}')],
  ])('is closed with 1008 at %s', async (_name, bytes) => {
    const { started, client } = await graphql();
    client.write(bytes);
    await expect.poll(() => client.closed?.code, WAIT).toBe(1008);
    expect(started.messages()).toEqual([]);
  });
});
