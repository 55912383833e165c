import { PassThrough } from 'node:stream';
import type { Client, ClientChannel } from 'ssh2';
import { afterEach, describe, expect, test } from 'vitest';
import { MainAttachments } from '../../supervisor/access/main-attachments.ts';
import type { Window } from '../../supervisor/access/session-opener.ts';
import { MainStreams } from '../../supervisor/workload/main-streams.ts';
import { VirtualClock } from '../gateway/virtual-clock.ts';
import { accessFixture, finished, login } from './access-fixture.ts';
import { heard, open, packet, request, send, text, u32 } from './packets.ts';

const turn = () => new Promise((resolve) => setImmediate(resolve));
const opened: { readonly stop: () => void }[] = [];
afterEach(() => {
  for (const server of opened.splice(0)) server.stop();
});

/** A main process of streams alone, and a way to it. */
function sandbox(terminal = true) {
  const clock = new VirtualClock();
  const [input, output, errors] = [new PassThrough(), new PassThrough(), new PassThrough()];
  const sink = () => new PassThrough().resume();
  const container = { output: sink(), errors: sink() };
  const streams = new MainStreams({ input, output, errors, container });
  const seen = { windows: [] as Window[], signals: [] as NodeJS.Signals[] };
  /** How often its input was full. */
  const full = { times: 0 };
  const exit = Promise.withResolvers<number>();
  const attachments = new MainAttachments(clock, {
    attach(viewer, readOnly) {
      const attached = streams.attach(viewer, readOnly);
      if (attached === undefined) return undefined;
      return {
        get owner() {
          return attached.owner;
        },
        input(chunk, drained) {
          const taken = attached.input(chunk, drained);
          if (!taken) full.times += 1;
          return taken;
        },
        detach: () => attached.detach(),
      };
    },
    terminal,
    resize: (window) => void seen.windows.push(window),
    signal: (signal) => void seen.signals.push(signal),
    exitCode: exit.promise,
  });
  const { server } = accessFixture({ subsystems: new Map([['openshell-main', attachments.start]]) });
  opened.push(server);
  const attach = async () => {
    const client = await login(server);
    client.on('error', () => undefined);
    return { client, ...(await subsystem(client)) };
  };
  return { server, clock, input, output, errors, streams, seen, full, exit, attachments, attach };
}

/** The channel, and the exit statuses that come on it; the first of them may come with its opening. */
async function subsystem(client: Client) {
  const told: number[] = [];
  const channel = await new Promise<ClientChannel>((resolve, reject) =>
    client.subsys('openshell-main', (error, opened) => {
      if (error) return reject(error);
      opened.on('error', () => undefined).on('exit', (code: number) => void told.push(code));
      resolve(opened);
    }),
  );
  return { channel, told };
}

/** Prints more than any window and any lag, to who reads nothing. */
async function flood(output: PassThrough): Promise<void> {
  for (let n = 0; n < 160; n += 1) {
    output.write(Buffer.alloc(64 << 10, 'x'));
    await turn();
  }
}

/** Of ssh2 1.17: its client resizes the terminals of shells and commands only. */
function resize(channel: ClientChannel, rows: number, columns: number): void {
  const { _client, outgoing } = channel as unknown as {
    readonly _client: {
      readonly _protocol: { windowChange(id: number, ...size: readonly number[]): void };
    };
    readonly outgoing: { readonly id: number };
  };
  _client._protocol.windowChange(outgoing.id, rows, columns, 0, 0);
}

describe('who is attached to the main process', () => {
  test('and reads nothing is sent away after two seconds, though the reason cannot reach it', async () => {
    const { clock, output, attach } = sandbox();
    const { channel, told } = await attach();
    await flood(output);
    clock.run(1_999);
    await turn();
    expect(told).toEqual([]);
    clock.run(1);
    await expect.poll(() => told).toEqual([75]);
    // Closed, and not only promised: what it has not read is behind the close.
    await expect
      .poll(() => (channel as unknown as { incoming: { state: string } }).incoming.state)
      .toBe('closed');
  });

  test('and reads late hears why it was sent away', async () => {
    const { output, attach } = sandbox();
    const { channel } = await attach();
    await flood(output);
    expect(await finished(channel)).toMatchObject({
      code: 75,
      stderr: 'openshell-sandbox: what the main process prints is not read fast enough; attach again\r\n',
    });
  });

  test('resizes and signals it only as long as it has the input', async () => {
    const { output, seen, attach } = sandbox();
    const owner = await attach();
    const watcher = await attach();
    resize(owner.channel, 10, 20);
    owner.channel.signal('INT');
    resize(watcher.channel, 11, 21);
    watcher.channel.signal('TERM');
    const only = { windows: [{ rows: 10, columns: 20, width: 0, height: 0 }], signals: ['SIGINT'] };
    await expect.poll(() => seen).toEqual(only);
    // Sent away, and the reason has not reached it yet.
    await flood(output);
    resize(owner.channel, 12, 22);
    owner.channel.signal('KILL');
    const second = await attach();
    second.channel.write('\x10\x11');
    second.channel.signal('KILL');
    expect((await finished(second.channel)).code).toBe(0);
    expect(seen).toEqual(only);
  });

  test.each([
    [false, 'one\r\ntwo\r\nthree\r\n\r\nfour', 'first\nlast\n', /no terminal, so what you type is not shown/],
    [true, 'one\ntwo\r\nthree\n\nfour', 'first\rlast\r', /^$/],
  ])(
    'on a terminal sees whole lines and types them, the main process on one: %s',
    async (its, seen, read, told) => {
      const { input, output, attach, server } = sandbox(its);
      let typed = '';
      input.on('data', (chunk) => (typed += chunk));
      output.write('one\ntwo\r');
      const client = await login(server);
      client.on('error', () => undefined);
      const shown = { output: '', errors: '' };
      const hears = heard(client);
      hears['CHANNEL_OPEN_CONFIRMATION'] = () => undefined;
      hears['CHANNEL_DATA'] = (_, __: never, data: Buffer) => (shown.output += data);
      hears['CHANNEL_EXTENDED_DATA'] = (_, __: never, data: Buffer) => (shown.errors += data);
      send(client, open('session', 0));
      const size = [u32(80), u32(24), u32(0), u32(0)];
      send(client, request(0, 'pty-req', text('xterm'), ...size, text('')));
      send(client, request(0, 'subsystem', text('openshell-main')));
      await expect.poll(() => shown.output).toContain('two');
      output.write('\nthree\n\nfour');
      send(client, packet(94, u32(0), text('first\rlast\r')));
      await expect.poll(() => [shown.output, typed]).toEqual([seen, read]);
      expect(shown.errors).toMatch(told);
      // Who has none gets the bytes as they are.
      const plain = await attach();
      let bytes = '';
      plain.channel.on('data', (chunk: Buffer) => (bytes += chunk));
      await expect.poll(() => bytes).toBe('one\ntwo\r\nthree\n\nfour');
      client.destroy();
    },
  );

  test('leaves the input to the next one, by its keys or by closing', async () => {
    const { input, attach } = sandbox();
    let typed = '';
    input.on('data', (chunk) => (typed += chunk));
    const first = await attach();
    first.channel.write('one ');
    await expect.poll(() => typed).toBe('one ');
    first.channel.write('\x10\x11');
    expect((await finished(first.channel)).code).toBe(0);
    const second = await attach();
    second.channel.write('two ');
    await expect.poll(() => typed).toBe('one two ');
    second.client.destroy();
    const third = await attach();
    await expect
      .poll(() => {
        if (third.channel.writable) third.channel.write('x');
        return typed;
      })
      .toContain('two x');
  });

  test('keeps nothing in memory that the main process does not read, once it has gone', async () => {
    const { input, full, attach } = sandbox();
    for (let n = 0; n < 12; n += 1) {
      const before = full.times;
      const { client, channel } = await attach();
      channel.resume();
      channel.write(Buffer.alloc(1_900_000, 'x'));
      await expect.poll(() => full.times).toBeGreaterThan(before);
      client.destroy();
    }
    // Of each of them it could be a packet of 32 KiB, and the window behind it.
    expect(input.writableLength + input.readableLength).toBeLessThan(128 << 10);
    // Who stays loses nothing of it.
    const stays = await attach();
    const sent = Buffer.alloc(1_900_000, 'y');
    stays.channel.write(sent);
    let received = 0;
    input.on('data', (chunk: Buffer) => {
      for (const byte of chunk) if (byte === 0x79) received += 1;
    });
    await expect.poll(() => received).toBe(sent.length);
  });

  test('is told before the replay, and in a line of its own, that it only watches', async () => {
    const { output, errors, exit, streams, attach } = sandbox();
    for (let n = 0; n < 50; n += 1) {
      output.write(Buffer.alloc(64 << 10, 'x'));
      await turn();
    }
    await attach();
    const { channel } = await attach();
    let first = '';
    channel.once('data', () => (first ||= 'replay'));
    channel.stderr.once('data', (chunk) => (first ||= String(chunk)));
    const end = finished(channel);
    output.end();
    errors.end();
    await streams.drained;
    exit.resolve(0);
    streams.end();
    expect((await end).stdout.length).toBe(1 << 20);
    expect(first).toBe('openshell-sandbox: somebody else is typing: you only watch\r\n');
  });
});

describe('at the end of the main process', () => {
  test('everybody gets the rest of its output and its status before they are closed', async () => {
    const { output, errors, exit, streams, attachments, attach } = sandbox();
    const early = await attach();
    for (let n = 0; n < 15; n += 1) {
      output.write(Buffer.alloc(64 << 10, `${n % 10}`));
      await turn();
    }
    errors.write('bad');
    await turn();
    const late = await attach();
    const all = [early, late].map(({ channel }) => finished(channel));
    exit.resolve(3);
    streams.end();
    const closed = attachments.closed(3_000);
    for (const ran of await Promise.all(all))
      expect([ran.stdout.length, ran.stderr, ran.code]).toEqual([
        15 * (64 << 10),
        expect.stringMatching(/bad$/),
        3,
      ]);
    await closed;
    // And so does who comes in the very last moment.
    const last = await attach();
    expect((await finished(last.channel)).stdout.length).toBe(15 * (64 << 10));
    expect(last.told).toEqual([3]);
  });

  test('who is sent away because of what a process of the background prints gets the status, too', async () => {
    const { output, exit, attach } = sandbox();
    const { channel } = await attach();
    exit.resolve(5);
    await flood(output);
    expect(await finished(channel)).toMatchObject({
      code: 5,
      stderr: expect.stringContaining('not read fast enough'),
    });
  });

  test('who cannot take the rest in time gets the status alone, and nobody is waited for longer', async () => {
    const { clock, output, exit, streams, attachments, attach } = sandbox();
    const { channel, told } = await attach();
    // More than ssh2 takes for a client that reads nothing, and less than would send it away.
    for (let n = 0; n < 64; n += 1) {
      output.write(Buffer.alloc(64 << 10, 'x'));
      await turn();
    }
    exit.resolve(4);
    streams.end();
    let closed = false;
    void attachments.closed(3_000).then(() => {
      closed = true;
    });
    clock.run(1_999);
    await turn();
    expect([told, closed]).toEqual([[], false]);
    clock.run(1);
    await expect.poll(() => told).toEqual([4]);
    await expect.poll(() => closed).toBe(true);
    channel.resume();
  });

  test('a client that does not even close is not waited for', async () => {
    const { clock, exit, streams, attachments, attach } = sandbox();
    const { client } = await attach();
    // It reads nothing of its connection any more.
    (client as unknown as { readonly _sock: PassThrough })._sock.pause();
    exit.resolve(4);
    streams.end();
    let closed = false;
    void attachments.closed(300).then(() => {
      closed = true;
    });
    await turn();
    clock.run(299);
    await turn();
    expect(closed).toBe(false);
    clock.run(1);
    await turn();
    expect(closed).toBe(true);
  });

  test('nobody is waited for where nobody is attached', async () => {
    await sandbox().attachments.closed(3_000);
  });
});

test('a main process on a terminal of the container refuses everybody', async () => {
  const { server } = accessFixture({
    subsystems: new Map([['openshell-main', new MainAttachments(new VirtualClock(), undefined).start]]),
  });
  opened.push(server);
  const { channel } = await subsystem(await login(server));
  expect(await finished(channel)).toMatchObject({
    code: 75,
    stderr: expect.stringContaining('the terminal that the container has'),
  });
});
