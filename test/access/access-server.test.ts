import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { createServer } from 'node:net';
import { PassThrough } from 'node:stream';
import fc from 'fast-check';
import ssh2, { type ClientChannel } from 'ssh2';
import { expect, test } from 'vitest';
import { makeHostKey } from '../../supervisor/access/host-key.ts';
import { ok } from '../../supervisor/result.ts';
import { VirtualClock } from '../gateway/virtual-clock.ts';
import { accessFixture, exec, finished, login, plug, run } from './access-fixture.ts';
import { batched } from './batched.ts';

test('a command has its exit code, its two outputs, and its input with an end', async () => {
  const { server, events } = accessFixture();
  const client = await login(server);
  const ran = await run(client, 'cat; echo done; echo wrong >&2; exit 7', {}, 'typed\n');
  expect(ran).toMatchObject({ code: 7, stderr: 'wrong\n' });
  expect(ran.stdout.toString()).toBe('typed\ndone\n');
  client.end();
  await expect.poll(() => events.map(({ kind }) => kind)).toEqual(['opened', 'closed']);
  expect(events[0]).toEqual({ kind: 'opened', auth: 'none', user: 'sandbox' });
});

test('who dies by a signal has the exit status 128 + n, which every client knows', async () => {
  const { server } = accessFixture();
  const client = await login(server);
  const ran = await run(client, 'kill -KILL $$');
  expect(ran.code).toBe(137);
});

test('any key and any user are let in, a password never', async () => {
  const { server, events } = accessFixture();
  const privateKey = makeHostKey(ssh2.utils);
  const client = await login(server, { username: 'whoever', privateKey, authHandler: ['publickey'] });
  expect((await run(client, 'true')).code).toBe(0);
  expect(events[0]).toEqual({ kind: 'opened', auth: 'publickey', user: 'whoever' });
  const refused = new ssh2.Client();
  refused.connect({ sock: plug(server), username: 'x', password: 'y', authHandler: ['password'] });
  expect(String(await once(refused, 'error'))).toMatch(/authentication methods failed/);
});

test('10 MB of random bytes go in and come out unharmed, on both outputs at once', async () => {
  const { server } = accessFixture();
  const client = await login(server);
  const bytes = randomBytes(10 << 20);
  const ran = await run(client, 'tee >(cat >&2)', {}, bytes);
  expect(ran.code).toBe(0);
  expect(ran.stdout.equals(bytes)).toBe(true);
  const both = await run(client, 'cat', {}, bytes);
  expect(both.stdout.equals(bytes)).toBe(true);
}, 30_000);

test('the outputs of a client that reads late keep their bytes and their order, in little memory', async () => {
  const source = { output: new PassThrough(), errors: new PassThrough() };
  let exit = (): void => undefined;
  const { server } = accessFixture({
    open: async () =>
      ok({
        ...source,
        input: new PassThrough(),
        exited: new Promise((resolve) => {
          exit = () => resolve({ kind: 'code', code: 0 });
        }),
        resize: () => undefined,
        signal: () => undefined,
        end: () => undefined,
      }),
  });
  const client = await login(server);
  const channel = await exec(client, 'anything');
  // More than the client's window of 2 MiB, before it reads anything.
  const [out, errors] = [randomBytes(5 << 20), randomBytes(5 << 20)];
  let written = 0;
  for (const [stream, bytes] of [
    [source.output, out],
    [source.errors, errors],
  ] as const)
    void (async () => {
      for (let at = 0; at < bytes.length; at += 65_536) {
        if (!stream.write(bytes.subarray(at, at + 65_536))) await once(stream, 'drain');
        written += 65_536;
      }
      stream.end();
    })();
  await expect.poll(() => written).toBeGreaterThan(1 << 20);
  const before = written;
  await new Promise((resolve) => setImmediate(resolve));
  expect(before).toBeLessThan(7 << 20); // 2 MiB of windows, twice, and what pipes hold
  const [first, second]: [Buffer[], Buffer[]] = [[], []];
  channel.on('data', (chunk: Buffer) => first.push(chunk));
  channel.stderr.on('data', (chunk: Buffer) => second.push(chunk));
  await expect.poll(() => written, { timeout: 10_000 }).toBe(10 << 20);
  exit();
  await once(channel, 'close');
  expect(Buffer.concat(first).equals(out)).toBe(true);
  expect(Buffer.concat(second).equals(errors)).toBe(true);
}, 30_000);

test('terminals, sizes and signals reach the process, and clients set only harmless variables', async () => {
  const { server, asked } = accessFixture();
  const client = await login(server);
  const channel = await exec(client, 'read line; env', {
    pty: { term: 'xterm-256color', cols: 0, rows: 0, modes: { ECHO: 0, VINTR: 3 } },
    env: {
      LANG: 'C.UTF-8',
      LC_TIME: 'de_DE.UTF-8',
      LD_PRELOAD: '/tmp/evil.so',
      BASH_ENV: '/tmp/evil',
      PATH: '/tmp',
      https_proxy: 'http://evil',
      OPENSHELL_SANDBOX: '0',
    },
  });
  const end = finished(channel);
  channel.setWindow(50, 100, 0, 0);
  await expect.poll(() => asked.windows.at(-1)).toEqual({ columns: 100, rows: 50, width: 0, height: 0 });
  channel.write('go\n');
  const { stdout } = await end;
  expect(
    stdout
      .toString()
      .split('\n')
      .filter((line) => /evil|^PATH=\/tmp|OPENSHELL/.test(line)),
  ).toEqual([]);
  expect(stdout.toString()).toContain('LC_TIME=de_DE.UTF-8');
  expect(asked.requests[0]?.terminal).toMatchObject({
    name: 'xterm-256color',
    window: { columns: 80, rows: 24 },
    modes: { ECHO: 0, VINTR: 3 },
  });
  const sleeping = await exec(client, 'exec sleep 1000');
  const killed = finished(sleeping);
  await expect.poll(() => asked.requests.length).toBe(2);
  sleeping.signal('TERM');
  expect((await killed).code).toBe(143);
  expect(asked.signals).toEqual(['SIGTERM']);
});

test.each(['as it comes', 'in one piece'])(
  'a refused process says why, and its code is the exit status, read %s',
  async (how) => {
    const message = '64 sessions run in this sandbox already';
    const { server, events } = accessFixture({
      open: async () => ({ ok: false, error: { code: 75, message } }),
    });
    const sock = batched(plug(server), () => how === 'in one piece' && events.length > 0);
    const ran = await run(await login(server, {}, sock), 'true');
    expect([ran.code, ran.stderr]).toEqual([75, `openshell-sandbox: ${message}\n`]);
  },
);

test('a process ends with its channel, and all of them with the connection', async () => {
  const { server, asked } = accessFixture();
  const client = await login(server);
  const one = await exec(client, 'sleep 1000');
  await exec(client, 'sleep 1000');
  await expect.poll(() => asked.requests.length).toBe(2);
  one.close();
  await expect.poll(() => asked.ended).toBe(1);
  const stays = await run(client, 'echo yes');
  expect(stays.stdout.toString()).toBe('yes\n');
  client.end();
  await expect.poll(() => asked.ended).toBe(2);
  expect(server.openConnections).toBe(0);
});

test('output that a process of the background holds open is waited for as long as the contract says', async () => {
  const clock = new VirtualClock();
  const { server } = accessFixture({ clock });
  const client = await login(server);
  const channel = await exec(client, 'sleep 30 & echo $!; exit 5');
  let pid = 0;
  channel.on('data', (chunk) => {
    pid ||= Number(String(chunk));
  });
  const closed = once(channel, 'close');
  await expect.poll(() => pid).toBeGreaterThan(0);
  // Looks twice at most: once while the line above moves.
  await expect
    .poll(() => {
      clock.run(2_000);
      return Promise.race([closed.then(() => 'closed'), new Promise((resolve) => setImmediate(resolve))]);
    })
    .toBe('closed');
  process.kill(pid, 'SIGKILL');
});

test('connections are forwarded to the loopback, each direction with its own end', async () => {
  const echo = createServer({ allowHalfOpen: true }, (socket) => {
    const chunks: Buffer[] = [];
    socket
      .on('data', (chunk: Buffer) => chunks.push(chunk))
      .on('end', () => socket.end(Buffer.concat(chunks)));
  }).listen(0, '127.0.0.1');
  await once(echo, 'listening');
  const { port } = echo.address() as AddressInfo;
  const { server, events } = accessFixture({ reservedPorts: new Set([3128]) });
  const client = await login(server);
  const forward = (host: string, to: number) =>
    new Promise<ClientChannel>((resolve, reject) =>
      client.forwardOut('127.0.0.1', 1, host, to, (error, channel) =>
        error ? reject(error) : resolve(channel),
      ),
    );
  const bytes = randomBytes(3 << 20);
  const channel = await forward('localhost', port);
  const chunks: Buffer[] = [];
  channel.on('data', (chunk: Buffer) => chunks.push(chunk));
  channel.end(bytes);
  await once(channel, 'close');
  expect(Buffer.concat(chunks).equals(bytes)).toBe(true);
  await expect(forward('127.0.0.1', 3128)).rejects.toThrow();
  await expect(forward('10.0.0.1', port)).rejects.toThrow();
  await expect(forward('127.0.0.1', 1)).rejects.toThrow();
  expect(events.filter(({ kind }) => kind === 'forward-refused')).toHaveLength(2);
  echo.close();
});

test('remote forwards and unknown subsystems are refused, and the connection goes on', async () => {
  const { server } = accessFixture();
  const client = await login(server);
  await expect(
    new Promise((resolve, reject) =>
      client.forwardIn('127.0.0.1', 0, (error, port) => (error ? reject(error) : resolve(port))),
    ),
  ).rejects.toThrow(/Unable to bind/);
  await expect(
    new Promise((resolve, reject) =>
      client.subsys('netconf', (error, channel) => (error ? reject(error) : resolve(channel))),
    ),
  ).rejects.toThrow(/Unable to start subsystem/);
  expect((await run(client, 'echo on')).stdout.toString()).toBe('on\n');
});

test('a subsystem gets the channel, and is told of its end', async () => {
  let closed = 0;
  const { server } = accessFixture({
    subsystems: new Map([
      [
        'shout',
        ({ channel, output, finish, onClosed }) => {
          onClosed(() => {
            closed += 1;
          });
          channel.once('data', (chunk: Buffer) => {
            void output.write('output', Buffer.from(chunk.toString().toUpperCase())).then(() => finish(3));
          });
        },
      ],
    ]),
  });
  const client = await login(server);
  const channel = await new Promise<ClientChannel>((resolve, reject) =>
    client.subsys('shout', (error, one) => (error ? reject(error) : resolve(one))),
  );
  const end = finished(channel);
  channel.write('hello');
  expect(await end).toMatchObject({ code: 3 });
  expect((await end).stdout.toString()).toBe('HELLO');
  await expect.poll(() => closed).toBe(1);
});

test('whoever speaks no SSH, or stays silent, is dropped and harms nobody', async () => {
  const clock = new VirtualClock();
  const { server, events } = accessFixture({ clock });
  const silent = plug(server);
  clock.run(11_000);
  await once(silent, 'close');
  expect(events).toContainEqual({ kind: 'refused', reason: 'a client did not log in within 10 s' });
  await fc.assert(
    fc.asyncProperty(fc.boolean(), fc.uint8Array({ maxLength: 2000 }), async (greets, bytes) => {
      const client = plug(server);
      client.resume();
      if (greets) client.write('SSH-2.0-fuzz\r\n');
      client.end(Buffer.from(bytes));
      await once(client, 'close');
    }),
    { numRuns: 60 },
  );
  await expect.poll(() => server.openConnections).toBe(0);
  expect((await run(await login(server), 'echo still')).stdout.toString()).toBe('still\n');
});

test('what is stopped takes nobody in, and ends who is in', async () => {
  const { server, asked } = accessFixture();
  const client = await login(server);
  await exec(client, 'sleep 1000');
  await expect.poll(() => asked.requests.length).toBe(1);
  client.on('error', () => undefined);
  server.stop();
  await once(client, 'close');
  expect(asked.ended).toBe(1);
  await once(plug(server), 'close');
});
