import { execFileSync, spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join, resolve } from 'node:path';
import fc from 'fast-check';
import { beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { temporaryDirectory } from '../temporary-directory.ts';
import { type Field, namesOf, packetOf, SftpClient, STATUS, stringAt, TYPE } from './sftp-client.ts';

const INIT = resolve(import.meta.dirname, '../../init');
const { directory } = temporaryDirectory('sftp-test-');
const hasClang = spawnSync('sh', ['-c', 'command -v clang']).status === 0;
const isRoot = process.getuid?.() === 0;
const home = join(directory, 'home');
const file = (...names: readonly string[]) => join(home, ...names);
const NO_ATTRIBUTES: Field = 0;
const [READ, WRITE, APPEND, CREATE, TRUNCATE, EXCLUSIVE] = [1, 2, 4, 8, 16, 32];

beforeAll(() => {
  execFileSync('make', [
    ...['-s', '-C', INIT, `OUT=${join(directory, 'build')}`],
    ...(hasClang
      ? [
          'CC=clang',
          'CFLAGS=-O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all',
          ...['LDFLAGS=', 'INCLUDES=', 'DEFS=-D_GNU_SOURCE'],
        ]
      : []),
  ]);
}, 120_000);
beforeEach(() => {
  rmSync(home, { recursive: true, force: true });
  mkdirSync(home);
});

const server = (before: readonly string[] = []) =>
  new SftpClient([...before, join(directory, 'build/openshell-sandbox'), 'sftp'], home);
async function ready(): Promise<SftpClient> {
  const client = server();
  await client.init();
  return client;
}
const open = async (client: SftpClient, path: string, flags: number): Promise<Buffer> => {
  const answer = await client.request(TYPE.OPEN, path, flags, NO_ATTRIBUTES);
  expect(answer.type).toBe(TYPE.HANDLE);
  return answer.handle;
};

describe('the file server', () => {
  test('speaks version 3 and names its extensions', async () => {
    const client = server();
    expect(await client.init()).toEqual({
      version: 3,
      extensions: {
        'posix-rename@openssh.com': '1',
        'hardlink@openssh.com': '1',
        'fsync@openssh.com': '1',
        'statvfs@openssh.com': '2',
        'fstatvfs@openssh.com': '2',
        'lsetstat@openssh.com': '1',
        'limits@openssh.com': '1',
        'expand-path@openssh.com': '1',
        'copy-data': '1',
        'home-directory': '1',
      },
    });
    expect(await client.end()).toBe(0);
  });

  test('writes and reads at offsets, up to the end of the file', async () => {
    const client = await ready();
    const handle = await open(client, 'f', READ | WRITE | CREATE | TRUNCATE);
    expect((await client.request(TYPE.WRITE, handle, 3n, 'def')).status).toBe(STATUS.OK);
    expect((await client.request(TYPE.WRITE, handle, 0n, 'abc')).status).toBe(STATUS.OK);
    const read = await client.request(TYPE.READ, handle, 1n, 100);
    expect([read.type, stringAt(read.body, 0).toString()]).toEqual([TYPE.DATA, 'bcdef']);
    expect((await client.request(TYPE.READ, handle, 6n, 100)).status).toBe(STATUS.EOF);
    expect((await client.request(TYPE.READ, handle, 1n << 63n, 1)).status).toBe(STATUS.FAILURE);
    const stat = await client.request(TYPE.FSTAT, handle);
    expect([stat.type, stat.body.readBigUInt64BE(4)]).toEqual([TYPE.ATTRS, 6n]);
    expect((await client.request(TYPE.EXTENDED, 'fsync@openssh.com', handle)).status).toBe(STATUS.OK);
    expect((await client.request(TYPE.CLOSE, handle)).status).toBe(STATUS.OK);
    await client.end();
    expect(readFileSync(file('f'), 'utf8')).toBe('abcdef');
  });

  test('appends, truncates and creates exclusively as the flags say, with the mode that is asked for', async () => {
    writeFileSync(file('f'), 'old');
    const client = await ready();
    const appended = await open(client, 'f', WRITE | APPEND);
    await client.request(TYPE.WRITE, appended, 0n, 'er');
    expect(readFileSync(file('f'), 'utf8')).toBe('older');
    await open(client, 'f', WRITE | TRUNCATE);
    expect(statSync(file('f')).size).toBe(0);
    const again = await client.request(TYPE.OPEN, 'f', WRITE | CREATE | EXCLUSIVE, NO_ATTRIBUTES);
    expect(again.status).toBe(STATUS.FAILURE);
    await client.request(TYPE.OPEN, 'g', WRITE | CREATE, 4, 0o100_600);
    expect(statSync(file('g')).mode & 0o7777).toBe(0o600);
    await client.end();
  });

  test('carries the largest reads and writes that it allows, many at once and in order', async () => {
    const client = await ready();
    const limits = (await client.request(TYPE.EXTENDED, 'limits@openssh.com')).body;
    const [packet, read, write, handles] = [0, 8, 16, 24].map((at) => Number(limits.readBigUInt64BE(at)));
    expect([packet, read, write, handles]).toEqual([262_144, 261_120, 261_120, 128]);
    const handle = await open(client, 'f', READ | WRITE | CREATE);
    const parts = Array.from({ length: 16 }, (_, n) => Buffer.alloc(261_120, n + 1));
    const written = await Promise.all(
      parts.map((part, n) => client.request(TYPE.WRITE, handle, BigInt(n * 261_120), part)),
    );
    expect(written.every(({ status }) => status === STATUS.OK)).toBe(true);
    const back = await Promise.all(
      parts.map((_, n) => client.request(TYPE.READ, handle, BigInt(n * 261_120), 0xffff_ffff)),
    );
    expect(back.every(({ body }, n) => stringAt(body, 0).equals(parts[n] as Buffer))).toBe(true);
    await client.end();
  });

  test('lists a thousand names, each once', async () => {
    const names = Array.from({ length: 1_000 }, (_, n) => `${n}-${'x'.repeat(n % 200)}`);
    for (const name of names) writeFileSync(file(name), '');
    const client = await ready();
    const { handle } = await client.request(TYPE.OPENDIR, '.');
    const seen: string[] = [];
    for (;;) {
      const answer = await client.request(TYPE.READDIR, handle);
      if (answer.type === TYPE.STATUS) {
        expect(answer.status).toBe(STATUS.EOF);
        break;
      }
      seen.push(...namesOf(answer.body));
    }
    expect(seen.sort()).toEqual(['.', '..', ...names].sort());
    await client.end();
  });

  test('renames over nothing, unless it is asked as POSIX does it', async () => {
    writeFileSync(file('a'), 'a');
    writeFileSync(file('b'), 'b');
    const client = await ready();
    expect((await client.request(TYPE.RENAME, 'a', 'b')).status).toBe(STATUS.FAILURE);
    expect(readFileSync(file('b'), 'utf8')).toBe('b');
    expect((await client.request(TYPE.RENAME, 'a', 'c')).status).toBe(STATUS.OK);
    expect((await client.request(TYPE.EXTENDED, 'posix-rename@openssh.com', 'c', 'b')).status).toBe(
      STATUS.OK,
    );
    expect(readFileSync(file('b'), 'utf8')).toBe('a');
    await client.end();
  });

  test('links both ways, and reads and resolves links', async () => {
    writeFileSync(file('f'), 'data');
    const client = await ready();
    expect((await client.request(TYPE.SYMLINK, 'f', 'soft')).status).toBe(STATUS.OK);
    expect(readlinkSync(file('soft'))).toBe('f');
    expect((await client.request(TYPE.EXTENDED, 'hardlink@openssh.com', 'f', 'hard')).status).toBe(STATUS.OK);
    expect(statSync(file('hard')).ino).toBe(statSync(file('f')).ino);
    expect(namesOf((await client.request(TYPE.READLINK, 'soft')).body)).toEqual(['f']);
    const real = async (path: string) => namesOf((await client.request(TYPE.REALPATH, path)).body)[0];
    expect(await real('')).toBe(home);
    expect(await real('soft')).toBe(file('f'));
    expect(await real('./new')).toBe(file('new'));
    expect(await real('/none')).toBe('/none');
    expect((await client.request(TYPE.REALPATH, 'none/none')).status).toBe(STATUS.NO_SUCH_FILE);
    const [link, target] = [
      await client.request(TYPE.LSTAT, 'soft'),
      await client.request(TYPE.STAT, 'soft'),
    ];
    expect([link.body.readUInt32BE(20) >> 12, target.body.readUInt32BE(20) >> 12]).toEqual([0o12, 0o10]);
    const expanded = await client.request(TYPE.EXTENDED, 'expand-path@openssh.com', '~/f');
    expect(namesOf(expanded.body)).toEqual([file('f')]);
    const whose = await client.request(TYPE.EXTENDED, 'home-directory', '');
    expect(namesOf(whose.body)).toEqual([home]);
    await client.end();
  });

  test('sets sizes, modes and times, of a link only where it is asked to', async () => {
    writeFileSync(file('f'), 'longer');
    symlinkSync('f', file('soft'));
    const client = await ready();
    const all = [1 | 4 | 8, 2n, 0o640, 1_000, 2_000] as const;
    expect((await client.request(TYPE.SETSTAT, 'soft', ...all)).status).toBe(STATUS.OK);
    const { size, mode, atimeMs, mtimeMs } = statSync(file('f'));
    expect([size, mode & 0o777, atimeMs, mtimeMs]).toEqual([2, 0o640, 1_000_000, 2_000_000]);
    const lset = await client.request(TYPE.EXTENDED, 'lsetstat@openssh.com', 'soft', 8, 3_000, 4_000);
    expect([lset.status, statSync(file('f')).mtimeMs]).toEqual([STATUS.OK, 2_000_000]);
    const handle = await open(client, 'f', READ | WRITE);
    expect((await client.request(TYPE.FSETSTAT, handle, 1 | 4, 1n, 0o600)).status).toBe(STATUS.OK);
    expect([statSync(file('f')).size, statSync(file('f')).mode & 0o777]).toEqual([1, 0o600]);
    await client.end();
  });

  test('makes and removes directories and files', async () => {
    const client = await ready();
    expect((await client.request(TYPE.MKDIR, 'd', 4, 0o700)).status).toBe(STATUS.OK);
    expect(statSync(file('d')).mode & 0o777).toBe(0o700);
    await open(client, 'd/f', WRITE | CREATE);
    expect((await client.request(TYPE.RMDIR, 'd')).status).toBe(STATUS.FAILURE);
    expect((await client.request(TYPE.REMOVE, 'd/f')).status).toBe(STATUS.OK);
    expect((await client.request(TYPE.RMDIR, 'd')).status).toBe(STATUS.OK);
    expect((await client.request(TYPE.STAT, 'd')).status).toBe(STATUS.NO_SUCH_FILE);
    await client.end();
    expect(readdirSync(home)).toEqual([]);
  });

  test('copies on its own side, never a file into itself', async () => {
    writeFileSync(file('f'), 'x'.repeat(200_000));
    const client = await ready();
    const [from, to] = [await open(client, 'f', READ | WRITE), await open(client, 'g', WRITE | CREATE)];
    const copy = (a: Buffer, b: Buffer) => client.request(TYPE.EXTENDED, 'copy-data', a, 10n, 0n, b, 5n);
    expect((await copy(from, to)).status).toBe(STATUS.OK);
    expect(statSync(file('g')).size).toBe(200_000 - 10 + 5);
    expect((await copy(from, from)).status).toBe(STATUS.FAILURE);
    await client.end();
  });

  test('tells the room of the file system', async () => {
    const client = await ready();
    const answer = await client.request(TYPE.EXTENDED, 'statvfs@openssh.com', '.');
    expect([answer.type, answer.body.length]).toEqual([TYPE.EXTENDED_REPLY, 88]);
    expect(answer.body.readBigUInt64BE(16)).toBeGreaterThan(0n);
    await client.end();
  });

  test('is held up neither by a pipe that nobody reads nor by one that nobody writes', async () => {
    execFileSync('mkfifo', [file('pipe')]);
    const client = await ready();
    expect((await client.request(TYPE.OPEN, 'pipe', WRITE, NO_ATTRIBUTES)).status).toBe(STATUS.FAILURE);
    const handle = await open(client, 'pipe', READ);
    expect((await client.request(TYPE.READ, handle, 0n, 10)).status).toBe(STATUS.EOF);
    await client.end();
  });

  test('keeps 128 open, refuses the next, and knows no handle twice', async () => {
    writeFileSync(file('f'), '');
    const client = await ready();
    const handles: Buffer[] = [];
    for (let n = 0; n < 128; n++) handles.push(await open(client, 'f', READ));
    expect((await client.request(TYPE.OPEN, 'f', READ, NO_ATTRIBUTES)).status).toBe(STATUS.FAILURE);
    // Nor is a file made or emptied for what is refused.
    writeFileSync(file('kept'), 'content');
    for (const [name, flags] of [
      ['kept', WRITE | CREATE | TRUNCATE],
      ['new', WRITE | CREATE],
    ] as const)
      expect((await client.request(TYPE.OPEN, name, flags, NO_ATTRIBUTES)).status).toBe(STATUS.FAILURE);
    expect((await client.request(TYPE.OPENDIR, '.')).status).toBe(STATUS.FAILURE);
    expect([readFileSync(file('kept'), 'utf8'), existsSync(file('new'))]).toEqual(['content', false]);
    const first = handles[0] as Buffer;
    expect((await client.request(TYPE.CLOSE, first)).status).toBe(STATUS.OK);
    expect((await open(client, 'f', READ)).equals(first)).toBe(false);
    for (const wrong of [first, Buffer.alloc(0), Buffer.from('none'), Buffer.alloc(4, 255)])
      for (const type of [TYPE.CLOSE, TYPE.FSTAT, TYPE.READDIR])
        expect((await client.request(type, wrong)).status).toBe(STATUS.NO_SUCH_FILE);
    await client.end();
  });
});

test('ends in peace when nobody reads its answers any more', async () => {
  const client = await ready();
  client.child.stdout?.destroy();
  const request = client.request(TYPE.STAT, '.').catch(() => undefined);
  expect(await client.exited).toEqual([0, null]);
  await request;
});

describe('bad input', () => {
  test.each([
    ['a request before the version', packetOf(TYPE.STAT, 1, '.')],
    ['an old version', packetOf(TYPE.INIT, 2)],
    ['an empty packet', Buffer.alloc(4)],
    ['a packet beyond all bounds', Buffer.from([255, 255, 255, 255, 1])],
  ])('%s ends the server, with a reason', async (_, bytes) => {
    const client = server();
    client.send(bytes);
    expect((await client.exited)[0]).toBe(1);
    expect(client.errors).toMatch(/^openshell-sandbox: sftp: /);
  });

  test.each<readonly [string, number, readonly Field[], number]>([
    ['a path that is cut off', TYPE.STAT, [100], STATUS.BAD_MESSAGE],
    ['a path with a zero in it', TYPE.STAT, ['a\0b'], STATUS.BAD_MESSAGE],
    ['attributes that are cut off', TYPE.SETSTAT, ['f', 1, 0], STATUS.BAD_MESSAGE],
    [
      'four thousand million attributes',
      TYPE.SETSTAT,
      ['f', (1 << 31) >>> 0, 0xffff_ffff],
      STATUS.BAD_MESSAGE,
    ],
    ['data that is cut off', TYPE.WRITE, ['abcd', 0n, 5], STATUS.BAD_MESSAGE],
    ['a path that is too long', TYPE.STAT, ['x/'.repeat(3_000)], STATUS.BAD_MESSAGE],
    ['a request that nobody knows', 99, [], STATUS.OP_UNSUPPORTED],
    ['an extension that nobody knows', TYPE.EXTENDED, ['none@example.com'], STATUS.OP_UNSUPPORTED],
  ])('%s is refused, and the next request served', async (_, type, fields, status) => {
    const client = await ready();
    expect((await client.request(type, ...fields)).status).toBe(status);
    expect((await client.request(TYPE.STAT, '.')).type).toBe(TYPE.ATTRS);
    expect(await client.end()).toBe(0);
  });

  test.skipIf(!isRoot)(
    'whatever is asked, each request has one answer and nothing outside is touched',
    async () => {
      const path = fc.constantFrom('', '.', 'a', 'b', 'a/b', './/a', 'x'.repeat(300), 'd');
      const handle = fc.oneof(
        fc.integer({ min: 0, max: 600 }).map((n) => Buffer.from([0, 0, n >> 8, n & 255])),
        fc.uint8Array({ maxLength: 8 }).map((bytes) => Buffer.from(bytes)),
      );
      const small = fc.integer({ min: 0, max: 0xffff });
      const attributes = fc.tuple(fc.constant(13), fc.bigInt(0n, 1_000_000n), small, small, small);
      const field = fc.oneof<fc.Arbitrary<readonly Field[]>[]>(
        path.map((one) => [one]),
        handle.map((one) => [one]),
        fc.bigInt(0n, (1n << 64n) - 1n).map((one) => [one]),
        fc.integer({ min: 0, max: 0x7fff_ffff }).map((one) => [one]),
        attributes,
        fc.uint8Array({ maxLength: 64 }).map((bytes) => [[Buffer.from(bytes)] as const]),
      );
      const extension = fc.constantFrom(
        ...['posix-rename@openssh.com', 'copy-data', 'lsetstat@openssh.com', 'statvfs@openssh.com'],
      );
      const request = fc.oneof(
        fc.tuple(
          fc.integer({ min: 3, max: 20 }),
          fc.array(field, { maxLength: 4 }).map((all) => all.flat()),
        ),
        fc.tuple(
          fc.constant(TYPE.OPEN),
          fc.tuple(path, fc.integer({ min: 0, max: 63 }), attributes).map(([a, b, c]) => [a, b, ...c]),
        ),
        fc.tuple(fc.constant(TYPE.WRITE), fc.tuple(handle, fc.bigInt(0n, 5_000n), path)),
        fc.tuple(
          fc.constant(TYPE.EXTENDED),
          fc.tuple(extension, fc.array(field, { maxLength: 4 })).map(([name, all]) => [name, ...all.flat()]),
        ),
      );
      chmodSync(home, 0o777);
      const client = server(['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups']);
      await client.init();
      await fc.assert(
        fc.asyncProperty(fc.array(request, { maxLength: 40 }), async (requests) => {
          const answers = await Promise.all(
            requests.map(([type, fields]) => client.request(type, ...fields)),
          );
          for (const { type } of answers) expect(type).toBeGreaterThan(100);
        }),
        { numRuns: 100 },
      );
      expect(await client.end()).toBe(0);
      expect(client.errors).toBe('');
      expect(existsSync(join(directory, 'build'))).toBe(true);
    },
    60_000,
  );
});
