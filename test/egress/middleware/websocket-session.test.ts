import { describe, expect, test } from 'vitest';
import {
  WebSocketPreflightAction as Action,
  WebSocketMessageResult,
  type WebSocketSessionEvent,
} from '../../../proto/generated/openshell/middleware/v1/middleware.ts';
import { WorkAdmission } from '../../../supervisor/egress/middleware/admission.ts';
import { subjectOf } from '../../../supervisor/egress/middleware/subject.ts';
import { compilePolicy } from '../../../supervisor/policy/compilation.ts';
import { documentOf } from '../../policy/grants.ts';
import { undoAfterEach } from '../../undo-after-each.ts';
import { bodyOf, makeAuthorities } from '../inspection-fixture.ts';
import { chatPolicy, frame, startChat } from '../websocket-fixture.ts';
import { middlewareYaml, startRegistry } from './proxy-fixture.ts';
import {
  ALLOW,
  DENY,
  HTTP_ONLY,
  INSPECT,
  preflightAnswer,
  registration,
  type ServiceOptions,
  type Stream,
  startService,
} from './service-fixture.ts';

const authorities = await makeAuthorities();
const undo = undoAfterEach();
const WAIT = { timeout: 10_000 };
const TEXT = 1;
const BINARY = 2;
const END = {
  normal: 1,
  peer: 2,
  reload: 3,
  denial: 4,
  failure: 5,
  protocol: 6,
  cancelled: 7,
  rejected: 8,
  policy: 9,
  skipped: 10,
};

type Answer = Parameters<typeof WebSocketMessageResult.fromPartial>[0];
/** A session that answers each text as told; undefined is no answer. */
const answering =
  (
    answer: (text: string, sequence: bigint, stream: Stream) => Answer | undefined,
    action: Action = INSPECT,
  ) =>
  ({ event }: WebSocketSessionEvent, stream: Stream): void => {
    if (event?.$case === 'preflight') stream.write(preflightAnswer(action, { reasonCode: 'because' }));
    if (event?.$case !== 'message') return;
    const { sequence, payload } = event.value;
    const value = answer(payload?.value.toString() ?? '', sequence, stream);
    if (value !== undefined)
      stream.write({
        result: { $case: 'messageResult', value: WebSocketMessageResult.fromPartial({ sequence, ...value }) },
      });
  };
const text = (value: string): Answer => ({
  ...ALLOW,
  replacement: { $case: 'text', value: Buffer.from(value) },
});

/** A chat whose messages pass one service. */
async function guardedChat(
  options: ServiceOptions,
  more: {
    readonly onError?: string;
    readonly yaml?: (port: number) => string;
    readonly timeout?: string;
    readonly work?: WorkAdmission;
    readonly chat?: Parameters<typeof startChat>[1];
    readonly second?: ServiceOptions;
  } = {},
) {
  const scan = await startService(options);
  undo.push(() => scan.stop());
  const second = more.second === undefined ? undefined : await startService(more.second);
  if (second !== undefined) undo.push(() => second.stop());
  const timeout = more.timeout ?? '300ms';
  const registered = await startRegistry(
    [
      registration('scanner', scan.port, { timeout }),
      ...(second === undefined ? [] : [registration('second', second.port, { timeout })]),
    ],
    more.work,
  );
  undo.push(() => registered.registry.stop());
  const lines = [`scan: { middleware: scanner, on_error: ${more.onError ?? 'fail_closed'} }`];
  if (second !== undefined) lines.push('next: { middleware: second }');
  const chat = await startChat(authorities, {
    ...more.chat,
    yaml: (port) => (more.yaml ?? chatPolicy)(port) + middlewareYaml(lines),
    proxy: { middlewares: registered.middlewares },
  });
  undo.push(() => chat.stop());
  const evaluations = () =>
    chat.events.flatMap((event) => (event.kind === 'middleware' ? [event.evaluation] : []));
  const of = (operation: string) => evaluations().filter((one) => one.operation === operation);
  return { scan, second, chat, of, ...registered };
}
async function open({ chat }: Awaited<ReturnType<typeof guardedChat>>, more = '') {
  const client = await chat.raw('/chat', more);
  await expect.poll(() => client.status, WAIT).toBe(101);
  return client;
}

describe('a WebSocket in front of a middleware', () => {
  test('is announced, begun, shown text by text, and ended', async () => {
    const guarded = await guardedChat({ session: answering((said) => text(`${said}!`)) });
    const client = await open(guarded, 'Sec-WebSocket-Protocol: one, two\r\nCookie: a=b\r\n');
    client.write(frame(TEXT, 'hello'));
    client.write(frame(BINARY, 'raw'));
    client.write(frame(TEXT, 'again'));
    await expect.poll(() => guarded.chat.messages(), WAIT).toEqual(['hello!', 'raw', 'again!']);
    client.write(frame(8, Buffer.from([3, 232])));
    await expect.poll(() => guarded.scan.ends(), WAIT).toEqual([END.normal]);
    const [preflight, start, first, second] = guarded.scan.events.map(({ event }) => event);
    expect(preflight?.value).toMatchObject({
      phase: 1,
      context: { sandboxId: 'sb-1' },
      target: { scheme: 'ws', host: 'chat.test', method: 'GET', path: '/chat', query: '' },
      requestedSubprotocols: ['one', 'two'],
      middlewareName: 'scanner',
    });
    expect(start).toEqual({ $case: 'sessionStart', value: { selectedSubprotocol: 'one' } });
    expect([first?.value, second?.value]).toMatchObject([{ sequence: 1n }, { sequence: 3n }]);
    // The handshake itself is a request, which the same service saw.
    expect(guarded.scan.requests).toHaveLength(1);
    expect(guarded.of('message').map(({ outcome, code }) => code ?? outcome)).toEqual([
      'changed',
      'unsupported_message_type',
      'changed',
    ]);
  });

  test('keeps its messages in order while each of them is thought about', async () => {
    const guarded = await guardedChat({ session: answering(() => ALLOW) });
    const client = await open(guarded);
    const said = Array.from({ length: 40 }, (_, index) => `m${index}`);
    client.write(Buffer.concat([...said.map((one) => frame(TEXT, one)), frame(8, Buffer.from([3, 232]))]));
    await expect.poll(() => guarded.chat.messages(), WAIT).toEqual(said);
    await expect.poll(() => guarded.chat.seen.at(-1)?.kind, WAIT).toBe('close');
  });

  test('is closed when a message is denied, and the other middlewares are told', async () => {
    const guarded = await guardedChat(
      {
        session: answering((said) =>
          said === 'bad' ? { ...DENY, reason: 'SECRET', reasonCode: 'pii' } : ALLOW,
        ),
      },
      { onError: 'fail_open', second: {} },
    );
    const client = await open(guarded);
    client.write(frame(TEXT, 'bad'));
    await expect.poll(() => client.closed?.code, WAIT).toBe(1008);
    expect(client.closed?.reason).toBe('the middleware scan does not allow this message');
    await expect.poll(() => guarded.scan.ends(), WAIT).toEqual([END.denial]);
    await expect.poll(() => guarded.second?.ends(), WAIT).toEqual([END.denial]);
    expect(guarded.chat.messages()).toEqual([]);
    expect(guarded.of('message')).toMatchObject([{ outcome: 'denied', code: 'pii' }]);
    expect(JSON.stringify(guarded.chat.events)).not.toContain('SECRET');
  });

  test('is denied before the server hears of it', async () => {
    const guarded = await guardedChat(
      { session: answering(() => ALLOW, Action.WEB_SOCKET_PREFLIGHT_ACTION_DENY) },
      { onError: 'fail_open' },
    );
    const client = await guarded.chat.raw();
    await expect.poll(() => client.ended, WAIT).toBe('end');
    expect(bodyOf(client.bytes.toString())).toMatchObject({
      error: 'middleware_denied',
      middleware: 'scan',
      reason_code: 'because',
    });
    expect(guarded.chat.heads).toEqual([]);
    await expect.poll(() => guarded.scan.ends(), WAIT).toEqual([END.denial]);
  });

  test('may be skipped: then its messages pass unseen', async () => {
    const guarded = await guardedChat({
      session: answering(() => DENY, Action.WEB_SOCKET_PREFLIGHT_ACTION_SKIP),
    });
    const client = await open(guarded);
    client.write(frame(TEXT, 'hello'));
    await expect.poll(() => guarded.chat.messages(), WAIT).toEqual(['hello']);
    await expect.poll(() => guarded.scan.ends(), WAIT).toEqual([END.skipped]);
    expect(guarded.of('preflight')).toMatchObject([{ outcome: 'skipped' }]);
  });

  test('is not shown to a service that looks at requests alone', async () => {
    const guarded = await guardedChat({ manifest: { bindings: [...HTTP_ONLY] } });
    const client = await open(guarded);
    client.write(frame(TEXT, 'hello'));
    await expect.poll(() => guarded.chat.messages(), WAIT).toEqual(['hello']);
    expect(guarded.scan.requests).toHaveLength(1);
    expect(guarded.of('preflight')).toMatchObject([{ outcome: 'not-covered', code: 'binding_not_selected' }]);
  });

  test('is taken apart on an endpoint of another protocol too', async () => {
    const yaml = (port: number) => `version: 1
network_policies:
  chat:
    endpoints: [{ host: chat.test, port: ${port} }]
    binaries: [{ path: "/**" }]
`;
    const guarded = await guardedChat({ session: answering((said) => text(said.toUpperCase())) }, { yaml });
    const client = await open(guarded, 'Sec-WebSocket-Extensions: permessage-deflate, other\r\n');
    expect(guarded.chat.heads[0]?.headers['sec-websocket-extensions'] ?? '').not.toContain('other');
    client.write(frame(TEXT, 'hello'));
    await expect.poll(() => guarded.chat.messages(), WAIT).toEqual(['HELLO']);
  });
});

describe('a middleware of a WebSocket that fails', () => {
  const result = (value: Answer) => ({
    result: { $case: 'messageResult' as const, value: WebSocketMessageResult.fromPartial(value) },
  });
  const failures: readonly (readonly [string, ServiceOptions['session'], string])[] = [
    ['never answers', answering(() => undefined), 'middleware_timeout'],
    ['answers another message', answering(() => ({ ...ALLOW, sequence: 9n })), 'response_sequence_mismatch'],
    ['does not decide', answering(() => ({})), 'invalid_response_decision'],
    [
      'answers with a preflight',
      answering((_text, _sequence, stream) => void stream.write(preflightAnswer(INSPECT))),
      'unexpected_websocket_response',
    ],
    [
      'answers nothing at all',
      answering((_text, _sequence, stream) => void stream.write({ result: undefined })),
      'unexpected_websocket_response',
    ],
    [
      'answers with bytes',
      answering(() => ({ ...ALLOW, replacement: { $case: 'binary', value: Buffer.from('x') } })),
      'response_payload_type_mismatch',
    ],
    [
      'answers what is not UTF-8',
      answering(() => ({ ...ALLOW, replacement: { $case: 'text', value: Buffer.from([0xff]) } })),
      'response_message_not_utf8',
    ],
    [
      'answers too much',
      answering(() => ({ ...ALLOW, replacement: { $case: 'text', value: Buffer.alloc((1 << 20) + 1, 97) } })),
      'response_message_over_capacity',
    ],
    [
      'gives a code that is none',
      answering(() => ({ ...DENY, reasonCode: '!' })),
      'response_reason_code_invalid',
    ],
    ['ends its stream', answering((_text, _sequence, stream) => void stream.end()), 'websocket_stream_ended'],
    [
      'breaks its stream',
      answering((_text, _sequence, stream) => void stream.emit('error', { code: 13, details: 'SECRET' })),
      'middleware_unreachable',
    ],
  ];
  test.each(failures)('because it %s', async (_what, session, code) => {
    const options: ServiceOptions = session === undefined ? {} : { session };
    const closed = await guardedChat(options);
    const refused = await open(closed);
    refused.write(frame(TEXT, 'hello'));
    await expect.poll(() => refused.closed?.code, WAIT).toBe(1008);
    expect(closed.chat.messages()).toEqual([]);
    expect(closed.of('message')).toMatchObject([{ outcome: 'failed', code }]);
    const passing = await guardedChat(options, { onError: 'fail_open' });
    const client = await open(passing);
    client.write(frame(TEXT, 'hello'));
    client.write(frame(TEXT, 'again'));
    await expect.poll(() => passing.chat.messages(), WAIT).toEqual(['hello', 'again']);
    // It is not shown the second one.
    expect(passing.of('message')).toMatchObject([{ outcome: 'passed-over', code }]);
    expect(JSON.stringify([closed.chat.events, passing.chat.events])).not.toContain('SECRET');
  });

  test('because it answers what nobody asked', async () => {
    const session: ServiceOptions['session'] = ({ event }, stream) => {
      if (event?.$case === 'preflight') stream.write(preflightAnswer(INSPECT));
      if (event?.$case === 'sessionStart') stream.write(result({ sequence: 1n, ...ALLOW }));
    };
    const guarded = await guardedChat({ session });
    const client = await open(guarded);
    await expect.poll(() => guarded.scan.events.length, WAIT).toBe(2);
    client.write(frame(TEXT, 'hello'));
    await expect.poll(() => client.closed?.code, WAIT).toBe(1008);
    expect(guarded.chat.messages()).toEqual([]);
  });

  test.each([
    ['fail_closed', 403],
    ['fail_open', 101],
  ])('before it has begun decides by on_error %s', async (onError, status) => {
    const session = answering(() => ALLOW, Action.WEB_SOCKET_PREFLIGHT_ACTION_UNSPECIFIED);
    const guarded = await guardedChat({ session }, { onError });
    const client = await guarded.chat.raw();
    await expect.poll(() => client.status, WAIT).toBe(status);
    await expect.poll(() => guarded.scan.ends(), WAIT).toEqual([END.failure]);
    expect(guarded.of('preflight')).toMatchObject([{ code: 'invalid_preflight_action' }]);
  });

  test('because a message is too large for it sees the next one', async () => {
    const guarded = await guardedChat(
      { session: answering((said) => text(`${said}!`)) },
      { onError: 'fail_open' },
    );
    const client = await open(guarded);
    const large = 'x'.repeat((1 << 20) + 1);
    client.write(frame(TEXT, large));
    client.write(frame(TEXT, 'small'));
    await expect.poll(() => guarded.chat.messages(), WAIT).toEqual([`${large.length} bytes`, 'small!']);
    expect(guarded.of('message')).toMatchObject([
      { code: 'request_message_over_capacity' },
      { outcome: 'changed' },
    ]);
  });
});

describe('policy', () => {
  const graphql = (port: number) =>
    chatPolicy(port, '', ['{ method: GET, path: "/chat" }', '{ operation_type: query, fields: [hello] }']);
  const query = (field: string) =>
    JSON.stringify({ id: '1', type: 'subscribe', payload: { query: `{ ${field} }` } });
  test('judges again what a middleware has made of a message', async () => {
    const guarded = await guardedChat(
      { session: answering(() => text(query('secret'))) },
      { yaml: graphql, onError: 'fail_open' },
    );
    const client = await open(guarded);
    client.write(frame(TEXT, query('hello')));
    await expect.poll(() => client.closed?.code, WAIT).toBe(1008);
    expect(guarded.chat.messages()).toEqual([]);
    await expect.poll(() => guarded.scan.ends(), WAIT).toEqual([END.policy]);
  });

  test('that is replaced ends the WebSocket with its next message', async () => {
    const guarded = await guardedChat({ session: answering(() => ALLOW) });
    const client = await open(guarded);
    guarded.chat.replacePolicy();
    client.write(frame(TEXT, 'hello'));
    await expect.poll(() => client.closed?.code, WAIT).toBe(1012);
    await expect.poll(() => guarded.scan.ends(), WAIT).toEqual([END.reload]);
    expect(guarded.scan.events.some(({ event }) => event?.$case === 'message')).toBe(false);
  });

  test('that is replaced while a middleware thinks lets nothing pass', async () => {
    const streams: [bigint, Stream][] = [];
    const guarded = await guardedChat(
      { session: answering((_text, sequence, stream) => void streams.push([sequence, stream])) },
      { timeout: '30s' },
    );
    const client = await open(guarded);
    client.write(frame(TEXT, 'hello'));
    await expect.poll(() => streams.length, WAIT).toBe(1);
    guarded.chat.replacePolicy();
    for (const [sequence, stream] of streams)
      stream.write({
        result: { $case: 'messageResult', value: WebSocketMessageResult.fromPartial({ sequence, ...ALLOW }) },
      });
    await expect.poll(() => client.closed?.code, WAIT).toBe(1012);
    expect(guarded.chat.messages()).toEqual([]);
  });
});

describe('the end of a WebSocket is told', () => {
  test('and a message that nobody has seen by then does not pass', async () => {
    const work = new WorkAdmission(1, 1);
    const { middlewares, registry } = await startRegistry([], work);
    undo.push(() => registry.stop());
    const compiled = compilePolicy(
      documentOf('  {}', middlewareYaml(['keys: { middleware: openshell/regex }'])),
      { generation: 1 },
    );
    if (compiled.kind !== 'active') throw new Error('no policy');
    const identity = { pid: 1, binary: '/bin/x', ancestors: [], cmdline: [] };
    const target = { scheme: 'ws', host: 'a.test', port: 1, method: 'GET', path: '/', query: '' };
    const opened = await middlewares.preflight(compiled.middlewares, {
      subject: subjectOf(middlewares.sandbox, identity, target),
      subprotocols: [],
      tell: () => undefined,
    });
    const session = opened?.kind === 'passed' ? opened.session : undefined;
    if (session === undefined) throw new Error('no session');
    expect(await session.judge(Buffer.from('a'), () => true)).toMatchObject({ kind: 'pass' });
    const release = await work.enter();
    const waiting = session.judge(Buffer.from('b'), () => true);
    session.end(END.peer as 2);
    release?.();
    expect([await waiting, await session.judge(Buffer.from('c'), () => true)]).toEqual([
      { kind: 'over' },
      { kind: 'over' },
    ]);
  });

  test('when the client vanishes', async () => {
    const guarded = await guardedChat({ session: answering(() => ALLOW) });
    const client = await open(guarded);
    client.socket.destroy();
    await expect.poll(() => guarded.scan.ends(), WAIT).toEqual([END.peer]);
  });

  test('when the client breaks the protocol', async () => {
    const guarded = await guardedChat({ session: answering(() => ALLOW) });
    const client = await open(guarded);
    client.write(frame(TEXT, 'x', { mask: false }));
    await expect.poll(() => client.closed?.code, WAIT).toBe(1002);
    await expect.poll(() => guarded.scan.ends(), WAIT).toEqual([END.protocol]);
  });

  test('when the server does not agree', async () => {
    const onUpgrade: NonNullable<Parameters<typeof startChat>[1]>['onUpgrade'] = (_request, socket) =>
      socket.end('HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n');
    const guarded = await guardedChat({ session: answering(() => ALLOW) }, { chat: { onUpgrade } });
    const client = await guarded.chat.raw();
    await expect.poll(() => client.status, WAIT).toBe(403);
    await expect.poll(() => guarded.scan.ends(), WAIT).toEqual([END.rejected]);
  });
});

describe('the bounds of WebSockets', () => {
  test('are 32 sessions at once: the next one is refused, and taken when one has ended', async () => {
    const guarded = await guardedChat({ session: answering(() => ALLOW) }, { timeout: '5s' });
    const clients = [];
    for (let count = 0; count < 32; count++) clients.push(await open(guarded));
    const late = await guarded.chat.raw();
    await expect.poll(() => late.status, WAIT).toBe(403);
    expect(guarded.of('preflight').at(-1)).toMatchObject({ code: 'middleware_session_capacity_exhausted' });
    clients[0]?.socket.destroy();
    await expect.poll(() => guarded.scan.ends(), WAIT).toEqual([END.peer]);
    await open(guarded);
  });

  test('close with 1013 when too many messages wait', async () => {
    const work = new WorkAdmission(1, 0);
    const guarded = await guardedChat({ session: answering(() => undefined) }, { work, timeout: '30s' });
    const [one, two] = [await open(guarded), await open(guarded)];
    one.write(frame(TEXT, 'hello'));
    await expect
      .poll(() => guarded.scan.events.some(({ event }) => event?.$case === 'message'), WAIT)
      .toBe(true);
    two.write(frame(TEXT, 'hello'));
    await expect.poll(() => two.closed?.code, WAIT).toBe(1013);
    await expect.poll(() => guarded.scan.ends(), WAIT).toEqual([END.failure]);
  });
});
