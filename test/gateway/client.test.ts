/** What a person sees of the development gateway's client: the real program, against a gateway and a sandbox in this process. */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { Duplex, PassThrough } from 'node:stream';
import { beforeEach, expect, test } from 'vitest';
import type { RelayEvent } from '../../supervisor/gateway/relay/relays.ts';
import { ok } from '../../supervisor/result.ts';
import { forwardPort, portsOf } from '../dev-gateway/client/forward.ts';
import { copyWords, sshOptions } from '../dev-gateway/client/openssh.ts';
import { gatewayPlace } from '../dev-gateway/client/place.ts';
import { type DevGateway, startDevGateway } from '../dev-gateway/server.ts';
import { undoAfterEach } from '../undo-after-each.ts';
import { linkTo, until } from './link-fixture.ts';
import { sandboxAt } from './sandbox-fixture.ts';
import { SIZES, SlowTarget } from './slow-target.ts';

const MAIN = join(import.meta.dirname, '../dev-gateway/main.ts');

let gateway: DevGateway;
const undo = undoAfterEach();
beforeEach(async () => {
  gateway = await startDevGateway({});
  undo.push(() => gateway.stop());
});

async function sandbox() {
  const { stop, ...started } = await sandboxAt(gateway);
  undo.push(stop);
  return started;
}

const start = (...words: readonly string[]): ChildProcessWithoutNullStreams => {
  const child = spawn(process.execPath, [MAIN, ...words]);
  undo.push(() => child.kill('SIGKILL'));
  child.stdin.on('error', () => undefined);
  return child;
};

/** All that a program says, to its end. */
async function ended(child: ChildProcessWithoutNullStreams) {
  const said = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const)
    child[name].setEncoding('utf8').on('data', (text: string) => {
      said[name] += text;
    });
  const code = await new Promise<number | null>((resolve) => child.once('close', resolve));
  return { code, ...said };
}

/** A verb for the gateway of this test; what is behind `--` comes last. */
const at = (verb: string, ...words: readonly string[]): ChildProcessWithoutNullStreams =>
  start(verb, '--gateway', `127.0.0.1:${gateway.port}`, ...words);

const NOWHERE = '127.0.0.1:1';

test.each([
  ['no command', ['exec'], 64, 'there is no command: put it behind --, as in exec -- ls -l'],
  ['a command in the wrong place', ['exec', 'ls'], 64, 'the command goes behind --'],
  ['a command where there is none', ['logs', '--', 'x'], 64, 'only the command of exec goes behind --'],
  [
    'a variable without a value',
    ['exec', '--env', 'A', '--', 'true'],
    64,
    '--env must be NAME=value, is "A"',
  ],
  ['a variable of no name', ['exec', '--env', '1A=x', '--', 'true'], 64, '"1A" is no name of a variable'],
  [
    'half a second',
    ['exec', '--timeout', '0.5', '--', 'true'],
    64,
    '--timeout must be a whole number from 0',
  ],
  [
    'a sandbox that is not there',
    ['exec', '--sandbox', 'sb-2', '--', 'true'],
    69,
    'no sandbox is called "sb-2"; connected: sb-1',
  ],
  [
    'no gateway',
    ['exec', '--gateway', NOWHERE, '--', 'true'],
    69,
    `no gateway answers at ${NOWHERE}: start one with "npm run`,
  ],
  [
    'what is no gateway',
    ['exec', '--gateway', 'ftp://x', '--', 'true'],
    64,
    '--gateway must be HOST:PORT or http://HOST:PORT',
  ],
  ['ports that are none', ['forward', '70000'], 64, 'the ports must be PORT or LOCAL:PORT'],
  ['a forward without a gateway', ['forward', '1', '--gateway', NOWHERE], 69, 'no gateway answers'],
  ['a forward into no sandbox', ['forward', '0:1', '--sandbox', 'sb-2'], 69, 'no sandbox is called "sb-2"'],
  ['a copy of nothing', ['cp', ':/tmp/a'], 64, 'cp needs what to copy and where to'],
  ['a copy that leaves the sandbox alone', ['cp', 'a', 'b'], 64, 'put a colon before it'],
  ['a copy into no sandbox', ['cp', '--sandbox', 'sb-2', 'a', ':b'], 69, 'no sandbox is called "sb-2"'],
  ['a look at no sandbox', ['logs', '--sandbox', 'sb-2'], 69, 'no sandbox is called "sb-2"'],
  ['a level that is none', ['logs', '--level', 'loud'], 64, 'Choices: "error"'],
  ['a file that is not there', ['set-policy', '/nonexistent'], 64, 'no such file or directory'],
  ['no control', ['sessions', '--control', NOWHERE], 69, 'control answers at http://127.0.0.1:1/: start one'],
])('%s ends the client with one line that says what to change', async (_, words, code, why) => {
  await sandbox();
  const own = words.includes('--gateway') || words.includes('--control') || words[0] === 'set-policy';
  const [verb = '', ...rest] = words;
  const { stderr, stdout, ...how } = await ended(own ? start(...words) : at(verb, ...rest));
  expect(stderr).toMatch(/^dev-gateway: [^\n]+\n$/);
  expect(stderr).toContain(why);
  expect([how.code, stdout]).toEqual([code, '']);
});

test('a port that is taken is named with the flag that chooses another', async () => {
  const words = ['serve', '--port', `${gateway.port}`, '--control-port', '0'];
  expect(await ended(start(...words))).toEqual({
    code: 73,
    stdout: '',
    stderr: `dev-gateway: port ${gateway.port} is taken: choose another with --port, or 0 for any free one\n`,
  });
});

test('a command has its words as they were typed, its input to the end, and its exit code is the client’s', async () => {
  await sandbox();
  const script = 'cat; echo "$@"; echo wrong >&2; exit 75';
  const child = at(
    'exec',
    '--',
    'sh',
    '-c',
    script,
    'sh',
    '007',
    '1e3',
    '0x10',
    '--sandbox',
    '$HOME',
    "it's",
  );
  child.stdin.end('typed\n');
  expect(await ended(child)).toEqual({
    code: 75,
    stdout: "typed\n007 1e3 0x10 --sandbox $HOME it's\n",
    stderr: 'wrong\n',
  });
});

test('a command whose output nobody reads any more ends, and the client quietly with it', async () => {
  const { asked } = await sandbox();
  const child = at('exec', '--', 'yes');
  child.stdout.once('data', () => child.stdout.destroy());
  let complaint = '';
  child.stderr.on('data', (text) => (complaint += text));
  expect(await new Promise((resolve) => child.once('exit', resolve))).toBe(141);
  expect(complaint).toBe('');
  await until(() => asked.ended === 1);
});

test('a sandbox that goes ends a command with the reason', async () => {
  const { stop } = await sandboxAt(gateway);
  const child = at('exec', '--', 'sh', '-c', 'echo begins; sleep 1000');
  const [said] = [ended(child), await new Promise((resolve) => child.stdout.once('data', resolve))];
  await stop();
  expect(await said).toMatchObject({
    code: 69,
    stderr: 'dev-gateway: the connection to the sandbox was lost, and what ran was hung up\n',
  });
});

test('a gateway that goes ends what follows its logs, and that says so', async () => {
  await sandbox();
  const child = at('logs', '--follow');
  const [said] = [ended(child), await new Promise((resolve) => child.stdout.once('data', resolve))];
  await gateway.refuse();
  expect(await said).toMatchObject({
    code: 69,
    stderr: 'dev-gateway: the gateway has given the call up; was it stopped?\n',
  });
});

test('logs that are followed end with 130 when a person interrupts them', async () => {
  await sandbox();
  const child = at('logs', '--follow');
  const [said] = [ended(child), await new Promise((resolve) => child.stdout.once('data', resolve))];
  child.kill('SIGINT');
  expect(await said).toMatchObject({ code: 130, stderr: '' });
});

test('OpenSSH’s proxy that is told to go ends its relay in both directions', async () => {
  const { events } = await sandbox();
  const child = at('ssh-proxy');
  await new Promise((resolve) => child.stdout.once('data', resolve));
  child.kill('SIGHUP');
  expect(await ended(child)).toMatchObject({ code: 0, stderr: '' });
  await until(() => events.some(({ kind }) => kind === 'closed'));
  expect(events.at(-1)).toMatchObject({ kind: 'closed', reason: undefined });
});

/** A port of this machine that leads to `target`s in a sandbox, one for each connection. */
async function forwarded(target: () => Duplex) {
  const { token } = gateway.mintToken('sb-1');
  const events: RelayEvent[] = [];
  const { link, established } = linkTo(gateway.port, () => token, {
    relays: { connect: async () => ok(target()), max: 64, observe: (event) => events.push(event) },
  });
  await link.prepare();
  link.startSession();
  undo.push(() => link.stop(100));
  await established();
  const complaints: string[] = [];
  const stopped = Promise.withResolvers<number>();
  let said = '';
  const report = {
    listens: (line: string) => (said = line),
    failed: (reason: string) => complaints.push(reason),
  };
  const over = forwardPort(
    { gateway: `127.0.0.1:${gateway.port}`, sandbox: '' },
    [0, 7],
    report,
    stopped.promise,
  );
  await until(() => said !== '');
  expect(said).toMatch(/^127\.0\.0\.1:\d+ leads to port 7 of sb-1$/);
  const local = () => connect({ port: Number(/:(\d+) /.exec(said)?.[1]), allowHalfOpen: true });
  return { local, events, complaints, over, stop: () => stopped.resolve(130) };
}

/** What comes until the other side ends. */
const everything = (socket: Socket): Promise<string> => {
  let text = '';
  socket.on('data', (chunk) => (text += chunk));
  return new Promise((resolve, reject) => socket.once('end', () => resolve(text)).once('error', reject));
};

test('a forwarded port survives connections that break off before they are through, and carries many at once', async () => {
  const { local, complaints, over, stop } = await forwarded(() => new PassThrough());
  for (let n = 0; n < 8; n += 1) {
    const early = local();
    early.on('error', () => undefined);
    await new Promise<void>((resolve) =>
      early.once('connect', () => resolve(early.resetAndDestroy() && undefined)),
    );
  }
  const texts = Array.from({ length: 8 }, (_, n) => `${n}`.repeat(100_000));
  const echoes = texts.map((text) => everything(local().end(text)));
  expect(await Promise.all(echoes)).toEqual(texts);
  expect(complaints).toEqual([]);
  const open = local();
  open.on('error', () => undefined);
  open.write('x');
  await new Promise((resolve) => open.once('data', resolve));
  stop();
  expect(await over).toBe(130);
  await new Promise((resolve) => open.once('close', resolve));
  expect(complaints).toEqual([]);
});

test('a forwarded port brings all of an upload to a server that has ended first and reads slowly', async () => {
  const targets: SlowTarget[] = [];
  const { local } = await forwarded(() => {
    targets.push(new SlowTarget());
    return targets.at(-1) ?? new SlowTarget();
  });
  await Promise.all(SIZES.map((size) => everything(local().end(Buffer.alloc(size)))));
  const sorted = () => targets.map(({ received }) => received).sort((a, b) => a - b);
  await until(() => sorted().join() === SIZES.join());
}, 30_000);

test('a forwarded connection whose client breaks off after its upload ends in the sandbox too', async () => {
  let asked = false;
  const endless = (): Duplex =>
    new Duplex({
      read(size) {
        this.push(Buffer.alloc(size));
      },
      write: (_chunk, _encoding, done) => done(),
      final(done) {
        asked = true;
        done();
      },
    });
  const { local, events } = await forwarded(endless);
  const socket = local();
  socket.on('error', () => undefined);
  socket.end('a question');
  await until(() => asked);
  socket.resetAndDestroy();
  await until(() => events.some(({ kind }) => kind === 'closed'));
});

test.each([
  ['127.0.0.1:8080', '127.0.0.1:8080'],
  ['gateway.test', 'gateway.test:8080'],
  ['http://gateway.test:80/', 'gateway.test:80'],
  ['[::1]:8081', '[::1]:8081'],
])('the gateway %s is at %s', (text, place) => {
  expect(gatewayPlace(text)).toBe(place);
});

test.each(['', 'https://gateway.test', 'http://gateway.test/path', 'a:b', 'host:99999', 'two words'])(
  'the gateway %j is none',
  (text) => {
    expect(() => gatewayPlace(text)).toThrow('--gateway must be');
  },
);

test('ports are one for both sides, or one for each', () => {
  expect([portsOf('8000'), portsOf('9000:8000'), portsOf('0:8000')]).toEqual([
    [8000, 8000],
    [9000, 8000],
    [0, 8000],
  ]);
  for (const text of ['', '0', '1:0', '65536', 'a', '1:', ':1', '1:2:3'])
    expect(() => portsOf(text)).toThrow('the ports must be');
});

test('paths of a copy are the sandbox’s by their colon, and no local one is taken for a host or a flag', () => {
  expect(copyWords(['a b', './c:d', 'c:d', '/e:f', '-g', ':/tmp/h i'])).toEqual([
    ...['--', 'a b', './c:d', './c:d', '/e:f', '-g', 'sandbox:/tmp/h i'],
  ]);
});

test('the proxy’s command is the same words after OpenSSH and a shell have read it', () => {
  const [, command] = sshOptions({ gateway: '[::1]:8080', sandbox: "it's 100 %h" });
  expect(command).toMatch(/ ssh-proxy --gateway '\[::1\]:8080' --sandbox 'it'"'"'s 100 %%h'$/);
});
