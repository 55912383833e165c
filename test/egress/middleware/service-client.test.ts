import { connect, createServer, type Socket } from 'node:net';
import { expect, test } from 'vitest';
import {
  Decision,
  HttpRequestEvaluation,
} from '../../../proto/generated/openshell/middleware/v1/middleware.ts';
import { type Clock, systemClock } from '../../../supervisor/clock.ts';
import { readRegistration } from '../../../supervisor/egress/middleware/manifest.ts';
import { ServiceClient } from '../../../supervisor/egress/middleware/service-client.ts';
import { ok } from '../../../supervisor/result.ts';
import { codeOf, STATUS } from '../../../supervisor/rpc/status.ts';
import { fastClock } from '../../gateway/fast-clock.ts';
import { undoAfterEach } from '../../undo-after-each.ts';
import { ALLOW, registration, startService } from './service-fixture.ts';

const undo = undoAfterEach();
const WAIT = { timeout: 10_000 };
const CONFIG = { json: {}, encoded: Buffer.alloc(0) };
const REQUEST = HttpRequestEvaluation.fromPartial({ middlewareName: 'scan' });

function clientOf(port: number, clock: Clock = systemClock) {
  const read = readRegistration(registration('scan', port), false);
  if (!read.ok) throw new Error(read.error);
  const client = new ServiceClient({
    clock,
    random: () => 0,
    resolve: async () => ok(['127.0.0.1']),
    registration: read.value,
    credential: () => undefined,
  });
  undo.push(() => client.close());
  return client;
}
const codeFrom = (call: Promise<unknown>): Promise<number> => call.then(() => STATUS.OK, codeOf);

/** A server of raw bytes, and how often it was connected to. */
async function raw(onSocket: (socket: Socket) => void) {
  let connections = 0;
  const sockets: Socket[] = [];
  const server = createServer((socket) => {
    connections += 1;
    sockets.push(socket);
    socket.on('error', () => undefined);
    onSocket(socket);
  });
  await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
  undo.push(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  const address = server.address();
  return {
    port: typeof address === 'object' && address !== null ? address.port : 0,
    connections: () => connections,
  };
}

test('a service that comes back is asked again over a new connection', async () => {
  const first = await startService({ evaluate: () => ALLOW });
  const client = clientOf(first.port);
  expect((await client.evaluate(REQUEST, CONFIG, 5_000)).decision).toBe(Decision.DECISION_ALLOW);
  first.stop();
  await expect.poll(() => codeFrom(client.evaluate(REQUEST, CONFIG, 5_000)), WAIT).toBe(STATUS.UNAVAILABLE);
  const second = await startService({ port: first.port });
  undo.push(() => second.stop());
  await expect.poll(() => codeFrom(client.evaluate(REQUEST, CONFIG, 5_000)), WAIT).toBe(STATUS.OK);
});

test.each<[string, (socket: Socket) => void, number]>([
  ['resets every connection', (socket) => socket.resetAndDestroy(), STATUS.UNAVAILABLE],
  ['ends every connection', (socket) => socket.end(), STATUS.UNAVAILABLE],
  ['speaks another protocol', (socket) => socket.end('SSH-2.0-x\r\n'), STATUS.UNAVAILABLE],
  ['says nothing', () => undefined, STATUS.DEADLINE_EXCEEDED],
])(
  'a service that %s fails, in time, and is not dialled for every request',
  async (_what, onSocket, code) => {
    const server = await raw(onSocket);
    const client = clientOf(server.port);
    const startedAt = performance.now();
    expect(await codeFrom(client.evaluate(REQUEST, CONFIG, 200))).toBe(code);
    expect(performance.now() - startedAt).toBeLessThan(5_000);
    const codes = await Promise.all(
      Array.from({ length: 20 }, () => codeFrom(client.evaluate(REQUEST, CONFIG, 50))),
    );
    expect(codes).not.toContain(STATUS.OK);
    expect(server.connections()).toBe(1);
  },
);

test('requests at the same time share one dial', async () => {
  const service = await startService();
  undo.push(() => service.stop());
  let sockets = 0;
  const between = createServer((socket) => {
    sockets += 1;
    socket.on('error', () => undefined);
    socket.pipe(connect(service.port, '127.0.0.1')).pipe(socket);
  });
  await new Promise<void>((resolve) => void between.listen(0, '127.0.0.1', resolve));
  undo.push(() => between.close());
  const address = between.address();
  const client = clientOf(typeof address === 'object' && address !== null ? address.port : 0);
  const codes = await Promise.all(
    Array.from({ length: 20 }, () => codeFrom(client.evaluate(REQUEST, CONFIG, 5_000))),
  );
  expect(new Set(codes)).toEqual(new Set([STATUS.OK]));
  expect(sockets).toBe(1);
});

test('a service that goes without a word is noticed after a call without an answer', async () => {
  const service = await startService();
  undo.push(() => service.stop());
  /** The first connection hears and says nothing any more. */
  let silent = false;
  let count = 0;
  const server = await raw((socket) => {
    const inner = connect(service.port, '127.0.0.1');
    const mute = ++count === 1 ? () => silent : () => false;
    inner.on('error', () => undefined);
    undo.push(() => inner.destroy());
    socket.on('data', (chunk: Buffer) => void (mute() || inner.write(chunk)));
    inner.on('data', (chunk: Buffer) => void (mute() || socket.write(chunk)));
  });
  const clock = fastClock(20);
  const client = clientOf(server.port, clock);
  expect(await codeFrom(client.evaluate(REQUEST, CONFIG, 30_000))).toBe(STATUS.OK);
  silent = true;
  expect(await codeFrom(client.evaluate(REQUEST, CONFIG, 1_000))).toBe(STATUS.DEADLINE_EXCEEDED);
  // Ten seconds of that clock later the connection is given up, and the next call makes another one.
  await expect
    .poll(async () => [await codeFrom(client.evaluate(REQUEST, CONFIG, 1_000)), server.connections()], WAIT)
    .toEqual([STATUS.OK, 2]);
});

test('a configuration is asked about once while it is accepted', async () => {
  let refuses = false;
  const service = await startService({ validate: () => (refuses ? 'no' : undefined) });
  undo.push(() => service.stop());
  const client = clientOf(service.port);
  for (let count = 0; count < 3; count++)
    expect(await client.accepts(CONFIG)).toEqual({ ok: true, value: undefined });
  expect(service.validated).toHaveLength(1);
  refuses = true;
  const other = { json: { a: 1 }, encoded: Buffer.from('a') };
  expect(await client.accepts(other)).toEqual({ ok: false, error: 'no' });
  expect(await client.accepts(other)).toEqual({ ok: false, error: 'no' });
  expect(service.validated).toHaveLength(2);
});

test('a service that is used no more is dialled no more', async () => {
  const service = await startService();
  undo.push(() => service.stop());
  const client = clientOf(service.port);
  await client.describe();
  client.close();
  expect(await codeFrom(client.evaluate(REQUEST, CONFIG, 1_000))).not.toBe(STATUS.OK);
});
