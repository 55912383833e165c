import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { CallerIdentification } from '../../supervisor/egress/identity/caller.ts';
import { ExecutableHashes } from '../../supervisor/egress/identity/executable-hash.ts';
import { heldSockets, parseStat } from '../../supervisor/egress/identity/process-table.ts';
import { findClientInode } from '../../supervisor/egress/identity/socket-table.ts';

/** A program that connects, forks if asked, and stays: the kernel's own view of it is what is tested. */
const PROGRAM = `
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>
static int s;
static int own(void *unused) { write(s, "x", 1); sleep(30); return 0; }
static char stack[65536];
int main(int argc, char **argv) {
  struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(atoi(argv[1])) };
  inet_pton(AF_INET, "127.0.0.1", &a.sin_addr);
  s = socket(AF_INET, SOCK_STREAM, 0);
  if (connect(s, (void *)&a, sizeof a)) return 1;
  if (argc > 2 && !strcmp(argv[2], "hide")) prctl(PR_SET_DUMPABLE, 0);
  if (argc > 2 && !strcmp(argv[2], "fork")) fork();
  if (argc > 3 && fork() == 0) execl(argv[3], argv[3], "30", (char *)0);
  if (argc > 2 && !strcmp(argv[2], "thread")) {
    clone(own, stack + sizeof stack, CLONE_VM | CLONE_SIGHAND | CLONE_THREAD, 0);
    close(s);
  } else write(s, "x", 1);
  sleep(30);
}`;

let directory: string;
let binary: string;
const server = createServer();
const waiting: ((socket: Socket) => void)[] = [];
const children: ChildProcess[] = [];

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'identity-'));
  binary = join(directory, 'client');
  execFileSync('cc', ['-x', 'c', '-o', binary, '-'], { input: PROGRAM, stdio: ['pipe', 'pipe', 'pipe'] });
  server.on('connection', (socket) => socket.once('data', () => waiting.shift()?.(socket)));
  await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
});
afterAll(() => {
  for (const { pid } of children) if (pid !== undefined) process.kill(-pid, 'SIGKILL');
  server.close();
  rmSync(directory, { recursive: true });
});

/** Starts the program and resolves with our end of its connection. */
async function connection(...args: string[]) {
  const address = server.address();
  const port = typeof address === 'object' && address !== null ? address.port : 0;
  const accepted = new Promise<Socket>((resolve) => waiting.push(resolve));
  const child = spawn(binary, [`${port}`, ...args], { detached: true, stdio: 'ignore' });
  children.push(child);
  const socket = await accepted;
  const { localAddress = '', localPort = 0, remoteAddress = '', remotePort = 0 } = socket;
  return { child, connection: { localAddress, localPort, remoteAddress, remotePort } };
}
const pause = () => Promise.resolve();
const callers = () => new CallerIdentification({ proc: '/proc', excluded: new Set([1]), pause });

describe('the caller behind a connection', () => {
  test('is the process that made it, with its executable and the chain above it', async () => {
    const made = await connection();
    const identity = await callers().identify(made.connection, process.pid);
    expect(identity).toMatchObject({
      ok: true,
      value: {
        pid: made.child.pid,
        binary,
        ancestors: [process.execPath],
        cmdline: [binary, expect.any(String)],
      },
    });
  });

  test('may be a process and its own fork', async () => {
    const made = await connection('fork');
    expect(await callers().identify(made.connection, process.pid)).toMatchObject({
      ok: true,
      value: { binary },
    });
  });

  test('is nobody when another program shares the socket', async () => {
    const made = await connection('stay', '/bin/sleep');
    await expect.poll(async () => (await callers().identify(made.connection, process.pid)).ok).toBe(false);
    expect(await callers().identify(made.connection, process.pid)).toMatchObject({
      error: expect.stringContaining('different programs share the socket'),
    });
  });

  test('is found when only a thread with descriptors of its own holds the socket', async () => {
    const made = await connection('thread');
    expect(await callers().identify(made.connection, process.pid)).toMatchObject({
      ok: true,
      value: { pid: made.child.pid, binary },
    });
  });

  test('is nobody when no socket has those ends', async () => {
    const nowhere = { localAddress: '127.0.0.1', localPort: 1, remoteAddress: '127.0.0.1', remotePort: 2 };
    expect((await callers().identify(nowhere, process.pid)).ok).toBe(false);
  });

  test('is nobody when it is one of ours', async () => {
    const made = await connection();
    const excluded = new CallerIdentification({
      proc: '/proc',
      excluded: new Set([made.child.pid ?? 0]),
      pause,
    });
    expect((await excluded.identify(made.connection, process.pid)).ok).toBe(false);
  });
});

describe('a process whose descriptors cannot be read', () => {
  const ends = { localAddress: '127.0.0.1', localPort: 3128, remoteAddress: '127.0.0.1', remotePort: 40000 };

  /** A proc with a caller, pid 20, and a process 30 whose descriptors answer with an error. */
  function forgedProc(state: string, flags: number): string {
    const proc = mkdtempSync(join(directory, 'proc-'));
    const stat = (pid: number, how: string, bits: number) =>
      `${pid} (x) ${how} 1 1 1 0 -1 ${bits} 1 2 3 4 5 6 7 8 20 0 1 0 4711 9 9`;
    for (const pid of [20, 30]) mkdirSync(`${proc}/${pid}/task/${pid}`, { recursive: true });
    mkdirSync(`${proc}/20/net`);
    writeFileSync(`${proc}/20/net/tcp`, 'head\n 0: 0100007F:9C40 0100007F:0C38 01 0:0 0:0 0 0 0 77 1\n');
    mkdirSync(`${proc}/20/task/20/fd`);
    symlinkSync('socket:[77]', `${proc}/20/task/20/fd/3`);
    symlinkSync(binary, `${proc}/20/exe`);
    writeFileSync(`${proc}/20/stat`, stat(20, 'S', 0));
    writeFileSync(`${proc}/20/cmdline`, 'client\0');
    writeFileSync(`${proc}/30/task/30/fd`, ''); // listing it fails with ENOTDIR, whoever runs the test
    writeFileSync(`${proc}/30/task/30/stat`, stat(30, state, flags));
    return proc;
  }
  const identify = (proc: string, ...excluded: number[]) =>
    new CallerIdentification({ proc, excluded: new Set(excluded), pause }).identify(ends, 20);

  test('denies the connection although an owner was found, and is named', async () => {
    const error = expect.stringContaining('process 30 hides its descriptors');
    expect(await identify(forgedProc('S', 0))).toMatchObject({ ok: false, error });
  });

  test('is looked at again, because a session that is being started hides itself for a moment', async () => {
    const proc = forgedProc('S', 0);
    let pauses = 0;
    const patient = new CallerIdentification({
      proc,
      excluded: new Set(),
      pause: async () => {
        pauses += 1;
        if (pauses < 3) return;
        rmSync(`${proc}/30/task/30/fd`, { force: true, recursive: true });
        mkdirSync(`${proc}/30/task/30/fd`);
      },
    });
    expect(await patient.identify(ends, 20)).toMatchObject({ ok: true, value: { pid: 20 } });
    expect(pauses).toBe(3);
  });

  test('does not matter when it runs as root and the workload does not', async () => {
    const proc = forgedProc('S', 0);
    const workload = (workloadUid: number, uid: string) => {
      writeFileSync(`${proc}/30/status`, `Name:\tx\nUid:\t${uid}\t0\t0\t0\n`);
      return new CallerIdentification({ proc, excluded: new Set(), pause, workloadUid }).identify(ends, 20);
    };
    expect(await workload(1000, '0')).toMatchObject({ ok: true, value: { pid: 20 } });
    expect((await workload(1000, '1000')).ok).toBe(false);
    expect((await workload(1000, '1001')).ok).toBe(false);
  });

  test('does not matter when it is excluded, a zombie or a kernel thread', async () => {
    const caller = { ok: true, value: { pid: 20, binary } };
    expect(await identify(forgedProc('S', 0), 30)).toMatchObject(caller);
    expect(await identify(forgedProc('Z', 0))).toMatchObject(caller);
    expect(await identify(forgedProc('S', 0x20_8040))).toMatchObject(caller);
  });

  test('is told from one that has ended', () => {
    expect(heldSockets('/proc', 2 ** 22 + 1, new Map([['socket:[1]', 1]]))).toEqual({
      held: new Set(),
      hidden: false,
    });
  });
});

describe('an executable', () => {
  test('keeps the contents of its first use, even when two connections are the first at once', async () => {
    const proc = mkdtempSync(join(directory, 'hash-'));
    const hashes = new ExecutableHashes();
    for (const pid of [1, 2]) {
      mkdirSync(`${proc}/${pid}`);
      copyFileSync(binary, `${proc}/${pid}/exe`);
    }
    writeFileSync(`${proc}/2/exe`, 'other contents');
    const both = await Promise.all([hashes.check(proc, 1, '/bin/x'), hashes.check(proc, 2, '/bin/x')]);
    expect(both.filter(({ ok }) => ok)).toHaveLength(1);
    expect(both.find(({ ok }) => !ok)).toMatchObject({
      error: expect.stringContaining('has changed since it was first used'),
    });
  });
});

test.skipIf(process.getuid?.() !== 0)(
  'an executable is read although the supervisor becomes root meanwhile, who may not',
  () => {
    const script = join(import.meta.dirname, 'hash-beside-root.ts');
    const command = ['--bounding-set=-sys_ptrace', '--inh-caps=-sys_ptrace', process.execPath, script];
    const printed = execFileSync('setpriv', command, { encoding: 'utf8', timeout: 30_000 });
    expect(JSON.parse(printed)).toEqual({ ok: true, value: expect.stringMatching(/^[0-9a-f]{64}$/) });
  },
);

describe('the tables of proc', () => {
  const header =
    '  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n';
  const row = (local: string, remote: string, state: string, inode: number) =>
    `   0: ${local} ${remote} ${state} 00000000:00000000 00:00000000 00000000  1000        0 ${inode} 1 0000000000000000\n`;
  const ends = { localAddress: '127.0.0.1', localPort: 3128, remoteAddress: '127.0.0.1', remotePort: 40000 };
  const mine = '0100007F:9C40';
  const theirs = '0100007F:0C38';

  test('tell the client’s socket from the server’s, and from one that is being torn down', () => {
    expect(findClientInode(header + row(theirs, mine, '01', 5) + row(mine, theirs, '01', 6), ends)).toBe(6);
    expect(findClientInode(header + row(mine, theirs, '06', 6), ends)).toBeUndefined();
    expect(findClientInode(header + row(mine, theirs, '05', 6), ends)).toBe(6);
    expect(findClientInode(header + row(mine, theirs, '05', 0), ends)).toBeUndefined();
  });

  test('fold an IPv4-mapped address into IPv4', () => {
    const mapped = (text: string) => `0000000000000000FFFF0000${text}`;
    const text = header + row(mapped(mine), mapped(theirs), '01', 7);
    expect(
      findClientInode(text, { ...ends, localAddress: '::ffff:127.0.0.1', remoteAddress: '::ffff:127.0.0.1' }),
    ).toBe(7);
  });

  test('never make the parsers throw', () => {
    void fc.assert(
      fc.property(fc.string(), (text) => {
        findClientInode(text, ends);
        parseStat(text);
      }),
    );
  });

  test('give parent and start time of a process whose name tries to forge them', () => {
    const forged = '12 (a) R 99 (x) S 7 12 12 0 -1 4 1 2 3 4 5 6 7 8 20 0 1 0 4711 9 9';
    expect(parseStat(forged)).toEqual({ parent: 7, startTime: '4711' });
    const own = parseStat(readFileSync('/proc/self/stat', 'latin1'));
    expect(own?.parent).toBe(process.ppid);
  });
});
