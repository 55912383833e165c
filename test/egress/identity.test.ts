import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { CallerIdentification } from '../../supervisor/egress/identity/caller.ts';
import { parseStat } from '../../supervisor/egress/identity/process-table.ts';
import { findClientInode } from '../../supervisor/egress/identity/socket-table.ts';

/** A program that connects, forks if asked, and stays: the kernel's own view of it is what is tested. */
const PROGRAM = `
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>
int main(int argc, char **argv) {
  struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(atoi(argv[1])) };
  inet_pton(AF_INET, "127.0.0.1", &a.sin_addr);
  int s = socket(AF_INET, SOCK_STREAM, 0);
  if (connect(s, (void *)&a, sizeof a)) return 1;
  if (argc > 2 && !strcmp(argv[2], "hide")) prctl(PR_SET_DUMPABLE, 0);
  if (argc > 2 && !strcmp(argv[2], "fork")) fork();
  if (argc > 3 && fork() == 0) execl(argv[3], argv[3], "30", (char *)0);
  write(s, "x", 1);
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
const callers = () => new CallerIdentification({ proc: '/proc', excluded: new Set([1]) });

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

  test('is nobody when no socket has those ends', async () => {
    const nowhere = { localAddress: '127.0.0.1', localPort: 1, remoteAddress: '127.0.0.1', remotePort: 2 };
    expect((await callers().identify(nowhere, process.pid)).ok).toBe(false);
  });

  test('is nobody when it is one of ours', async () => {
    const made = await connection();
    const excluded = new CallerIdentification({ proc: '/proc', excluded: new Set([made.child.pid ?? 0]) });
    expect((await excluded.identify(made.connection, process.pid)).ok).toBe(false);
  });
});

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
    fc.assert(
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
