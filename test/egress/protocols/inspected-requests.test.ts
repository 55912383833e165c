import type { IncomingHttpHeaders } from 'node:http';
import { gzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { undoAfterEach } from '../../undo-after-each.ts';
import {
  bodyOf,
  collect,
  makeAuthorities,
  openHttp2,
  startHttp,
  startHttps,
  startInspectingProxy,
  tunnel,
} from '../inspection-fixture.ts';

const authorities = await makeAuthorities();
const undo = undoAfterEach();

interface Received {
  readonly line: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

const yaml = (
  port: number,
  protocol: string,
  rules: readonly string[],
  more = '',
  enforcement = 'enforce',
) => `version: 1
network_policies:
  api:
    endpoints:
      - host: api.test
        port: ${port}
        protocol: ${protocol}
        enforcement: ${enforcement}
        ${more}
        rules:
${rules.map((rule) => `          - allow: ${rule}`).join('\n')}
    binaries: [{ path: "/**" }]
`;

/** A server that keeps what it receives, behind a proxy with one endpoint. */
async function behind(protocol: string, rules: readonly string[], more = '', enforcement = 'enforce') {
  const received: Received[] = [];
  const upstream = await startHttp((request, response) => {
    let body = '';
    request.on('data', (chunk) => (body += chunk));
    request.on('end', () => {
      received.push({ line: `${request.method} ${request.url}`, headers: request.headers, body });
      response.end('answered');
    });
  });
  const proxy = await startInspectingProxy(
    authorities,
    yaml(upstream.port, protocol, rules, more, enforcement),
  );
  undo.push(
    () => upstream.stop(),
    () => proxy.proxy.stop(),
  );
  const place = `api.test:${upstream.port}`;
  const send = async (line: string, fields: string, body: string | Buffer = '') => {
    const head = `${line} HTTP/1.1\r\nHost: ${place}\r\nConnection: close\r\n${fields}\r\n`;
    const { text } = await collect(
      await tunnel(proxy.port, place),
      Buffer.concat([Buffer.from(head), Buffer.from(body)]),
    );
    return text;
  };
  return {
    ...proxy,
    received,
    place,
    send,
    post: (body: string | Buffer, fields = 'Content-Type: application/json\r\n', target = '/') =>
      send(`POST ${target}`, `${fields}Content-Length: ${Buffer.byteLength(body)}\r\n`, body),
  };
}

const GRAPHQL = ['{ operation_type: query, fields: [hello, world] }'];
const graphql = (query: string, more: object = {}): string => JSON.stringify({ query, ...more });

describe('GraphQL over HTTP', () => {
  test('passes what is allowed, word for word', async () => {
    const { post, received, requests } = await behind('graphql', GRAPHQL);
    const body = ` ${graphql('{ hello ...F } fragment F on Q { world }', { variables: { ü: 1 } })}`;
    expect(await post(body)).toContain('answered');
    expect(received).toMatchObject([
      { line: 'POST /', body, headers: { 'content-length': `${Buffer.byteLength(body)}` } },
    ]);
    expect(requests()).toMatchObject([{ outcome: 'allowed', method: 'POST', path: '/', policy: 'api' }]);
  });

  test('is denied with the body of the contract', async () => {
    const { post, received, place, requests } = await behind('graphql', GRAPHQL);
    const text = await post(graphql('{ hello secret }'));
    expect(text).toMatch(/^HTTP\/1\.1 403 Forbidden\r\n[\s\S]*\r\nX-OpenShell-Policy: api\r\n/);
    expect(text).toMatch(/\r\nConnection: close\r\n/);
    const port = Number(place.split(':')[1]);
    expect(bodyOf(text)).toEqual({
      error: 'policy_denied',
      policy: 'api',
      rule: 'POST /',
      detail: expect.stringContaining('secret'),
      layer: 'l7',
      protocol: 'rest',
      method: 'POST',
      path: '/',
      host: 'api.test',
      port,
      binary: process.execPath,
      rule_missing: {
        type: 'rest_allow',
        layer: 'l7',
        method: 'POST',
        path: '/',
        host: 'api.test',
        port,
        binary: process.execPath,
      },
      next_steps: [],
    });
    expect(received).toEqual([]);
    expect(requests()).toMatchObject([{ outcome: 'denied' }]);
  });

  test('passes by GET, in batches, and in chunks, which the server gets with a length', async () => {
    const { send, post, received } = await behind('graphql', GRAPHQL);
    expect(await send('GET /?query=%7Bhello%7D', '')).toContain('answered');
    expect(await post(`[${graphql('{ hello }')},${graphql('{ world }')}]`)).toContain('answered');
    const body = graphql('{ hello }');
    const half = body.length >> 1;
    const chunks = [body.slice(0, half), body.slice(half)].map(
      (part) => `${part.length.toString(16)}\r\n${part}\r\n`,
    );
    expect(await send('POST /', 'Transfer-Encoding: chunked\r\n', `${chunks.join('')}0\r\n\r\n`)).toContain(
      'answered',
    );
    expect(received[2]).toMatchObject({ body, headers: { 'content-length': `${body.length}` } });
    expect(received[2]?.headers).not.toHaveProperty('transfer-encoding');
  });

  test('waits for no permission to read a body, and gives it', async () => {
    const { post, received } = await behind('graphql', GRAPHQL);
    const text = await post(graphql('{ hello }'), 'Expect: 100-continue\r\n');
    expect(text).toMatch(/^HTTP\/1\.1 100 Continue\r\n\r\nHTTP\/1\.1 200/);
    expect(received[0]?.headers).not.toHaveProperty('expect');
  });

  const JSON_TYPE = 'Content-Type: application/json\r\n';
  test.each<readonly [string, string | Buffer, string?, string?]>([
    ['a batch of which one is not allowed', `[${graphql('{ hello }')},${graphql('{ secret }')}]`],
    ['a mutation', graphql('mutation { hello }')],
    ['introspection', graphql('{ __schema { types { name } } }')],
    ['a saved query that is not registered', '{"id":"saved"}'],
    ['a text with the id of a saved one', graphql('{ hello }', { id: 'saved', extensions: {} })],
    ['what is no JSON', '{'],
    ['what is no UTF-8', Buffer.from([0x7b, 0xff, 0x7d])],
    ['a byte order mark', `\ufeff${graphql('{ hello }')}`],
    ['an encoded body', gzipSync(graphql('{ hello }')), `${JSON_TYPE}Content-Encoding: gzip\r\n`],
    [
      'an encoding of nothing and one of gzip',
      gzipSync(graphql('{ hello }')),
      `${JSON_TYPE}Content-Encoding: identity\r\nContent-Encoding: gzip\r\n`,
    ],
    ['multipart', graphql('{ hello }'), 'Content-Type: multipart/form-data; boundary=x\r\n'],
    ['a form', 'query=%7Bhello%7D', 'Content-Type: application/x-www-form-urlencoded\r\n'],
    ['two types', graphql('{ hello }'), `${JSON_TYPE}Content-Type: multipart/form-data; boundary=x\r\n`],
    ['another charset', graphql('{ hello }'), 'Content-Type: application/json; charset=utf-7\r\n'],
    ['a query in the target as well', graphql('{ hello }'), JSON_TYPE, '/?query=%7Bsecret%7D'],
    ['a query in the target in another case', graphql('{ hello }'), JSON_TYPE, '/?Query=%7Bsecret%7D'],
  ])('does not pass %s', async (_name, body, fields, target) => {
    const { post, received } = await behind('graphql', GRAPHQL);
    expect(await post(body ?? '', fields?.toString(), target?.toString())).toMatch(/^HTTP\/1\.1 403/);
    expect(received).toEqual([]);
  });

  test.each([
    ['GET /?query=%7Bsecret%7D', ''],
    ['GET /?query=%7Bhello%7D&query=%7Bsecret%7D', ''],
    ['GET /', ''],
    ['PUT /', ''],
    ['DELETE /', ''],
  ])('does not pass %s', async (line, fields) => {
    const { send, received } = await behind('graphql', GRAPHQL);
    expect(await send(line, fields)).toMatch(/^HTTP\/1\.1 403/);
    expect(received).toEqual([]);
  });

  test('passes saved queries that are registered and allowed', async () => {
    const { post, received } = await behind(
      'graphql',
      GRAPHQL,
      'persisted_queries: allow_registered\n        graphql_persisted_queries: { h1: { operation_type: query, fields: [hello] }, h2: { operation_type: query, fields: [secret] } }',
    );
    expect(await post('{"id":"h1"}')).toContain('answered');
    expect(await post('{"extensions":{"persistedQuery":{"version":1,"sha256Hash":"h1"}}}')).toContain(
      'answered',
    );
    expect(await post('{"id":"h2"}')).toMatch(/^HTTP\/1\.1 403/);
    expect(await post('{"id":"h3"}')).toMatch(/^HTTP\/1\.1 403/);
    expect(received).toHaveLength(2);
  });

  test('is logged and passed in audit mode, but not what cannot be read', async () => {
    const { post, received, requests } = await behind('graphql', GRAPHQL, '', 'audit');
    expect(await post(graphql('mutation { drop }'))).toContain('answered');
    expect(await post('{')).toMatch(/^HTTP\/1\.1 403/);
    expect(received).toHaveLength(1);
    expect(requests()).toMatchObject([{ outcome: 'audited' }, { outcome: 'denied' }]);
  });

  test('has a body of at most what the endpoint says', async () => {
    const { post, send, received } = await behind('graphql', GRAPHQL, 'graphql_max_body_bytes: 200');
    const filled = (bytes: number): string => {
      const body = graphql('{ hello }', { variables: { x: '' } });
      return body.replace('"x":""', `"x":"${'a'.repeat(bytes - body.length)}"`);
    };
    expect(await post(filled(200))).toContain('answered');
    expect(await post(filled(201))).toMatch(/^HTTP\/1\.1 413 [\s\S]*request_body_too_large/);
    const chunked = await send(
      'POST /',
      'Transfer-Encoding: chunked\r\n',
      `${(201).toString(16)}\r\n${filled(201)}\r\n0\r\n\r\n`,
    );
    expect(chunked).toMatch(/^HTTP\/1\.1 413/);
    expect(received).toHaveLength(1);
  });

  test('whose body does not come to its end reaches nobody', async () => {
    const { place, port, received } = await behind('graphql', GRAPHQL);
    const socket = await tunnel(port, place);
    const body = graphql('{ hello }');
    socket.write(`POST / HTTP/1.1\r\nHost: ${place}\r\nContent-Length: ${body.length + 1}\r\n\r\n${body}`);
    socket.end();
    const { text } = await collect(socket, '');
    expect([text, received]).toEqual(['', []]);
  });
});

const rpc = (method: string, more: object = {}): string =>
  JSON.stringify({ jsonrpc: '2.0', id: 1, method, ...more });

describe('JSON-RPC over HTTP', () => {
  const RULES = ['{ method: eth_call }', '{ method: eth_chainId }'];

  test('passes calls and batches that are allowed', async () => {
    const { post, received } = await behind('json-rpc', RULES);
    for (const body of [
      rpc('eth_call', { params: [{ secret: 1 }] }),
      `[${rpc('eth_call')},${rpc('eth_chainId')}]`,
    ]) {
      expect(await post(body)).toContain('answered');
      expect(received.at(-1)?.body).toBe(body);
    }
  });

  test.each<readonly [string, string | Buffer, string?]>([
    ['a method that is not allowed', rpc('eth_sendTransaction')],
    ['a batch of which one is not allowed', `[${rpc('eth_call')},${rpc('eth_sendTransaction')}]`],
    ['an empty batch', '[]'],
    ['a response', '{"jsonrpc":"2.0","id":1,"result":1}'],
    ['a call and a response', `[${rpc('eth_call')},{"jsonrpc":"2.0","id":1,"result":1}]`],
    ['another version', '{"jsonrpc":"1.0","id":1,"method":"eth_call"}'],
    ['a method twice', '{"jsonrpc":"2.0","id":1,"method":"eth_call","method":"eth_sendTransaction"}'],
    [
      'a method in another case',
      '{"jsonrpc":"2.0","id":1,"method":"eth_call","Method":"eth_sendTransaction"}',
    ],
    ['nothing', ''],
    ['an encoded body', gzipSync(rpc('eth_call')), 'Content-Encoding: gzip\r\n'],
    ['another charset', rpc('eth_call'), 'Content-Type: application/json; charset="utf-16"\r\n'],
  ])('does not pass %s', async (_name, body, fields) => {
    const { post, received } = await behind('json-rpc', RULES);
    const text = await post(body ?? '', fields?.toString());
    expect(text).toMatch(/^HTTP\/1\.1 403/);
    expect(bodyOf(text)).toMatchObject({ error: 'policy_denied', policy: 'api', rule: 'POST /' });
    expect(received).toEqual([]);
  });

  test('is POST alone', async () => {
    const { send, received } = await behind('json-rpc', RULES);
    for (const method of ['GET', 'PUT', 'DELETE', 'PATCH'])
      expect(await send(`${method} /`, '')).toMatch(/^HTTP\/1\.1 403/);
    expect(received).toEqual([]);
  });

  test('passes in audit mode what is not allowed, but no response and nothing that cannot be read', async () => {
    const { post, received } = await behind('json-rpc', RULES, '', 'audit');
    expect(await post(rpc('other'))).toContain('answered');
    expect(await post('{"jsonrpc":"2.0","id":1,"result":1}')).toMatch(/^HTTP\/1\.1 403/);
    expect(await post('{')).toMatch(/^HTTP\/1\.1 403/);
    expect(received).toHaveLength(1);
  });

  test('has a body of at most what the endpoint says', async () => {
    const { post, received } = await behind('json-rpc', RULES, 'json_rpc: { max_body_bytes: 100 }');
    expect(await post(rpc('eth_call', { params: ['a'.repeat(100)] }))).toMatch(/^HTTP\/1\.1 413/);
    expect(received).toEqual([]);
  });
});

describe('MCP over HTTP', () => {
  const RULES = [
    '{ method: initialize }',
    '{ method: "tools/list" }',
    '{ method: "tools/call", params: { name: read_* } }',
  ];
  const tool = (name: unknown): string => rpc('tools/call', { params: { name, arguments: {} } });

  test('passes methods and tools that are allowed, responses, and the stream of events', async () => {
    const { post, send, received } = await behind('mcp', RULES);
    for (const body of [
      rpc('initialize'),
      tool('read_file'),
      '{"jsonrpc":"2.0","id":1,"result":{}}',
      `[${rpc('tools/list')},${tool('read_dir')}]`,
    ])
      expect(await post(body)).toContain('answered');
    expect(await send('GET /', 'Accept: text/event-stream\r\n')).toContain('answered');
    expect(received).toHaveLength(5);
  });

  test.each([
    ['a tool that is not allowed', tool('write_file')],
    ['a tool with a name out of shape', tool('read_a/b')],
    ['a tool without a name', tool(undefined)],
    ['a tool whose name is a number', tool(1)],
    [
      'a tool named twice',
      '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"read_file","name":"write_file"}}',
    ],
    [
      'a tool named in another case as well',
      '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"read_file","Name":"write_file"}}',
    ],
    [
      'a response that some read as a call',
      '{"jsonrpc":"2.0","id":1,"result":{},"Method":"tools/call","Params":{"name":"write_file"}}',
    ],
    ['a batch with one tool that is not allowed', `[${tool('read_file')},${tool('write_file')}]`],
    ['another method', rpc('resources/read')],
  ])('does not pass %s', async (_name, body) => {
    const { post, received } = await behind('mcp', RULES);
    expect(await post(body)).toMatch(/^HTTP\/1\.1 403/);
    expect(received).toEqual([]);
  });

  test('passes no GET but that for a stream of events without a body', async () => {
    const { send, received } = await behind('mcp', RULES);
    expect(await send('GET /', '')).toMatch(/^HTTP\/1\.1 403/);
    expect(await send('GET /', 'Accept: text/event-stream\r\nContent-Length: 2\r\n', '{}')).toMatch(
      /^HTTP\/1\.1 403/,
    );
    expect(received).toEqual([]);
  });
});

test('inspected bodies come through TLS and HTTP/2 as well', async () => {
  const received: string[] = [];
  const upstream = await startHttps(authorities, (request, response) => {
    let body = '';
    request.on('data', (chunk) => (body += chunk));
    request.on('end', () => {
      received.push(body);
      response.end('answered');
    });
  });
  const proxy = await startInspectingProxy(authorities, yaml(upstream.port, 'graphql', GRAPHQL));
  undo.push(
    () => upstream.stop(),
    () => proxy.proxy.stop(),
  );
  const session = await openHttp2(proxy.port, 'api.test', upstream.port, authorities);
  undo.push(() => session.destroy());
  const post = (body: string) =>
    new Promise<number>((resolve) => {
      const stream = session.request({
        ':method': 'POST',
        ':path': '/',
        ':authority': `api.test:${upstream.port}`,
      });
      stream.on('response', ({ ':status': status }) => resolve(Number(status)));
      stream.on('error', () => resolve(0));
      stream.end(body);
    });
  const body = graphql('{ hello }');
  expect(await Promise.all([post(body), post(graphql('{ secret }')), post('{')])).toEqual([200, 403, 403]);
  expect(received).toEqual([body]);
});
