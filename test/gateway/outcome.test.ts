import { createServer, type Http2Server, type ServerHttp2Stream } from 'node:http2';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { HealthResponse, OpenShellDefinition } from '../../proto/generated/openshell/v1/openshell.ts';
import { systemClock } from '../../supervisor/clock.ts';
import { exchange } from '../../supervisor/gateway/channel.ts';
import { type Connection, openConnection } from '../../supervisor/rpc/connection.ts';
import { frameOf } from '../../supervisor/rpc/frames.ts';
import { retryAfter, statusOf, statusOfHttp, statusOfReset } from '../../supervisor/rpc/outcome.ts';
import { STATUS } from '../../supervisor/rpc/status.ts';

const base64 = (...bytes: readonly (number | string)[]) =>
  Buffer.concat(
    bytes.map((one) => (typeof one === 'number' ? Buffer.from([one]) : Buffer.from(one))),
  ).toString('base64');
const TYPE = 'type.googleapis.com/google.rpc.RetryInfo';
/** google.rpc.Status { details: [Any { type_url, value: RetryInfo { Duration { … } } }] }. */
const retryInfo = (...duration: readonly number[]) => {
  const value = [0x0a, duration.length, ...duration];
  const any = [0x0a, TYPE.length, TYPE, 0x12, value.length, ...value];
  return base64(0x08, 14, 0x1a, 2 + TYPE.length + 2 + value.length, ...any);
};

describe('the status of a call', () => {
  test('is in its trailers: nothing for OK, else code and text, whose escapes are undone where they are valid', () => {
    expect(statusOf({ 'grpc-status': '0' })).toBeUndefined();
    expect(statusOf({ 'grpc-status': '5', 'grpc-message': 'kein%20Gl%C3%BCck' })).toMatchObject({
      code: STATUS.NOT_FOUND,
      details: 'kein Glück',
    });
    expect(statusOf({ 'grpc-status': '5', 'grpc-message': '100 % broken' })).toMatchObject({
      details: '100 % broken',
    });
    expect(statusOf({ 'grpc-status': 'x' })).toMatchObject({ code: STATUS.UNKNOWN });
  });

  test('asks for the time of its RetryInfo, in whole or in part of a second, at most 10 min', () => {
    expect(retryAfter(retryInfo(0x08, 30))).toBe(30_000);
    expect(retryAfter(retryInfo(0x10, 0x80, 0xca, 0xb5, 0xee, 0x01))).toBe(500);
    expect(retryAfter(retryInfo(0x08, 0xff, 0xff, 0xff, 0x7f))).toBe(600_000);
    expect(retryAfter(retryInfo())).toBe(0);
    expect(retryAfter('')).toBe(0);
    expect(retryAfter(base64(0x1a, 200, 'cut short'))).toBe(0);
  });

  test.each([
    [401, STATUS.UNAUTHENTICATED],
    [403, STATUS.PERMISSION_DENIED],
    [404, STATUS.UNIMPLEMENTED],
    [429, STATUS.UNAVAILABLE],
    [502, STATUS.UNAVAILABLE],
    [503, STATUS.UNAVAILABLE],
    [500, STATUS.UNKNOWN],
  ])('of an intermediary’s HTTP %i is %i', (http, code) => {
    expect(statusOfHttp(http, {}).code).toBe(code);
  });

  test('of a Retry-After in seconds is that long; a date or nonsense asks for nothing', () => {
    expect(statusOfHttp(503, { 'retry-after': '7' }).retryAfterMs).toBe(7_000);
    expect(statusOfHttp(503, { 'retry-after': '86400' }).retryAfterMs).toBe(600_000);
    for (const value of ['Fri, 31 Dec 1999 23:59:59 GMT', '-5', 'soon', ''])
      expect(statusOfHttp(503, { 'retry-after': value }).retryAfterMs).toBe(0);
  });

  test('of a reset stream says whether trying again helps', () => {
    expect(statusOfReset(0x7).code).toBe(STATUS.UNAVAILABLE);
    expect(statusOfReset(0xb).code).toBe(STATUS.RESOURCE_EXHAUSTED);
    expect(statusOfReset(0x2).code).toBe(STATUS.INTERNAL);
  });
});

describe('an answer', () => {
  let server: Http2Server;
  let connection: Connection;
  let answer: (stream: ServerHttp2Stream) => void = () => undefined;
  beforeEach(async () => {
    server = createServer();
    server.on('stream', (stream: ServerHttp2Stream) => {
      stream.on('error', () => undefined);
      answer(stream);
    });
    await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
    const address = server.address();
    const port = typeof address === 'object' && address !== null ? address.port : 0;
    connection = await openConnection(
      { address: '127.0.0.1', port, authority: `127.0.0.1:${port}`, tls: undefined },
      {
        clock: systemClock,
        connectTimeoutMs: 10_000,
        keepaliveMs: 10_000,
        keepaliveTimeoutMs: 20_000,
        maxMessageBytes: 1_000,
      },
    );
  });
  afterEach(() => {
    connection.destroy('done');
    server.close();
  });
  const health = () => exchange(connection, OpenShellDefinition.methods.health, [{}], '', 10_000);
  const message = frameOf(HealthResponse.encode({ status: 1, version: 'v' }).finish());
  const grpc = { ':status': 200, 'content-type': 'application/grpc+proto' };
  const respond = (
    stream: ServerHttp2Stream,
    frames: readonly Buffer[],
    trailers: Record<string, string>,
  ) => {
    stream.respond(grpc, { waitForTrailers: true });
    stream.on('wantTrailers', () => stream.sendTrailers(trailers));
    for (const one of frames) stream.write(one);
    stream.end();
  };

  test('is one message and the status OK', async () => {
    answer = (stream) => respond(stream, [message], { 'grpc-status': '0' });
    expect(await health()).toEqual({ status: 1, version: 'v' });
  });

  test.each([
    ['no message', [], { 'grpc-status': '0' }, STATUS.INTERNAL],
    ['two messages', [message, message], { 'grpc-status': '0' }, STATUS.INTERNAL],
    ['half a message', [message.subarray(0, 6)], { 'grpc-status': '0' }, STATUS.INTERNAL],
    ['no status', [message], {}, STATUS.UNKNOWN],
    ['a message and a failure', [message], { 'grpc-status': '9' }, STATUS.FAILED_PRECONDITION],
    ['a compressed message', [Buffer.from([1, 0, 0, 0, 0])], { 'grpc-status': '0' }, STATUS.INTERNAL],
    [
      'a message above the bound',
      [frameOf(Buffer.alloc(1_001))],
      { 'grpc-status': '0' },
      STATUS.RESOURCE_EXHAUSTED,
    ],
    ['a message that is none', [frameOf(Buffer.from([0x12, 0x7f]))], { 'grpc-status': '0' }, STATUS.INTERNAL],
  ] as const)('of %s is a failure of its own code', async (_name, frames, trailers, code) => {
    answer = (stream) => respond(stream, frames, { ...trailers });
    await expect(health()).rejects.toMatchObject({ code });
  });

  test('of another kind than gRPC, or a reset, is a failure and leaves the connection usable', async () => {
    answer = (stream) => {
      stream.respond({ ':status': 200, 'content-type': 'text/html' });
      stream.end('<html>');
    };
    await expect(health()).rejects.toMatchObject({ code: STATUS.UNKNOWN });
    answer = (stream) => stream.close(0x7);
    await expect(health()).rejects.toMatchObject({
      code: STATUS.UNAVAILABLE,
      details: expect.stringContaining('reset'),
    });
    answer = (stream) => stream.close(0xb);
    await expect(health()).rejects.toMatchObject({ code: STATUS.RESOURCE_EXHAUSTED });
    answer = (stream) => respond(stream, [message], { 'grpc-status': '0' });
    expect((await health()).version).toBe('v');
  });

  test('that never comes is given up when its time is over', async () => {
    answer = () => undefined;
    await expect(
      exchange(connection, OpenShellDefinition.methods.health, [{}], '', 50),
    ).rejects.toMatchObject({ code: STATUS.DEADLINE_EXCEEDED });
  });
});
