import { describe, expect, test } from 'vitest';
import {
  type Decision,
  ExistingHeaderAction,
  type HeaderMutation,
} from '../../../proto/generated/openshell/middleware/v1/middleware.ts';
import { WorkAdmission } from '../../../supervisor/egress/middleware/admission.ts';
import { undoAfterEach } from '../../undo-after-each.ts';
import { makeAuthorities, openHttp2, secure, startHttps } from '../inspection-fixture.ts';
import { startGuarded } from './proxy-fixture.ts';
import {
  ALLOW,
  DENY,
  HTTP_ONLY,
  registration,
  type ServiceOptions,
  startService,
} from './service-fixture.ts';

const authorities = await makeAuthorities();
const undo = undoAfterEach();

const WAIT = { timeout: 10_000 };
async function service(options: ServiceOptions = {}) {
  const started = await startService(options);
  undo.push(() => started.stop());
  return started;
}
async function guarded(options: Parameters<typeof startGuarded>[1]) {
  const started = await startGuarded(authorities, options);
  undo.push(() => started.stop());
  return started;
}
/** One service behind one middleware of the policy. */
async function one(
  options: ServiceOptions,
  onError = 'fail_closed',
  more: Partial<Parameters<typeof startGuarded>[1]> = {},
) {
  const scan = await service(options);
  const proxy = await guarded({
    middlewares: [`scan: { middleware: scanner, on_error: ${onError} }`],
    services: [registration('scanner', scan.port, { timeout: '300ms' })],
    ...more,
  });
  return { scan, proxy };
}
const write = (
  name: string,
  value: string,
  onExisting: ExistingHeaderAction = ExistingHeaderAction.EXISTING_HEADER_ACTION_APPEND,
): HeaderMutation => ({
  operation: { $case: 'write', value: { name, value, onExisting } },
});
const remove = (name: string): HeaderMutation => ({ operation: { $case: 'remove', value: { name } } });
const replace = (body: string) => ({ ...ALLOW, hasBody: true, body: Buffer.from(body) });

describe('a request in front of a middleware', () => {
  test('is shown without its credentials, and with who asks', async () => {
    const { scan, proxy } = await one({});
    const answer = await proxy.ask('/v1/x?q=1', {
      method: 'POST',
      body: 'hello',
      headers: {
        Authorization: 'Bearer s',
        Cookie: 'a=b',
        'X-Amz-Date': '1',
        'X-Two': ['1', '2'],
        'X-Odd': 'caf\xe9',
      },
    });
    expect([answer.status, proxy.seen[0]?.body]).toEqual([200, 'hello']);
    expect(proxy.seen[0]?.headers).toMatchObject({
      authorization: 'Bearer s',
      cookie: 'a=b',
      'x-two': '1, 2',
    });
    const [request] = scan.requests;
    expect(request).toMatchObject({
      phase: 1,
      context: {
        sandboxId: 'sb-1',
        sandboxName: 'box',
        workspace: 'dev',
        originatingProcess: { binary: process.execPath, pid: process.pid },
      },
      target: { scheme: 'http', host: 'api.test', method: 'POST', path: '/v1/x', query: 'q=1' },
      middlewareName: 'scanner',
    });
    expect(request?.context?.requestId).toMatch(/^[0-9a-f-]{36}$/);
    expect(request?.body.toString()).toBe('hello');
    expect(request?.headers).toEqual([
      { name: 'x-two', value: '1' },
      { name: 'x-two', value: '2' },
      { name: 'x-odd', value: 'café' },
    ]);
    expect(proxy.evaluations()).toMatchObject([
      { middleware: 'scan', service: 'scanner', outcome: 'allowed' },
    ]);
  });

  test('that has no body stays without one', async () => {
    const { scan, proxy } = await one({});
    expect((await proxy.ask('/v1/x')).status).toBe(200);
    expect(scan.requests[0]?.body.length).toBe(0);
    expect(proxy.seen[0]?.headers).not.toHaveProperty('content-length');
    expect(proxy.seen[0]?.headers).not.toHaveProperty('transfer-encoding');
  });

  test('has its body and head changed, and both are what the next one sees', async () => {
    const first = await service({
      evaluate: ({ body }) => ({
        ...replace(`${body} one`),
        headerMutations: [write('X-OpenShell-Middleware-Tag', 'seen'), remove('X-Gone')],
      }),
    });
    const second = await service({ evaluate: ({ body }) => replace(`${body} two`) });
    const proxy = await guarded({
      middlewares: ['b: { middleware: first }', 'a: { middleware: second }'],
      services: [registration('second', second.port), registration('first', first.port)],
    });
    const sent = { method: 'POST', body: 'zero', chunked: true, headers: { 'X-Gone': '1', Accept: '*/*' } };
    expect((await proxy.ask('/v1/x', sent)).status).toBe(200);
    expect(second.requests[0]?.headers).toEqual([
      { name: 'accept', value: '*/*' },
      { name: 'x-openshell-middleware-tag', value: 'seen' },
    ]);
    expect(proxy.seen[0]).toMatchObject({
      body: 'zero one two',
      headers: { 'content-length': '12', 'x-openshell-middleware-tag': 'seen', accept: '*/*' },
    });
    expect(proxy.seen[0]?.headers).not.toHaveProperty('x-gone');
    expect(proxy.evaluations().map(({ middleware, outcome }) => [middleware, outcome])).toEqual([
      ['b', 'changed'],
      ['a', 'changed'],
    ]);
  });

  test('may be left with an empty body', async () => {
    const { proxy } = await one({ evaluate: () => ({ ...ALLOW, hasBody: true }) });
    await proxy.ask('/v1/x', { method: 'POST', body: 'hello' });
    expect(proxy.seen[0]).toMatchObject({ body: '', headers: { 'content-length': '0' } });
  });

  test.each(['fail_closed', 'fail_open'])(
    'is denied for good, whatever on_error says (%s)',
    async (onError) => {
      const after = await service();
      const first = await service({
        evaluate: () => ({ ...DENY, reason: 'a SECRET of the request', reasonCode: 'content_match' }),
      });
      const proxy = await guarded({
        middlewares: [`scan: { middleware: first, on_error: ${onError} }`, 'next: { middleware: after }'],
        services: [registration('first', first.port), registration('after', after.port)],
      });
      const { status, json, text } = await proxy.ask('/v1/x', { method: 'POST', body: 'hello' });
      expect(status).toBe(403);
      expect(json).toMatchObject({
        error: 'middleware_denied',
        policy: 'api',
        middleware: 'scan',
        reason_code: 'content_match',
        layer: 'l7',
        method: 'POST',
        path: '/v1/x',
        host: 'api.test',
        binary: process.execPath,
      });
      expect(text + JSON.stringify(proxy.events)).not.toContain('SECRET');
      expect([proxy.seen, after.requests]).toEqual([[], []]);
      expect(proxy.requests().at(-1)).toMatchObject({ outcome: 'denied' });
    },
  );

  test('is asked about over TLS and HTTP/2 too', async () => {
    const scan = await service({
      evaluate: () => ({ ...ALLOW, headerMutations: [write('x-openshell-middleware-a', 'b')] }),
    });
    const upstream = await startHttps(authorities, (request, response) =>
      response.end(String(request.headers['x-openshell-middleware-a'])),
    );
    undo.push(() => upstream.stop());
    const proxy = await guarded({
      middlewares: ['scan: { middleware: scanner }'],
      services: [registration('scanner', scan.port)],
      endpoint: `protocol: rest, access: full, enforcement: enforce }\n      - { host: web.test, port: ${upstream.port}`,
    });
    const socket = await secure(proxy.port, 'web.test', upstream.port, authorities);
    socket.write(`GET /x HTTP/1.1\r\nHost: web.test:${upstream.port}\r\nConnection: close\r\n\r\n`);
    const chunks: Buffer[] = [];
    for await (const chunk of socket) chunks.push(chunk as Buffer);
    expect(Buffer.concat(chunks).toString()).toMatch(/^HTTP\/1\.1 200[\s\S]*\r\n\r\n(1\r\n)?b/);
    expect(scan.requests[0]?.target).toMatchObject({ scheme: 'https', host: 'web.test' });
  });
});

describe('a middleware that fails', () => {
  const failures: readonly (readonly [string, ServiceOptions, string])[] = [
    ['answers with an error', { evaluate: () => new Error('SECRET') }, 'middleware_unreachable'],
    ['never answers', { evaluate: () => undefined }, 'middleware_timeout'],
    ['does not decide', { evaluate: () => ({}) }, 'invalid_response_decision'],
    [
      'decides what nobody knows',
      { evaluate: () => ({ decision: 7 as Decision }) },
      'invalid_response_decision',
    ],
    [
      'gives a code that is none',
      { evaluate: () => ({ ...DENY, reasonCode: 'Not A Code' }) },
      'response_reason_code_invalid',
    ],
    [
      'gives too long a reason',
      { evaluate: () => ({ ...ALLOW, reason: 'x'.repeat(4097) }) },
      'response_reason_over_capacity',
    ],
    [
      'has too many findings',
      { evaluate: () => ({ ...ALLOW, findings: Array.from({ length: 33 }, () => ({ type: 'a' })) }) },
      'response_finding_count_over_capacity',
    ],
    [
      'has too large a finding',
      { evaluate: () => ({ ...ALLOW, findings: [{ label: 'x'.repeat(4096) }] }) },
      'response_finding_over_capacity',
    ],
    [
      'has too many metadata',
      {
        evaluate: () => ({
          ...ALLOW,
          metadata: Object.fromEntries(Array.from({ length: 65 }, (_, i) => [`k${i}`, ''])),
        }),
      },
      'response_metadata_over_capacity',
    ],
    [
      'has too large metadata',
      { evaluate: () => ({ ...ALLOW, metadata: { k: 'x'.repeat(32 << 10) } }) },
      'response_metadata_over_capacity',
    ],
    [
      'gives too large a body',
      { evaluate: () => ({ ...ALLOW, hasBody: true, body: Buffer.alloc((1 << 20) + 1) }) },
      'response_body_over_capacity',
    ],
    [
      'answers more than any message may be',
      { evaluate: () => ({ ...ALLOW, hasBody: true, body: Buffer.alloc(5 << 20) }) },
      'middleware_unreachable',
    ],
    [
      'writes a protected field',
      { evaluate: () => ({ ...ALLOW, headerMutations: [write('Authorization', 'x')] }) },
      'header_mutation_protected_header',
    ],
    [
      'removes a protected field',
      { evaluate: () => ({ ...ALLOW, headerMutations: [remove('cookie')] }) },
      'header_mutation_protected_header',
    ],
    [
      'removes a field that signs',
      { evaluate: () => ({ ...ALLOW, headerMutations: [remove('x-AMZ-date')] }) },
      'header_mutation_protected_header',
    ],
    [
      'writes outside its names',
      { evaluate: () => ({ ...ALLOW, headerMutations: [write('x-other', 'x')] }) },
      'header_mutation_write_namespace',
    ],
    [
      'writes a line break',
      {
        evaluate: () => ({
          ...ALLOW,
          headerMutations: [write('x-openshell-middleware-a', 'b\r\nHost: evil')],
        }),
      },
      'header_mutation_unsafe_value',
    ],
    [
      'writes a name with a line break',
      { evaluate: () => ({ ...ALLOW, headerMutations: [write('x-openshell-middleware-a\r\nHost', 'b')] }) },
      'header_mutation_invalid_name',
    ],
    [
      'does not say what to do with what exists',
      {
        evaluate: () => ({
          ...ALLOW,
          headerMutations: [
            write('x-openshell-middleware-a', 'b', ExistingHeaderAction.EXISTING_HEADER_ACTION_UNSPECIFIED),
          ],
        }),
      },
      'header_mutation_missing_existing_action',
    ],
    [
      'says an empty change',
      { evaluate: () => ({ ...ALLOW, headerMutations: [{ operation: undefined }] }) },
      'header_mutation_empty',
    ],
    [
      'says too many changes',
      { evaluate: () => ({ ...ALLOW, headerMutations: Array.from({ length: 65 }, () => remove('a')) }) },
      'header_mutation_count_over_capacity',
    ],
    [
      'says too large changes',
      {
        evaluate: () => ({
          ...ALLOW,
          headerMutations: [write('x-openshell-middleware-a', 'x'.repeat(32 << 10))],
        }),
      },
      'header_mutation_bytes_over_capacity',
    ],
    ['refuses its configuration', { validate: () => 'SECRET' }, 'middleware_config_rejected'],
  ];
  test.each(failures)('because it %s', async (_what, options, code) => {
    const closed = await one(options);
    const refused = await closed.proxy.ask('/v1/x', { method: 'POST', body: 'hello' });
    expect(refused.status).toBe(403);
    expect(refused.json).toMatchObject({ error: 'middleware_failed', policy: 'api', middleware: 'scan' });
    expect(closed.proxy.seen).toEqual([]);
    expect(closed.proxy.evaluations()).toMatchObject([{ outcome: 'failed', code }]);
    const open = await one(options, 'fail_open');
    const passed = await open.proxy.ask('/v1/x', {
      method: 'POST',
      body: 'hello',
      headers: { Cookie: 'a=b' },
    });
    expect([passed.status, open.proxy.seen[0]?.body]).toEqual([200, 'hello']);
    expect(open.proxy.seen[0]?.headers).toMatchObject({ cookie: 'a=b' });
    expect(open.proxy.evaluations()).toMatchObject([{ outcome: 'passed-over', code }]);
    expect(refused.text + JSON.stringify([closed.proxy.events, open.proxy.events])).not.toContain('SECRET');
  });

  test('leaves nothing of an answer behind of which one part is wrong', async () => {
    const evaluate = () => ({
      ...replace('changed'),
      headerMutations: [write('x-openshell-middleware-a', '1'), remove('host')],
    });
    const { proxy } = await one({ evaluate }, 'fail_open');
    await proxy.ask('/v1/x', { method: 'POST', body: 'hello' });
    expect(proxy.seen[0]?.body).toBe('hello');
    expect(proxy.seen[0]?.headers).not.toHaveProperty('x-openshell-middleware-a');
  });

  test('does not stop the ones behind it, when it may be passed over', async () => {
    const bad = await service({ evaluate: () => ({}) });
    const good = await service({ evaluate: ({ body }) => replace(`${body}!`) });
    const proxy = await guarded({
      middlewares: ['a: { middleware: bad, on_error: fail_open }', 'b: { middleware: good }'],
      services: [registration('bad', bad.port), registration('good', good.port)],
    });
    await proxy.ask('/v1/x', { method: 'POST', body: 'hello' });
    expect(proxy.seen[0]?.body).toBe('hello!');
  });

  test.each([
    ['fail_closed', 403],
    ['fail_open', 200],
  ])('because nobody has registered it decides by on_error %s', async (onError, status) => {
    const proxy = await guarded({ middlewares: [`scan: { middleware: nobody, on_error: ${onError} }`] });
    expect((await proxy.ask('/v1/x')).status).toBe(status);
    expect(proxy.evaluations()).toMatchObject([{ code: 'middleware_unavailable' }]);
  });

  test('answers with what a later version would say, and is understood', async () => {
    const { proxy } = await one({ newer: true, evaluate: () => replace('new') });
    await proxy.ask('/v1/x', { method: 'POST', body: 'hello' });
    expect(proxy.seen[0]?.body).toBe('new');
  });
});

describe('a body that is larger than a middleware takes', () => {
  const small = { manifest: { bindings: HTTP_ONLY } };
  test.each([true, false])('passes untouched where it may be passed over, chunked %s', async (chunked) => {
    const scan = await service(small);
    const proxy = await guarded({
      middlewares: ['scan: { middleware: scanner, on_error: fail_open }'],
      services: [registration('scanner', scan.port, { maxPayloadBytes: 1000n })],
    });
    const body = 'x'.repeat(200_000);
    expect((await proxy.ask('/v1/x', { method: 'POST', body, chunked })).status).toBe(200);
    expect(proxy.seen[0]?.body === body).toBe(true);
    expect(scan.requests).toEqual([]);
    expect(proxy.evaluations()).toMatchObject([
      { outcome: 'passed-over', code: 'request_body_over_capacity' },
    ]);
  });

  test('passes untouched over HTTP/2 too', async () => {
    const upstream = await startHttps(authorities, (request, response) => {
      let bytes = 0;
      request.on('data', (chunk: Buffer) => {
        bytes += chunk.length;
      });
      request.on('end', () => response.end(String(bytes)));
    });
    undo.push(() => upstream.stop());
    const scan = await service(small);
    const proxy = await guarded({
      middlewares: ['scan: { middleware: scanner, on_error: fail_open }'],
      services: [registration('scanner', scan.port, { maxPayloadBytes: 1000n })],
      endpoint: `protocol: rest, access: full, enforcement: enforce }\n      - { host: web.test, port: ${upstream.port}, protocol: rest, access: full`,
    });
    const session = await openHttp2(proxy.port, 'web.test', upstream.port, authorities);
    undo.push(() => session.destroy());
    const stream = session.request({ ':method': 'POST', ':path': '/v1' });
    stream.end(Buffer.alloc(200_000, 97));
    const chunks: Buffer[] = [];
    for await (const chunk of stream) chunks.push(chunk as Buffer);
    expect(Buffer.concat(chunks).toString()).toBe('200000');
    expect(proxy.evaluations()).toMatchObject([
      { outcome: 'passed-over', code: 'request_body_over_capacity' },
    ]);
  });

  test('is refused where it may not, and seen by the one that takes more', async () => {
    const scan = await service(small);
    const wide = await service(small);
    const proxy = await guarded({
      middlewares: ['wide: { middleware: wide }', 'scan: { middleware: scanner }'],
      services: [
        registration('scanner', scan.port, { maxPayloadBytes: 4n }),
        registration('wide', wide.port),
      ],
    });
    const { status, json } = await proxy.ask('/v1/x', { method: 'POST', body: 'hello', chunked: true });
    expect([status, json['error'], json['middleware']]).toEqual([403, 'middleware_failed', 'scan']);
    expect([wide.requests.length, scan.requests.length, proxy.seen.length]).toEqual([1, 0, 0]);
  });
});

describe('policy', () => {
  const endpoint =
    'protocol: graphql, enforcement: enforce, rules: [{ allow: { operation_type: query, fields: [hello] } }]';
  const query = (field: string) => JSON.stringify({ query: `{ ${field} }` });
  const headers = { 'Content-Type': 'application/json' };
  test.each(['fail_closed', 'fail_open'])(
    'judges a body again that a middleware has made (%s)',
    async (onError) => {
      const { proxy } = await one({ evaluate: () => replace(query('secret')) }, onError, { endpoint });
      const { status, json } = await proxy.ask('/', { method: 'POST', body: query('hello'), headers });
      expect([status, json['error']]).toEqual([403, 'policy_denied']);
      expect(proxy.seen).toEqual([]);
    },
  );

  test('judges it before the next middleware sees it', async () => {
    const after = await service();
    const first = await service({ evaluate: () => replace(query('secret')) });
    const proxy = await guarded({
      middlewares: ['a: { middleware: first }', 'b: { middleware: after }'],
      services: [registration('first', first.port), registration('after', after.port)],
      endpoint,
    });
    expect((await proxy.ask('/', { method: 'POST', body: query('hello'), headers })).status).toBe(403);
    expect(after.requests).toEqual([]);
  });

  test('lets a body pass that it allows, and refuses one of a kind that it cannot read', async () => {
    let next = replace(query('hello hello'));
    const { proxy } = await one({ evaluate: () => next }, 'fail_closed', { endpoint });
    expect((await proxy.ask('/', { method: 'POST', body: query('hello'), headers })).status).toBe(200);
    next = replace('{');
    expect((await proxy.ask('/', { method: 'POST', body: query('hello'), headers })).status).toBe(403);
    next = replace(JSON.stringify({ query: '{ hello }', pad: 'x'.repeat(70_000) }));
    expect((await proxy.ask('/', { method: 'POST', body: query('hello'), headers })).status).toBe(403);
    expect(proxy.seen).toHaveLength(1);
  });

  test('that is replaced while a middleware thinks ends the request', async () => {
    let answer: (result: object) => void = () => undefined;
    const scan = await service({
      evaluate: () =>
        new Promise((resolve) => {
          answer = resolve;
        }),
    });
    const proxy = await guarded({
      middlewares: ['scan: { middleware: scanner }'],
      services: [registration('scanner', scan.port)],
    });
    const asked = proxy.ask('/v1/x').then(
      ({ status }) => status,
      () => 'broken off',
    );
    await expect.poll(() => scan.requests.length, WAIT).toBe(1);
    proxy.replacePolicy();
    answer(ALLOW);
    expect(await asked).toBe('broken off');
    expect(proxy.seen).toEqual([]);
  });

  test('that denies a request asks no middleware', async () => {
    const { scan, proxy } = await one({}, 'fail_closed', {
      endpoint: 'protocol: rest, enforcement: enforce, access: read-only',
    });
    expect((await proxy.ask('/v1/x', { method: 'POST', body: 'x' })).json['error']).toBe('policy_denied');
    expect(scan.requests).toEqual([]);
  });
});

describe('requests that wait for their middlewares', () => {
  test('are answered 503 when the line is full, and go on when it moves', async () => {
    const answers: ((result: object) => void)[] = [];
    const { scan, proxy } = await one(
      { evaluate: () => new Promise((resolve) => void answers.push(resolve)) },
      'fail_closed',
      { work: new WorkAdmission(1, 1) },
    );
    proxy.registry.replace([registration('scanner', scan.port, { timeout: '30s' })], false);
    await proxy.registry.settled(5_000);
    const first = proxy.ask('/v1/1');
    await expect.poll(() => scan.requests.length, WAIT).toBe(1);
    const others = [proxy.ask('/v1/2'), proxy.ask('/v1/3')];
    const full = await Promise.race(others);
    expect([full.status, full.json['error']]).toEqual([503, 'middleware_failed']);
    answers[0]?.(ALLOW);
    expect((await first).status).toBe(200);
    await expect.poll(() => answers.length, WAIT).toBe(2);
    answers[1]?.(ALLOW);
    expect((await Promise.all(others)).map(({ status }) => status).sort()).toEqual([200, 503]);
  });
});

describe('openshell/regex', () => {
  const key = `sk-${'a1_-'.repeat(5)}`;
  const redact = { middlewares: ['keys: { middleware: openshell/regex, config: { mode: redact } }'] };
  test('takes keys out of bodies, and says how many', async () => {
    const proxy = await guarded(redact);
    await proxy.ask('/v1/x', {
      method: 'POST',
      body: `a ${key} b ${key}, sk-short ü`,
      headers: { 'X-K': key },
    });
    expect(Buffer.from(proxy.seen[0]?.body ?? '', 'latin1').toString()).toBe(
      'a [REDACTED] b [REDACTED], sk-short ü',
    );
    expect(proxy.seen[0]?.headers['x-k']).toBe(key);
    expect(proxy.evaluations()).toMatchObject([
      { outcome: 'changed', findings: [{ count: 2, severity: 'medium' }] },
    ]);
  });

  test('leaves other bodies alone, and fails on what is not UTF-8 or too large', async () => {
    const proxy = await guarded(redact);
    const statuses = [];
    for (const body of [Buffer.from('plain'), Buffer.from([0xff]), Buffer.alloc((256 << 10) + 1, 97)])
      statuses.push((await proxy.ask('/v1/x', { method: 'POST', body })).status);
    expect(statuses).toEqual([200, 403, 403]);
    expect(proxy.seen.map(({ body }) => body)).toEqual(['plain']);
  });

  test('takes no other configuration', async () => {
    const proxy = await guarded({
      middlewares: ['keys: { middleware: openshell/regex, config: { mode: other } }'],
    });
    expect((await proxy.ask('/v1/x')).status).toBe(403);
    expect(proxy.evaluations()).toMatchObject([{ code: 'middleware_config_rejected' }]);
  });
});

test('findings of a service are told in our words', async () => {
  const { proxy } = await one({
    evaluate: () => ({
      ...ALLOW,
      findings: [{ type: 'SECRET', label: 'SECRET', count: 3, severity: 'high' }],
    }),
  });
  await proxy.ask('/v1/x');
  expect(proxy.evaluations()[0]?.findings).toEqual([
    { type: 'scanner.finding', label: 'finding of a middleware', count: 3, severity: 'high' },
  ]);
});
