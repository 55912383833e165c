import { execFileSync, spawn, spawnSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import type { Socket } from 'node:net';
import { join, resolve } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { temporaryDirectory } from '../temporary-directory.ts';

const INIT = resolve(import.meta.dirname, '../../init');
const { directory } = temporaryDirectory('init-test-');
const binary = join(directory, 'openshell-sandbox');
const has = (command: string) => spawnSync('sh', ['-c', `command -v ${command}`]).status === 0;

beforeAll(() => {
  execFileSync('make', ['-s', '-C', INIT, `OUT=${join(directory, 'build')}`]);
  copyFileSync(join(directory, 'build/openshell-sandbox'), binary);
  chmodSync(binary, 0o755);
}, 120_000);

/** Hands records to `exec` as the supervisor does, and resolves with what the shim reports and its code. */
function shim(
  records: readonly string[] | Buffer,
): Promise<{ readonly report: string; readonly code: number | null }> {
  return new Promise((done) => {
    const child = spawn(binary, ['exec'], {
      env: {},
      stdio: ['ignore', 'ignore', 'inherit', 'pipe', 'pipe'],
    });
    const control = child.stdio[3] as Socket;
    let report = '';
    control.on('data', (chunk) => {
      report += chunk.toString();
    });
    control.on('error', () => undefined);
    control.end(Buffer.isBuffer(records) ? records : `${records.join('\0')}\0`);
    child.once('close', (code) => done({ report, code }));
  });
}

describe('the binary', () => {
  test('is static, small, and needs no interpreter', () => {
    const headers = execFileSync('readelf', ['-lW', binary], { encoding: 'utf8' });
    expect(headers).not.toMatch(/INTERP|DYNAMIC/);
    expect(headers).toMatch(/GNU_STACK\s.*RW /);
    expect(statSync(binary).size).toBeLessThan(256 * 1024);
  });

  test('says how it is used when it is used wrongly', () => {
    expect(spawnSync(binary, ['copy-self'], { encoding: 'utf8' })).toMatchObject({
      status: 64,
      stderr: 'openshell-sandbox: usage: openshell-sandbox copy-self DEST\n',
    });
    expect(spawnSync(binary, ['exec'], { encoding: 'utf8' })).toMatchObject({
      status: 64,
      stderr: expect.stringContaining('exec is for the supervisor'),
    });
    const alone = spawnSync(binary, ['--', 'true'], { encoding: 'utf8' });
    expect(alone).toMatchObject({
      status: 70,
      stderr: expect.stringContaining('mount the whole supervisor image, or deliver the single-file build'),
    });
  });

  test('probes every mechanism by trying it, as root and as nobody', () => {
    const probe = JSON.parse(execFileSync(binary, ['probe'], { encoding: 'utf8' }));
    for (const name of [
      'seccomp_filter',
      'socket_fence',
      'user_namespace',
      'process_isolation',
      'network_namespace',
      'mounts',
      'ipc_namespace',
      'private_view',
      'pid_namespace',
      'low_ports',
      'io_uring',
      'pidfd_open',
      'pidfd_getfd',
      'process_vm_readv',
    ])
      expect(probe[name]).toMatchObject(
        probe[name].ok ? { ok: true } : { ok: false, errno: expect.stringMatching(/^E/) },
      );
    if (process.getuid?.() !== 0) return;
    const nobody = execFileSync(
      'setpriv',
      [
        '--reuid=1000',
        '--regid=1000',
        '--clear-groups',
        '--no-new-privs',
        '--bounding-set=-all',
        binary,
        'probe',
      ],
      { encoding: 'utf8' },
    );
    expect(JSON.parse(nobody)).toMatchObject({
      uid: 1000,
      capabilities: '0',
      socket_fence: { ok: true },
      proc: true,
    });
  });
});

describe('the specification of a workload', () => {
  const good = ['fence socket', 'landlock off', 'arg /bin/true'];
  test.each([
    ['that ends early', good, 'the spec ended early'],
    ['without a fence', ['landlock off', 'arg /bin/true', 'end'], 'the spec names no fence'],
    ['with a fence that is none', ['fence none', 'arg /bin/true', 'end'], 'fence is not socket or namespace'],
    ['without a program', ['fence socket', 'end'], 'the spec names no program'],
    ['with an unknown word', [...good, 'colour red', 'end'], 'a record has an unknown word'],
    ['with a relative path', [...good, 'read-only etc', 'end'], 'a path is not absolute'],
    ['with root as the user', [...good, 'uid 0', 'end'], 'an id is not between 1 and 4294967294'],
    ['with a number that is none', [...good, 'nofile 12x', 'end'], 'a limit is not between 1 and 2^30'],
    ['that tolerates something else', [...good, 'changes any', 'end'], 'changes is not tolerated'],
    ['with a variable without a name', [...good, 'env =x', 'end'], 'a variable has no name or no value'],
  ])('%s is refused, with code 70 and the reason', async (_what, records, reason) => {
    const { report, code } = await shim(records);
    expect(report).toMatch(new RegExp(`^fail 70 .*${reason.replaceAll(/[.^]/g, '\\$&')}\\n$`));
    expect(code).toBe(70);
  });

  test('larger than 4 MiB is refused', async () => {
    expect(await shim(Buffer.alloc(5 << 20, 'a'))).toMatchObject({
      code: 70,
      report: expect.stringContaining('exceed 4194304 bytes'),
    });
  });
});

describe('delivery', () => {
  /** An image root with files of the test in place of the supervisor. */
  function image(name: string): string {
    const root = join(directory, name);
    mkdirSync(join(root, 'lib'), { recursive: true });
    copyFileSync(binary, join(root, 'openshell-sandbox'));
    chmodSync(join(root, 'openshell-sandbox'), 0o555);
    writeFileSync(join(root, 'supervisor'), 'supervisor', { mode: 0o555 });
    for (const [file, mode] of [
      ['ld-linux-x86-64.so.2', 0o111],
      ['ld-linux-x86-64.so.2.readable', 0o555],
      ['libc.so.6', 0o555],
      ['openshell-shim', 0o111],
    ] as const) {
      writeFileSync(join(root, 'lib', file), 'library');
      chmodSync(join(root, 'lib', file), mode);
    }
    return root;
  }
  const modes = (root: string) =>
    Object.fromEntries(
      ['openshell-sandbox', 'supervisor', ...readdirSync(join(root, 'lib')).map((name) => `lib/${name}`)].map(
        (name) => [name, (statSync(join(root, name)).mode & 0o777).toString(8)],
      ),
    );

  test.each([
    ['root', []],
    ['a user without privileges', ['setpriv', '--reuid=1000', '--regid=1000', '--clear-groups']],
  ])('by copy-self keeps loader and shim execute-only, as %s', (who, prefix) => {
    const target = join(directory, `to-${who.replaceAll(' ', '-')}`);
    mkdirSync(target);
    chmodSync(target, 0o777);
    const [command = '', ...rest] = [
      ...prefix,
      join(image('whole'), 'openshell-sandbox'),
      'copy-self',
      join(target, 'deep/er'),
    ];
    expect(spawnSync(command, rest, { encoding: 'utf8' })).toMatchObject({ status: 0, stderr: '' });
    expect(modes(join(target, 'deep/er'))).toEqual({
      'openshell-sandbox': '755',
      supervisor: '555',
      'lib/ld-linux-x86-64.so.2': '111',
      'lib/ld-linux-x86-64.so.2.readable': '555',
      'lib/libc.so.6': '555',
      'lib/openshell-shim': '111',
    });
    // Nobody can read it, and it is the launcher.
    expect(readFileSync(join(target, 'deep/er/lib/openshell-shim')).equals(readFileSync(binary))).toBe(true);
  });

  test('of a single file keeps its own name in a directory, and takes a file name otherwise', () => {
    const lonely = join(directory, 'lonely');
    mkdirSync(lonely);
    copyFileSync(binary, join(lonely, 'openshell-sandbox'));
    for (const [destination, made] of [
      [`${lonely}/in/`, 'in/openshell-sandbox'],
      [`${lonely}/new/name`, 'new/name'],
    ] as const) {
      expect(spawnSync(join(lonely, 'openshell-sandbox'), ['copy-self', destination]).status).toBe(0);
      expect(readFileSync(join(lonely, made)).equals(readFileSync(binary))).toBe(true);
    }
  });

  test('of a damaged single file says so and leaves nothing behind', () => {
    const damaged = join(directory, 'damaged');
    mkdirSync(damaged);
    const trailer = Buffer.alloc(16);
    trailer.write('OSHPAY01', 'latin1');
    const whole = readFileSync(binary);
    for (const [offset, archive, message] of [
      [whole.length + 4096, 'x', 'is damaged'],
      [whole.length, 'not an archive'.padEnd(1024), 'cannot unpack'],
    ] as const) {
      trailer.writeBigUInt64LE(BigInt(offset), 8);
      writeFileSync(
        join(damaged, 'openshell-sandbox'),
        Buffer.concat([whole, Buffer.from(archive), trailer]),
        { mode: 0o755 },
      );
      const before = readdirSync('/tmp').filter((name) => name.startsWith('.openshell-'));
      const { status, stderr } = spawnSync(join(damaged, 'openshell-sandbox'), ['--', 'true'], {
        encoding: 'utf8',
      });
      expect([status, stderr.includes(message)]).toEqual([70, true]);
      expect(readdirSync('/tmp').filter((name) => name.startsWith('.openshell-'))).toEqual(before);
    }
  });
});

describe.skipIf(!has('clang'))(
  `the parsers${has('clang') ? '' : ' (skipped: clang is not installed)'}`,
  () => {
    test.each([
      ['spec', 'spec.c'],
      ['payload', 'payload.c path.c report.c'],
      ['channel', 'channel.c messages.c report.c'],
      ['pty_command', 'pty_command.c pty_modes.c'],
      ['sftp_packet', 'sftp_packet.c'],
    ])(
      'of the %s hold against a fuzzer, under sanitizers',
      (name, sources) => {
        const fuzzer = join(directory, `fuzz_${name}`);
        const flags = [
          '-g',
          '-O1',
          '-D_GNU_SOURCE',
          '-fsanitize=fuzzer,address,undefined',
          '-fno-sanitize-recover=all',
        ];
        execFileSync('clang', [...flags, '-o', fuzzer, `fuzz_${name}.c`, ...sources.split(' ')], {
          cwd: INIT,
        });
        const run = spawnSync(fuzzer, ['-max_total_time=4', '-max_len=4096', '-print_final_stats=0'], {
          encoding: 'utf8',
          cwd: directory,
        });
        expect(run.stderr.includes('ERROR') ? run.stderr : '').toBe('');
        expect(run.status).toBe(0);
      },
      60_000,
    );

    test('and the shim run under sanitizers as well', async () => {
      const build = join(directory, 'asan');
      execFileSync('make', [
        '-s',
        '-C',
        INIT,
        'CC=clang',
        'CFLAGS=-O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all',
        'LDFLAGS=',
        `OUT=${build}`,
        'INCLUDES=',
        'DEFS=-D_GNU_SOURCE',
      ]);
      const probe = spawnSync(join(build, 'openshell-sandbox'), ['probe'], {
        encoding: 'utf8',
        env: { ASAN_OPTIONS: 'detect_leaks=0' },
      });
      expect(probe.stderr).toBe('');
      expect(JSON.parse(probe.stdout)).toMatchObject({ socket_fence: { ok: true } });
    }, 60_000);
  },
);
