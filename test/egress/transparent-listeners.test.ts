import { createServer } from 'node:net';
import { describe, expect, test } from 'vitest';
import { TransparentListeners } from '../../supervisor/egress/adapters/transparent.ts';
import { err, ok } from '../../supervisor/result.ts';

/** Polls with patience: other tests share the machine. */
const until = <T>(read: () => T, options: { readonly interval?: number; readonly timeout?: number } = {}) =>
  expect.poll(read, { timeout: 15_000, ...options });

/** Listeners that never listen: a server object for each, and which are open. */
function fixture(maxListeners: number) {
  const open = new Set<string>();
  const unavailable: string[] = [];
  const refused = new Set<string>();
  const idle: string[] = [];
  const listeners: TransparentListeners = new TransparentListeners({
    listen: async (host, port) => {
      const place = `${host}:${port}`;
      if (refused.has(place)) return err('EADDRINUSE');
      const server = createServer();
      server.close = (() => {
        open.delete(place);
        return server;
      }) as typeof server.close;
      open.add(place);
      return ok(server);
    },
    wayOut: { open: () => Promise.reject(new Error('not used')) },
    nameOf: () => 'a.test',
    makeRoom: () => {
      const address = idle.shift();
      if (address !== undefined) listeners.close(address);
      return address !== undefined;
    },
    onUnavailable: (address, port, reason) => unavailable.push(`${address}:${port} ${reason}`),
    onTooMany: () => undefined,
    maxListeners,
  });
  return { listeners, open, unavailable, refused, idle };
}

describe('the listeners of synthetic addresses', () => {
  test('are exactly those of the ports last set', async () => {
    const { listeners, open } = fixture(10);
    expect(await listeners.set('127.64.0.1', [80, 443])).toBe(true);
    expect(await listeners.set('127.64.0.1', [443, 22])).toBe(true);
    expect([...open].sort()).toEqual(['127.64.0.1:22', '127.64.0.1:443']);
    listeners.close('127.64.0.1');
    await until(() => open.size).toBe(0);
  });
  test('are opened once, however often they are asked for at the same time', async () => {
    const { listeners, open } = fixture(1);
    const made = await Promise.all([1, 2, 3].map(() => listeners.set('127.64.0.1', [80])));
    expect(made).toEqual([true, true, true]);
    expect(open.size).toBe(1);
  });
  test('that are closed while they are being opened do not stay', async () => {
    const { listeners, open } = fixture(10);
    const made = listeners.set('127.64.0.1', [80]);
    listeners.close('127.64.0.1');
    await made;
    await until(() => open.size).toBe(0);
  });
  test('that cannot be opened are tried again the next time, and one that can is enough', async () => {
    const { listeners, open, unavailable, refused } = fixture(10);
    refused.add('127.64.0.1:80');
    expect(await listeners.set('127.64.0.1', [80])).toBe(false);
    expect(await listeners.set('127.64.0.1', [80, 81])).toBe(true);
    expect(unavailable).toEqual(['127.64.0.1:80 EADDRINUSE', '127.64.0.1:80 EADDRINUSE']);
    refused.clear();
    await listeners.set('127.64.0.1', [80, 81]);
    expect([...open].sort()).toEqual(['127.64.0.1:80', '127.64.0.1:81']);
  });
  test('at their bound close those of an address that nobody uses, and no more of them than it takes', async () => {
    const { listeners, open, idle, unavailable } = fixture(4);
    await listeners.set('127.64.0.1', [1, 2]);
    await listeners.set('127.64.0.2', [1, 2]);
    expect(await listeners.set('127.64.0.3', [1])).toBe(false);
    expect(unavailable).toEqual(['127.64.0.3:1 4 listeners are open']);
    idle.push('127.64.0.1', '127.64.0.2');
    expect(await listeners.set('127.64.0.3', [1, 2])).toBe(true);
    expect([...open].sort()).toEqual(['127.64.0.2:1', '127.64.0.2:2', '127.64.0.3:1', '127.64.0.3:2']);
    expect(idle).toEqual(['127.64.0.2']);
  });
});
