import { execFileSync, spawn } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  cpSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { temporaryDirectory } from '../temporary-directory.ts';

const INIT = resolve(import.meta.dirname, '../../init');
const { directory } = temporaryDirectory('landlock-test-');
const harness = join(directory, 'harness');
const attempts = join(directory, 'attempts');
/** Every file in it may be read and written by anyone: what is refused, Landlock refuses. */
const data = join(directory, 'data');
const at = (path: string) => join(data, path);

const newest = (() => {
  try {
    return Number(/abi":(\d+)/.exec(execProbe())?.[1] ?? 0);
  } catch {
    return 0;
  }
})();
function execProbe(): string {
  execFileSync('make', ['-s', '-C', INIT, `OUT=${join(directory, 'build')}`]);
  return execFileSync(join(directory, 'build/openshell-sandbox'), ['probe'], { encoding: 'utf8' });
}

beforeAll(() => {
  const flags = ['-std=gnu11', '-D_GNU_SOURCE', '-O1', '-static', '-Wall', '-Wextra', '-Werror'];
  const headers = ['-idirafter', '/usr/include', '-idirafter', `/usr/include/${machine()}-linux-gnu`];
  const sources = ['landlock', 'spec', 'control', 'report'].map((name) => join(INIT, `${name}.c`));
  const here = (name: string) => join(import.meta.dirname, name);
  execFileSync('musl-gcc', [...flags, '-o', attempts, here('attempts.c')]);
  execFileSync('musl-gcc', [
    ...flags,
    ...headers,
    '-I',
    INIT,
    '-o',
    harness,
    here('landlock-harness.c'),
    ...sources,
  ]);
}, 120_000);

function machine(): string {
  return execFileSync('uname', ['-m'], { encoding: 'utf8' }).trim();
}

beforeEach(() => {
  rmSync(data, { recursive: true, force: true });
  for (const path of [
    'ro',
    'ro/rw',
    'rw',
    'rw/ro',
    'rw2',
    'out',
    'secret',
    'secret/token.d',
    'secret/near',
  ]) {
    mkdirSync(at(path), { recursive: true });
    chmodSync(at(path), 0o777);
    writeFileSync(at(`${path}/file`), 'content', { mode: 0o666 });
    chmodSync(at(`${path}/file`), 0o666);
    cpSync(attempts, at(`${path}/program`));
    chmodSync(at(`${path}/program`), 0o777);
  }
  chmodSync(data, 0o777);
});

interface Outcome {
  /** What the attempt says after its words, by its words. */
  readonly said: Readonly<Record<string, string>>;
  readonly report: string;
  readonly code: number | null;
}

/** Applies `records` and makes the attempts; paths in them are relative to the data. */
function confined(
  records: readonly string[],
  tried: readonly string[],
  onOutput: () => void = () => undefined,
): Promise<Outcome> {
  return new Promise((done) => {
    const child = spawn(harness, [], { env: {}, stdio: ['ignore', 'pipe', 'inherit', 'pipe'] });
    const control = child.stdio[3] as Socket;
    let [report, output] = ['', ''];
    control.on('data', (chunk) => {
      report += chunk.toString();
    });
    control.on('error', () => undefined);
    child.stdout?.on('data', (chunk) => {
      output += chunk.toString();
      onOutput();
    });
    const words = tried.flatMap((line) => line.split(' ')).map((word) => word.replace(/^@/, `${data}/`));
    const spec = ['fence socket', ...records, ...[attempts, ...words].map((word) => `arg ${word}`), 'end'];
    control.end(`${spec.join('\0')}\0`);
    child.once('close', (code) => {
      const said = output
        .replaceAll(`${data}/`, '@')
        .split('\n')
        .filter(Boolean)
        .map((line) => [line.slice(0, line.lastIndexOf(': ')), line.slice(line.lastIndexOf(': ') + 2)]);
      done({ said: Object.fromEntries(said), report: report.replaceAll(`${data}/`, '@'), code });
    });
  });
}

const ro = (path: string) => `read-only ${at(path)}`;
const rw = (path: string) => `read-write ${at(path)}`;
const BASE = ['landlock best_effort', `read-only ${attempts}`];
const LISTS = [...BASE, ro('ro'), rw('rw'), rw('rw2')];

const skipped = newest === 0 ? ' (skipped: this kernel has no Landlock)' : '';

describe.skipIf(newest === 0)(`file rules${skipped}`, () => {
  test('let everything through when Landlock is off, so that the attempts below mean something', async () => {
    const { said, code } = await confined(
      ['landlock off'],
      [
        'read @out/file',
        'write @ro/file',
        'list @out',
        'execute @out/program',
        'create @ro/new',
        'rename @ro/file @rw/taken',
        'link @out/file @rw/linked',
        'truncate @out/file',
        'open-truncate @rw/taken',
        'tmpfile @out',
        'mkfifo @out/fifo',
        'symlink /x @out/link',
        'mkdir @out/d',
        'rmdir @out/d',
        'unlink @out/file',
        'ioctl /dev/urandom',
      ],
    );
    expect(code).toBe(0);
    expect(new Set(Object.values(said))).toEqual(new Set(['ok']));
  });

  const abis = [1, 2, 3, 4, 5, 6, newest].filter(
    (abi, index, all) => abi <= newest && all.indexOf(abi) === index,
  );
  test.each(abis)('hold at ABI %i: nothing outside the lists, nothing changed in read_only', async (abi) => {
    const denied = [
      ...['read @out/file', 'write @out/file', 'readwrite @out/file', 'list @out', 'execute @out/program'],
      ...['create @out/new', 'tmpfile @out', 'mkdir @out/d', 'mkfifo @out/fifo', 'symlink /x @out/link'],
      ...['unlink @out/file', 'write @ro/file', 'readwrite @ro/file', 'create @ro/new', 'tmpfile @ro'],
      ...['mkdir @ro/d', 'unlink @ro/file', 'rename @ro/file @ro/moved'],
    ];
    const allowed = [
      ...['read @ro/file', 'list @ro', 'execute @ro/program', 'write @rw/file', 'create @rw/new'],
      ...['execute @rw/program', 'mkdir @rw/d', 'rename @rw/new @rw/renamed', 'unlink @rw/renamed'],
      'rmdir @rw/d',
    ];
    const { said, report } = await confined(
      [...LISTS, 'read-only /dev/urandom', `landlock-abi-max ${abi}`],
      [...denied, 'unlink @ro/program2', ...allowed],
    );
    expect(report).toBe(`landlock ${abi} 5 0\n`);
    expect(said).toEqual({
      ...Object.fromEntries(denied.map((words) => [words, 'EACCES'])),
      'unlink @ro/program2': 'ENOENT',
      ...Object.fromEntries(allowed.map((words) => [words, 'ok'])),
    });
  });

  test.each(abis)('at ABI %i do with renames, truncation and ioctl what the kernel can', async (abi) => {
    const { said } = await confined(
      [...LISTS, 'read-only /dev/urandom', 'read-write /dev/random', `landlock-abi-max ${abi}`],
      [
        'rename @rw/file @rw2/moved',
        'link @rw2/program @rw/linked',
        'rename @ro/file @rw/taken',
        'rename @rw/program @out/given',
        'link @out/file @rw/stolen',
        'link @ro/program @rw/writable',
        'truncate @ro/file',
        'open-truncate @ro/program',
        'truncate @out/file',
        'truncate @rw2/program',
        'ioctl /dev/urandom',
        'ioctl /dev/random',
      ],
    );
    // Within the lists they work from ABI 2 on; a link that would gain rights never does.
    const across = abi < 2 ? 'EXDEV' : 'ok';
    expect(said).toMatchObject({
      'rename @rw/file @rw2/moved': across,
      'link @rw2/program @rw/linked': across,
    });
    for (const words of [
      'rename @ro/file @rw/taken',
      'rename @rw/program @out/given',
      'link @out/file @rw/stolen',
      'link @ro/program @rw/writable',
    ])
      expect([words, said[words]]).toEqual([words, expect.stringMatching(/^(EACCES|EXDEV)$/)]);
    const cut = abi < 3 ? 'ok' : 'EACCES';
    expect(said).toMatchObject({
      'truncate @ro/file': cut,
      'open-truncate @ro/program': cut,
      'truncate @out/file': cut,
      'truncate @rw2/program': 'ok',
      'ioctl /dev/urandom': abi < 5 ? 'ok' : 'EACCES',
      'ioctl /dev/random': 'ok',
    });
    expect(readFileSync(at('out/file'), 'utf8')).toBe(abi < 3 ? '' : 'content');
  });

  test('nest one way: a read-write path inside a read-only one is writable, and the reverse is too', async () => {
    const { said } = await confined(
      [...BASE, ro('ro'), rw('ro/rw'), rw('rw'), ro('rw/ro')],
      ['write @ro/file', 'write @ro/rw/file', 'create @ro/rw/new', 'write @rw/file', 'write @rw/ro/file'],
    );
    expect(said).toEqual({
      'write @ro/file': 'EACCES',
      'write @ro/rw/file': 'ok',
      'create @ro/rw/new': 'ok',
      'write @rw/file': 'ok',
      'write @rw/ro/file': 'ok',
    });
  });

  test('for a file cover that file alone, and for / everything', async () => {
    const single = await confined(
      [...BASE, ro('out/file'), rw('ro/file')],
      [
        'read @out/file',
        'write @out/file',
        'list @out',
        'read @out/program',
        'write @ro/file',
        'truncate @ro/file',
        'unlink @ro/file',
      ],
    );
    expect(Object.values(single.said)).toEqual(['ok', 'EACCES', 'EACCES', 'EACCES', 'ok', 'ok', 'EACCES']);
    const whole = await confined(
      [...BASE, 'read-only /'],
      ['read @out/file', 'list /', 'write @out/file', 'create @out/new'],
    );
    expect(Object.values(whole.said)).toEqual(['ok', 'ok', 'EACCES', 'EACCES']);
  });

  test('follow no link, for the workload of an earlier session may have made it', async () => {
    symlinkSync('out', at('link'));
    symlinkSync('/', at('rw/root'));
    const { said, report } = await confined(
      [...BASE, ro('link'), rw('rw/root'), rw('link/file'), ro('ro')],
      ['read @link/file', 'write @out/file', 'write @rw/file', 'read @ro/file'],
    );
    expect(Object.values(said)).toEqual(['EACCES', 'EACCES', 'EACCES', 'ok']);
    expect(report.split('\n')).toEqual([
      'warn @link stays out of reach, for a link leads from it to @out; name that in the policy',
      'warn @rw/root stays out of reach, for a link leads from it to /; name that in the policy',
      'warn @link/file stays out of reach, for a link leads from it to @out/file; name that in the policy',
      `landlock ${newest} 2 3`,
      '',
    ]);
  });

  test('do not restrict what Landlock does not govern: attributes and unix sockets by path', async () => {
    const server = createServer().listen(at('out/socket'));
    await new Promise((listening) => server.once('listening', listening));
    chmodSync(at('out/socket'), 0o777);
    const free = ['stat', 'chmod', 'chown', 'utime'].map((what) => `${what} @out/file`);
    const { said } = await confined(LISTS, [...free, 'chdir @out', 'socket-file @out/socket']);
    server.close();
    expect(said).toEqual({
      ...Object.fromEntries(free.map((words) => [words, 'ok'])),
      'chdir @out': 'ok',
      'socket-file @out/socket': newest < 9 ? 'ok' : 'EACCES',
    });
  });

  test('keep abstract sockets and signals inside from ABI 6 on', async () => {
    const server = spawn(attempts, ['serve-abstract', 'landlock-test'], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await new Promise((serving) => server.stdout.once('data', serving));
    try {
      for (const abi of abis) {
        const { said } = await confined(
          [...LISTS, `landlock-abi-max ${abi}`],
          ['abstract landlock-test', `kill ${server.pid} 0`, 'kill parent 0'],
        );
        expect([abi, ...Object.values(said)]).toEqual(
          abi < 6 ? [abi, 'ok', 'ok', 'ok'] : [abi, 'EPERM', 'EPERM', 'EPERM'],
        );
        // Of sessions, whose signals the filter alone governs; abstract sockets stay out of their reach.
        const { said: unscoped } = await confined(
          [...LISTS, `landlock-abi-max ${abi}`, 'signals unscoped'],
          ['abstract landlock-test', `kill ${server.pid} 0`, 'kill parent 0'],
        );
        expect([abi, ...Object.values(unscoped)]).toEqual([abi, abi < 6 ? 'ok' : 'EPERM', 'ok', 'ok']);
      }
    } finally {
      server.kill('SIGKILL');
    }
  });
});

describe.skipIf(newest === 0)(`paths that have no rule${skipped}`, () => {
  test('stay out of reach under best_effort, and are counted', async () => {
    symlinkSync('loop', at('loop'));
    const { said, report } = await confined(
      [...LISTS, ro('nowhere'), rw('nothing'), ro('loop'), rw('out/file/below')],
      ['read @ro/file', 'write @rw/file', 'read @out/file'],
    );
    expect(Object.values(said)).toEqual(['ok', 'ok', 'EACCES']);
    // What is missing is no news; what cannot be opened for another reason is.
    expect(report.split('\n')).toEqual([
      'warn @loop stays out of reach: ELOOP',
      'warn @out/file/below stays out of reach: ENOTDIR',
      `landlock ${newest} 4 4`,
      '',
    ]);
  });

  test('are refused by a hard requirement, each by its name', async () => {
    const records = LISTS.map((record) => record.replace('best_effort', 'hard_requirement'));
    expect((await confined(records, ['read @ro/file'])).said).toEqual({ 'read @ro/file': 'ok' });
    const { report, code } = await confined([...records, rw('nothing')], ['read @ro/file']);
    expect(code).toBe(71);
    expect(report).toMatch(
      /^fail 71 filesystem_policy names @nothing, which does not exist; .*landlock\.compatibility/,
    );
  });

  test('are warned of in a session, for since the start the workload may have removed or replaced them', async () => {
    symlinkSync(at('out'), at('link'));
    const { report, said, code } = await confined(
      [
        'changes tolerated',
        ...LISTS.map((record) => record.replace('best_effort', 'hard_requirement')),
        rw('nothing'),
        rw('link'),
      ],
      ['read @ro/file', 'read @out/file'],
    );
    expect([code, Object.values(said)]).toEqual([0, ['ok', 'EACCES']]);
    expect(report).toContain(
      'warn @nothing stays out of reach of this session, for since the start it does not exist\n',
    );
    expect(report).toContain(
      'warn @link stays out of reach of this session, for since the start it leads elsewhere through a link\n',
    );
    expect(report).toContain(`landlock ${newest} 4 2\n`);
  });

  test('do not take the other rules with them when Landlock cannot govern them', async () => {
    // A pipe: its file system is the kernel's own (EBADFD).
    const { said, report } = await confined(
      [...LISTS, 'read-write /dev/stdout'],
      ['read @ro/file', 'read @out/file'],
    );
    expect(Object.values(said)).toEqual(['ok', 'EACCES']);
    expect(report).toMatch(/^warn \/dev\/stdout has no rule: \S+\nlandlock \d+ 4 1\n$/);
  });

  test('do not set the workload free when none of them exists', async () => {
    for (const compatibility of ['best_effort', 'hard_requirement']) {
      const { report, code, said } = await confined(
        [`landlock ${compatibility}`, ...(compatibility === 'best_effort' ? [ro('nowhere')] : [])],
        ['read @out/file'],
      );
      expect([code, said]).toEqual([71, {}]);
      expect(report).toMatch(/^fail 71 no path of filesystem_policy exists here/);
    }
  });
});

describe.skipIf(newest === 0)(`secrets of the supervisor${skipped}`, () => {
  const SECRET = ['secret/token.d', 'secret/near/program'].map((path) => `secret ${at(path)}`);

  test('are left out of the read-only path that holds them, and nothing else is', async () => {
    const { said, report } = await confined(
      [...BASE, ...SECRET, ro('secret'), rw('rw')],
      [
        'list @secret',
        'read @secret/file',
        'execute @secret/program',
        'read @secret/near/file',
        'read @secret/near/program',
        'execute @secret/near/program',
        'read @secret/token.d/file',
        'write @secret/file',
        'write @rw/file',
      ],
    );
    expect(Object.values(said)).toEqual([
      'ok',
      'ok',
      'ok',
      'ok',
      'EACCES',
      'EACCES',
      'EACCES',
      'EACCES',
      'ok',
    ]);
    expect(report).toMatch(/^landlock \d+ \d+ 0\n$/);
  });

  test('are left out of / as well', async () => {
    const { said } = await confined(
      [...BASE, ...SECRET, 'read-only /'],
      [
        'read @secret/file',
        'read @out/file',
        'read /etc/passwd',
        'read @secret/token.d/file',
        'read @secret/near/program',
      ],
    );
    expect(Object.values(said)).toEqual(['ok', 'ok', 'ok', 'EACCES', 'EACCES']);
  });

  test('cannot be named by a symlink of the image, nor can what holds them for writing', async () => {
    symlinkSync('secret/token.d', at('direct'));
    symlinkSync('secret', at('above'));
    const { said, report } = await confined(
      [...BASE, ...SECRET, rw('direct'), rw('above')],
      ['read @direct/file', 'read @secret/token.d/file', 'write @secret/file'],
    );
    expect(Object.values(said)).toEqual(['EACCES', 'EACCES', 'EACCES']);
    expect(report).toMatch(/warn @direct stays out of reach, for it leads to a secret/);
    expect(report).toMatch(/warn @above stays out of reach, for a link leads from it to @secret;/);
  });

  test('come into reach, aloud, where the policy itself makes writable what holds them', async () => {
    const { said, report } = await confined([...BASE, ...SECRET, rw('secret')], ['write @secret/file']);
    expect(said).toEqual({ 'write @secret/file': 'ok' });
    expect(report).toMatch(
      /^warn the policy makes @secret writable, and @secret\/token\.d below it is in reach/,
    );
  });

  test('that change by rename stay out of reach', async () => {
    const write = (name: string) => {
      mkdirSync(at(`secret/near/${name}`));
      writeFileSync(at(`secret/near/${name}/token`), name, { mode: 0o644 });
    };
    write('..2026');
    symlinkSync('..2026', at('secret/near/..data'));
    symlinkSync('..data/token', at('secret/near/token'));
    let rotated = false;
    const { said } = await confined(
      [...BASE, `secret ${at('secret/near/token')}`, ro('secret')],
      [
        'read @secret/near/file',
        'await @secret/near/rotated',
        'read @secret/near/token',
        'read @secret/near/file',
      ],
      () => {
        if (rotated) return;
        rotated = true;
        // As the kubelet does: a new directory, and the link is replaced.
        write('..2027');
        symlinkSync('..2027', at('secret/near/..next'));
        renameSync(at('secret/near/..next'), at('secret/near/..data'));
        writeFileSync(at('secret/near/rotated'), '');
      },
    );
    expect(readFileSync(at('secret/near/token'), 'utf8')).toBe('..2027');
    expect(said).toEqual({
      'read @secret/near/file': 'ok',
      'await @secret/near/rotated': 'ok',
      'read @secret/near/token': 'EACCES',
    });
  });
});

describe.skipIf(newest < 4)(`ports${newest < 4 ? ' (skipped: needs Landlock ABI 4)' : ''}`, () => {
  const servers: Server[] = [];
  const listen = async (): Promise<number> => {
    const server = createServer((socket) => socket.on('error', () => undefined).end()).listen(0, '127.0.0.1');
    servers.push(server);
    await new Promise((listening) => server.once('listening', listening));
    const address = server.address();
    return typeof address === 'object' && address !== null ? address.port : 0;
  };
  afterAll(() => {
    for (const server of servers) server.close();
  });

  test('are the only ones that may be connected to, and all are without them', async () => {
    const [proxy, other] = [await listen(), await listen()];
    const tried = [`connect ${proxy}`, `connect ${other}`, `fastopen-deferred ${other}`];
    expect(Object.values((await confined(LISTS, tried)).said)).toEqual(['ok', 'ok', 'ok']);
    const narrowed = await confined([...LISTS, `connect-port ${proxy}`], tried);
    expect(Object.values(narrowed.said)).toEqual(['ok', 'EACCES', 'EACCES']);
  });

  test('are refused below ABI 4 and without Landlock, whatever the policy’s compatibility', async () => {
    for (const [records, reason] of [
      [
        [...LISTS, 'landlock-abi-max 3'],
        /^fail 71 --strict-loopback needs Landlock ABI 4 .*ABI 3 is in force/,
      ],
      [['landlock off'], /^fail 71 --strict-loopback needs Landlock/],
    ] as const) {
      const { report, code } = await confined([...records, 'connect-port 80'], ['stat /']);
      expect(code).toBe(71);
      expect(report).toMatch(reason);
    }
  });

  test.each(['0', '65536', '80x', ''])('are numbers: not "%s"', async (port) => {
    const { report } = await confined([...LISTS, `connect-port ${port}`], ['stat /']);
    expect(report).toBe('fail 70 the spec is wrong: connect-port is not between 1 and 65535\n');
  });
});

describe.skipIf(newest === 0 || process.getuid?.() !== 0)(
  `as root${newest === 0 || process.getuid?.() !== 0 ? ' (skipped: needs root and Landlock)' : ''}`,
  () => {
    test('rules reach what only root may open, and ids are dropped after', async () => {
      mkdirSync(at('deep/private'), { recursive: true });
      writeFileSync(at('deep/private/file'), 'x', { mode: 0o666 });
      chmodSync(at('deep'), 0o700);
      chownSync(at('deep'), 0, 0);
      const { said, report } = await confined(
        [...BASE, ro('deep/private'), 'uid 1000'],
        ['read @deep/private/file'],
      );
      // The rule stands; the mode of the directory above still holds for the workload's user.
      expect(report).toBe(`landlock ${newest} 2 0\n`);
      expect(said).toEqual({ 'read @deep/private/file': 'EACCES' });
    });
  },
);
