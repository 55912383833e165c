import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { SocketOwners } from '../../supervisor/egress/identity/socket-owners.ts';

const proc = mkdtempSync(join(tmpdir(), 'proc-'));
afterEach(() => {
  rmSync(proc, { recursive: true });
  mkdirSync(proc);
});

/** A process of a proc that the test owns, with these sockets in each of its threads. */
function processOf(pid: number, threads: readonly (readonly number[])[], executable = '/bin/true'): void {
  const directory = join(proc, String(pid));
  mkdirSync(directory);
  symlinkSync(executable, join(directory, 'exe'));
  writeFileSync(
    join(directory, 'stat'),
    `${pid} (a) S 1 ${Array.from({ length: 17 }, () => 0).join(' ')} 77 0`,
  );
  for (const [index, inodes] of threads.entries()) {
    const fds = join(directory, 'task', String(pid + index), 'fd');
    mkdirSync(fds, { recursive: true });
    for (const [fd, inode] of inodes.entries()) symlinkSync(`socket:[${inode}]`, join(fds, String(fd)));
  }
}
const pidsOf = async (found: ReturnType<SocketOwners['find']>) => {
  const owners = await found;
  return owners.kind === 'found' ? owners.owners.map(({ pid }) => pid) : owners.reason;
};

describe('the owners of sockets', () => {
  test('are found for all who ask at once, each for its own', async () => {
    processOf(100, [[1, 2], [3]]);
    processOf(200, [[2], [4]]);
    const owners = new SocketOwners({ proc, excluded: new Set() });
    expect(await Promise.all([1, 2, 3, 4, 5, 2].map((inode) => pidsOf(owners.find(inode))))).toEqual([
      [100],
      [200, 100],
      [100],
      [200],
      [],
      [200, 100],
    ]);
  });

  test('are those of after the question, never of a look that had begun before', async () => {
    const owners = new SocketOwners({ proc, excluded: new Set() });
    const first = pidsOf(owners.find(1));
    processOf(100, [[1]]);
    expect(await first).toEqual([100]);
    processOf(300, [[1]]);
    expect(await pidsOf(owners.find(1))).toEqual([300, 100]);
  });

  test('leave out who is excluded', async () => {
    processOf(100, [[1]]);
    processOf(200, [[1]]);
    const owners = new SocketOwners({ proc, excluded: new Set([200]) });
    expect(await pidsOf(owners.find(1))).toEqual([100]);
  });

  test('may be hidden by a process of ours that hides as it starts, which counts as soon as it can be read', async () => {
    processOf(100, [[1]]);
    mkdirSync(join(proc, '200'));
    writeFileSync(join(proc, '200/task'), 'cannot be listed');
    const hiding = new Set<number>();
    const owners = new SocketOwners({ proc, excluded: new Set(), hiding });
    expect(await pidsOf(owners.find(1))).toMatch('process 200 hides its descriptors');
    hiding.add(200);
    expect(await pidsOf(owners.find(1))).toEqual([100]);
    rmSync(join(proc, '200'), { recursive: true });
    processOf(200, [[1]]);
    expect(await pidsOf(owners.find(1))).toEqual([200, 100]);
  });

  test('cannot be told when what holds the socket cannot be read; of the other sockets they can', async () => {
    processOf(100, [[1]]);
    processOf(200, [[2]]);
    rmSync(join(proc, '200/exe'));
    const owners = new SocketOwners({ proc, excluded: new Set() });
    expect(await Promise.all([pidsOf(owners.find(1)), pidsOf(owners.find(2))])).toEqual([
      [100],
      'process 200 holds the socket, but what it runs cannot be read',
    ]);
  });
});
