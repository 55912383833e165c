import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { closeSync, constants, copyFileSync, openSync, readFileSync, statSync } from 'node:fs';
import type { Socket } from 'node:net';
import { join, resolve } from 'node:path';
import { describe, expect, test } from 'vitest';
import { temporaryDirectory } from '../temporary-directory.ts';

const INIT = resolve(import.meta.dirname, '../../init');
const { directory } = temporaryDirectory('pty-test-');

const hasClang = spawnSync('sh', ['-c', 'command -v clang']).status === 0;
const isRoot = process.getuid?.() === 0;

function build(sanitized: boolean): string {
  const out = join(directory, sanitized ? 'asan' : 'plain');
  const flags = [
    'CC=clang',
    'CFLAGS=-O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all',
    ...['LDFLAGS=', 'INCLUDES=', 'DEFS=-D_GNU_SOURCE'],
  ];
  execFileSync('make', ['-s', '-C', INIT, `OUT=${out}`, ...(sanitized ? flags : [])]);
  return join(out, 'openshell-sandbox');
}

/** The holder of a terminal, and a session on it. */
async function hold(binary: string, commands: readonly string[] = [], ids: readonly string[] = []) {
  const child = spawn(binary, ['pty', ...ids], {
    env: { ASAN_OPTIONS: 'detect_leaks=0' },
    stdio: ['pipe', 'pipe', 'pipe', 'pipe'],
  });
  const control = child.stdio[3] as Socket;
  const exited = once(child, 'exit');
  let [report, errors] = ['', ''];
  control.on('data', (chunk) => {
    report += chunk.toString();
  });
  control.on('error', () => undefined);
  child.stdin.on('error', () => undefined);
  child.stderr.on('data', (chunk) => {
    errors += chunk.toString();
  });
  control.write([...commands, 'name', ''].join('\n'));
  await expect.poll(() => report).toMatch(/\n/);
  const number = /^pts (\d+)$/m.exec(report)?.[1];
  return {
    child,
    control,
    exited,
    errors: () => errors,
    report: () => report,
    path: `/dev/pts/${number}`,
    /** Starts a program on it, with a session of its own, and lets bytes flow. */
    start(...argv: readonly string[]) {
      const end = openSync(`/dev/pts/${number}`, constants.O_RDWR | constants.O_NOCTTY);
      const session = spawn('setsid', ['-c', ...argv], { stdio: [end, end, end] });
      closeSync(end);
      control.write('run\n');
      return session;
    },
  };
}

function reading(stream: NodeJS.ReadableStream) {
  const chunks: Buffer[] = [];
  stream.on('data', (chunk: Buffer) => chunks.push(chunk));
  return () => Buffer.concat(chunks);
}

const kinds = [
  ['as it ships', false],
  ['under sanitizers', true],
] as const;
describe.each(kinds.filter(([, sanitized]) => !sanitized || hasClang))('a terminal, %s', (_, sanitized) => {
  const binary = build(sanitized);

  test('has its size and modes before its session starts, and tells it of a new size', async () => {
    const held = await hold(binary, ['size 100 40 0 0', 'mode ECHO 0', 'mode VINTR 7', 'mode NONE 1']);
    const printed = reading(held.child.stdout);
    const session = held.start(
      'bash',
      '-c',
      'stty size; stty -a; trap "stty size; exit 5" WINCH; echo ready; while read -t 20 x; do :; done',
    );
    await expect.poll(() => printed().toString()).toContain('ready');
    expect(printed().toString()).toMatch(/^40 100\r\n/);
    expect(printed().toString()).toMatch(/intr = \^G;/);
    expect(printed().toString()).toMatch(/ -echo /);
    held.control.write('size 120 50 1 1\n');
    expect((await once(session, 'exit'))[0]).toBe(5);
    held.control.write('drain\n');
    await held.exited;
    expect(printed().toString()).toContain('50 120\r\n');
    expect([held.errors(), held.child.exitCode]).toEqual(['', 0]);
  });

  test('carries 10 MB of random bytes in raw mode, both ways at once, to a reader that is slow to begin', async () => {
    const held = await hold(binary);
    const bytes = randomBytes(10 << 20);
    const session = held.start('sh', '-c', `stty raw -echo; echo ready; head -c ${bytes.length}; echo end`);
    const [ready] = (await once(held.child.stdout, 'data')) as [Buffer];
    expect(ready.toString()).toContain('ready');
    held.child.stdout.pause();
    held.child.stdin.write(bytes);
    // What nobody reads holds the session up: it cannot have ended.
    expect(session.exitCode).toBeNull();
    const printed = reading(held.child.stdout);
    held.child.stdout.resume();
    await once(session, 'exit');
    held.control.write('drain\n');
    await held.exited;
    const all = printed();
    const from = all.length - bytes.length - 4;
    expect(all.subarray(from, from + bytes.length).equals(bytes)).toBe(true);
    expect([held.errors(), held.child.exitCode]).toEqual(['', 0]);
  }, 60_000);

  test('interrupts and stops the foreground job, and the shell goes on', async () => {
    const held = await hold(binary);
    const printed = reading(held.child.stdout);
    const session = held.start('bash', '--norc', '--noprofile', '-i');
    held.child.stdin.write('PS1=; sleep 1000\n');
    await expect.poll(() => printed().toString()).toContain('sleep 1000');
    const foreground = () => spawnSync('ps', ['-o', 'comm=', '-t', held.path.slice(5)]).stdout.toString();
    await expect.poll(foreground).toContain('sleep');
    held.child.stdin.write('\x03');
    held.child.stdin.write('echo interrupted:$?\n');
    await expect.poll(() => printed().toString()).toContain('interrupted:130');
    held.child.stdin.write('sleep 1000\n');
    await expect.poll(foreground).toContain('sleep');
    held.child.stdin.write('\x1a');
    await expect.poll(() => printed().toString()).toContain('Stopped');
    held.child.stdin.write('kill %1; exit 9\nexit 9\n');
    expect((await once(session, 'exit'))[0]).toBe(9);
    held.control.write('drain\n');
    await held.exited;
    expect(held.child.exitCode).toBe(0);
  });

  test.each([
    ['the supervisor hangs up', (held: Awaited<ReturnType<typeof hold>>) => held.control.destroy()],
    ['nobody reads it any more', (held: Awaited<ReturnType<typeof hold>>) => held.child.stdout.destroy()],
  ])('sends SIGHUP to its session when %s', async (_name, hangUp) => {
    const held = await hold(binary);
    const session = held.start('sh', '-c', 'echo ready; exec sleep 1000');
    await once(held.child.stdout, 'data');
    hangUp(held);
    expect(await once(session, 'exit')).toEqual([null, 'SIGHUP']);
    expect((await held.exited)[0]).toBe(0);
  });

  test('goes on when there is nothing more to type, without using the processor', async () => {
    const held = await hold(binary);
    const printed = reading(held.child.stdout);
    const session = held.start('sh', '-c', 'echo ready; sleep 1; echo done; sleep 1000 & exit 3');
    held.child.stdin.end();
    expect((await once(session, 'exit'))[0]).toBe(3);
    const [, , user = '', system = ''] =
      /^.*\) (.*)$/s
        .exec(readFileSync(`/proc/${held.child.pid}/stat`, 'latin1'))?.[1]
        ?.split(' ')
        .slice(9) ?? [];
    expect(Number(user) + Number(system)).toBeLessThan(10); // ticks of 10 ms, in a second of waiting
    // A process of the background holds the other end; what was printed comes all the same, and then the end.
    held.control.write('drain\n');
    await held.exited;
    expect(printed().toString()).toBe('ready\r\ndone\r\n');
  });

  test('is still there when its program has closed everything, so that it can end in peace', async () => {
    const held = await hold(binary);
    const session = held.start('sh', '-c', 'exec 0<&- 1>&- 2>&-; sleep 0.2; exit 4');
    expect(await once(session, 'exit')).toEqual([4, null]);
    held.control.write('drain\n');
    expect((await held.exited)[0]).toBe(0);
  });

  test('goes on with a program that has closed its whole terminal and opens it again', async () => {
    const held = await hold(binary);
    const printed = reading(held.child.stdout);
    const session = held.start(
      'bash',
      '-c',
      `exec 0<&- 1>&- 2>&-; sleep 0.4; exec 0<>${held.path} 1>&0; stty -echo; head -c 300000 /dev/zero | tr '\\0' x; read answer; echo "<$answer>"; exit 6`,
    );
    await expect.poll(() => printed().length, { timeout: 5_000 }).toBeGreaterThan(299_999);
    held.child.stdin.write('typed\n');
    expect(await once(session, 'exit')).toEqual([6, null]);
    held.control.write('drain\n');
    expect((await held.exited)[0]).toBe(0);
    expect(printed().toString().replaceAll('x', '')).toBe('<typed>\r\n');
    expect(printed().length).toBe(300_000 + 9);
  }, 15_000);

  test('hands over what came after such a gap, though the session has ended at once', async () => {
    const held = await hold(binary);
    const printed = reading(held.child.stdout);
    const session = held.start(
      'bash',
      '-c',
      `exec 0<&- 1>&- 2>&-; sleep 0.35; exec >${held.path}; echo late`,
    );
    await once(session, 'exit');
    held.control.write('drain\n');
    await held.exited;
    expect(printed().toString()).toBe('late\r\n');
  });

  test('says its name unasked, and is nobody’s to take before its session has it', async () => {
    const held = await hold(binary);
    const printed = reading(held.child.stdout);
    const end = openSync(held.path, constants.O_RDWR | constants.O_NOCTTY);
    const steal = () =>
      spawnSync('setsid', ['sh', '-c', `exec 0<>${held.path} && sleep 0.1`], { encoding: 'utf8' }).stderr;
    held.control.write('lock\n');
    await expect.poll(steal).toMatch(/Input\/output error|I\/O error/);
    const script = `sleep 0.3; exec 9<>/dev/tty && echo named >&9; exec 8<>${held.path} && echo numbered >&8; exit 4`;
    const session = spawn('setsid', ['-c', 'bash', '-c', script], { stdio: [end, end, end] });
    closeSync(end);
    held.control.write('run\n');
    expect((await once(session, 'exit'))[0]).toBe(4);
    held.control.write('drain\n');
    await held.exited;
    expect(printed().toString()).toBe('named\r\nnumbered\r\n');
  });

  test('ends with the supervisor, and says what it does not understand', async () => {
    const held = await hold(binary);
    held.control.write('size 1 2 3\n');
    expect((await held.exited)[0]).toBe(70);
    expect(held.report()).toContain('fail 70 the supervisor sent a terminal a command that it does not know');
    const other = await hold(binary);
    other.control.write('x'.repeat(200));
    expect((await other.exited)[0]).toBe(70);
  });
});

const plain = join(directory, 'plain/openshell-sandbox');

test.skipIf(!isRoot)('belongs to the user that it is told, who cannot become root again', async () => {
  const held = await hold(plain, [], ['1234', '1235']);
  expect(statSync(held.path).uid).toBe(1234);
  const status = readFileSync(`/proc/${held.child.pid}/status`, 'latin1');
  expect(status).toMatch(/^Uid:\t1234\t1234\t1234\t1234$/m);
  expect(status).toMatch(/^Groups:\t\s*$/m);
  expect(status).toMatch(/^CapPrm:\t0+$/m);
  held.control.destroy();
  await held.exited;
  for (const ids of [['0', '1'], ['1', 'x'], ['1']])
    expect(
      (spawnSync(plain, ['pty', ...ids], { stdio: ['ignore', 'ignore', 'ignore', 'pipe'] }).status ?? 0) > 0,
    ).toBe(true);
});

test.skipIf(!isRoot)('says what to mount where a container has no terminals', async () => {
  copyFileSync(plain, join(directory, 'pty'));
  const child = spawn('chroot', [directory, '/pty', 'pty'], { stdio: ['pipe', 'pipe', 'inherit', 'pipe'] });
  const report = reading(child.stdio[3] as Socket);
  expect((await once(child, 'exit'))[0]).toBe(70);
  await expect
    .poll(() => report().toString())
    .toBe(
      'fail 70 this container has no terminals: /dev/ptmx cannot be opened (ENOENT); mount a devpts at /dev/pts\n',
    );
});
