/** Whatever a workload does with connections, the proxy lives, and serves whoever asks for something. */
import { spawn } from 'node:child_process';
import { connect, type Socket } from 'node:net';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { lineClient } from '../../scripts/bench/bounded.ts';
import { openFilesLimit, slotsFor } from '../../supervisor/egress/connection-slots.ts';
import { undoAfterEach } from '../undo-after-each.ts';
import { exchange, startUpstream } from './proxy-fixture.ts';

const PROXY = fileURLToPath(new URL('flood-proxy.ts', import.meta.url));
const undo = undoAfterEach();

/** A proxy in a process that may open so many descriptors. */
async function start(descriptors: number) {
  const child = spawn(
    '/bin/sh',
    ['-c', `ulimit -n ${descriptors}; exec "$0" "$1"`, process.execPath, PROXY],
    {
      stdio: ['pipe', 'pipe', 'pipe'],
    },
  );
  const ended = new Promise<void>((resolve) => void child.once('exit', () => resolve()));
  undo.push(async () => {
    child.stdin.end();
    await ended;
  });
  const client = lineClient('the proxy', child);
  const [port = 0, slots = 0] = await new Promise<number[]>((resolve) => {
    let text = '';
    const take = (chunk: Buffer): void => {
      text += chunk.toString();
      if (!text.includes('\n')) return;
      child.stdout.off('data', take);
      resolve(text.trim().split(' ').map(Number));
    };
    child.stdout.on('data', take);
  });
  const state = async () => {
    const [kib = 0, open = 0] = (await client.ask('state', 20_000)).trim().split(' ').map(Number);
    return { kib, open };
  };
  return { port, slots, state };
}

function opened(port: number, bytes = ''): Promise<Socket> {
  return new Promise((resolve) => {
    const socket = connect({ port, host: '127.0.0.1' });
    undo.push(() => socket.destroy());
    socket.on('error', () => resolve(socket));
    socket.once('connect', () => {
      if (bytes !== '') socket.write(bytes);
      resolve(socket);
    });
  });
}

/** So many, some hundred at a time. */
async function flood(port: number, count: number, bytes = ''): Promise<readonly Socket[]> {
  const sockets: Socket[] = [];
  while (sockets.length < count)
    sockets.push(
      ...(await Promise.all(
        Array.from({ length: Math.min(250, count - sockets.length) }, () => opened(port, bytes)),
      )),
    );
  return sockets;
}

const request = (port: number) => `GET http://a.test:${port}/ HTTP/1.1\r\nHost: a.test:${port}\r\n\r\n`;
const serving = async () => {
  const upstream = await startUpstream((socket) =>
    socket.end('HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok'),
  );
  undo.push(() => upstream.stop());
  return upstream;
};

test('ten thousand silent connections keep nobody from being served', async () => {
  const upstream = await serving();
  const { port, slots, state } = await start(8_192);
  const before = await state();
  await flood(port, 10_000);
  const { text } = await exchange(port, request(upstream.port));
  expect(text).toMatch(/^HTTP\/1.1 200 [\s\S]*ok$/);
  const after = await state();
  expect(after.open).toBeLessThanOrEqual(slots);
  expect(after.open).toBeGreaterThan(slots - 10);
  // In KiB; some 30 were measured.
  expect((after.kib - before.kib) / after.open).toBeLessThan(48);
}, 120_000);

test('running out of descriptors passes', async () => {
  const upstream = await serving();
  // The bound is 64 connections, and each wants two.
  const { port } = await start(96);
  const sockets = await flood(port, 200, `CONNECT a.test:${upstream.port} HTTP/1.1\r\nHost: a\r\n\r\n`);
  for (const socket of sockets) socket.destroy();
  await expect
    .poll(async () => (await exchange(port, request(upstream.port))).text, { timeout: 20_000, interval: 250 })
    .toMatch(/^HTTP\/1.1 200 /);
}, 60_000);

test.each([
  ['Max open files            1024                 524288               files', 1024],
  ['Max open files            unlimited            unlimited            files', Number.MAX_SAFE_INTEGER],
  ['', Number.MAX_SAFE_INTEGER],
])('reads the bound of descriptors: %s', (text, expected) => expect(openFilesLimit(text)).toBe(expected));

test.each([
  [256, 64],
  [1024, 256],
  [20_000, 4096],
  [1_048_576, 4096],
  [Number.MAX_SAFE_INTEGER, 4096],
])('%i descriptors are slots for %i connections', (descriptors, slots) =>
  expect(slotsFor(descriptors)).toBe(slots),
);
