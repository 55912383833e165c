import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { ensureBuilt } from '../../scripts/lib/build.ts';
import { ensureRootfs } from '../../scripts/lib/rootfs.ts';
import { runSandbox, type SandboxOptions, type SandboxResult } from '../../scripts/lib/sandbox.ts';
import { type Network, startWorld, type World } from '../../scripts/lib/world.ts';
import { temporaryDirectory } from '../temporary-directory.ts';
import { describeUnless } from './describe-unless.ts';
import { missing } from './requirements.ts';

const why = missing('runc', 'musl-gcc');
const USER = 1000;
const { directory, file } = temporaryDirectory('files-test-');
const attempts = join(directory, 'attempts');
const children: ChildProcess[] = [];
let world: World;
let newest = 0;
/** Built once: a source that changes meanwhile is not ours to wait for. */
let image = '';

beforeAll(async () => {
  if (why !== undefined) return;
  execFileSync('musl-gcc', [
    '-std=gnu11',
    '-D_GNU_SOURCE',
    '-O1',
    '-static',
    '-o',
    attempts,
    resolve(import.meta.dirname, '../init/attempts.c'),
  ]);
  ({ image } = await ensureBuilt());
  const probe = execFileSync(join(image, 'openshell-sandbox'), ['probe'], { encoding: 'utf8' });
  newest = Number(/"abi":(\d+)/.exec(probe)?.[1] ?? 0);
  await ensureRootfs('debian');
  world = await startWorld({ gateway: false });
}, 600_000);
afterAll(async () => {
  for (const child of children) child.kill('SIGKILL');
  await world?.stop();
});

const policy = (name: string, readOnly: readonly string[], readWrite: readonly string[], more = ''): string =>
  file(
    `${name}.yaml`,
    `version: 1
filesystem_policy:
  read_only: [/usr, /bin, /lib, /lib64, /proc, /attempts, ${readOnly.join(', ')}]
  read_write: [${readWrite.join(', ')}]
${more}`,
  );

/** A directory that the workload's user owns and may change as it likes, as far as modes go. */
const dataDirectory = (): string => {
  const data = mkdtempSync(join(directory, 'data-'));
  chmodSync(data, 0o777);
  for (const name of ['ro', 'rw', 'rw2', 'out']) {
    mkdirSync(join(data, name));
    writeFileSync(join(data, name, 'file'), 'content');
    cpSync(attempts, join(data, name, 'program'));
    for (const path of [name, `${name}/file`, `${name}/program`]) {
      chmodSync(join(data, path), 0o777);
      chownSync(join(data, path), USER, USER);
    }
  }
  return data;
};

type Said = Readonly<Record<string, string>>;
/** What the attempts printed, by their words. */
const said = ({ code, stdout, stderr }: SandboxResult): Said => {
  const lines = stdout.split('\n').filter((line) => line.includes(': ') && !line.startsWith('{'));
  if (lines.length === 0) throw new Error(`the attempts said nothing: ${code} ${stderr} ${stdout}`);
  return Object.fromEntries(
    lines.map((line) => [line.slice(0, line.lastIndexOf(': ')), line.slice(line.lastIndexOf(': ') + 2)]),
  );
};
const attempt = (tried: readonly string[], options: Partial<SandboxOptions>): Promise<SandboxResult> =>
  runSandbox({
    image,
    command: ['/attempts', ...tried.flatMap((line) => line.split(' '))],
    ...options,
    binds: [{ source: attempts, destination: '/attempts' }, ...(options.binds ?? [])],
  });

/** Serves in the network namespace of a sandbox but outside of it, as another container of the pod would. */
const serve = async (network: Network, ...words: readonly string[]): Promise<() => string> => {
  const child = spawn('nsenter', [`--net=${network.path}`, '--', attempts, ...words], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  children.push(child);
  let output = '';
  child.stdout.on('data', (chunk: Buffer) => {
    output += chunk.toString();
  });
  await expect.poll(() => output, { timeout: 15_000 }).toContain('serving');
  return () => output;
};

describeUnless(why, 'files in a container under runc', () => {
  const OUTSIDE = [
    'read /data/out/file',
    'write /data/out/file',
    'list /data/out',
    'execute /data/out/program',
    'create /data/out/new',
    'unlink /data/out/file',
    'write /data/ro/file',
    'create /data/ro/new',
    'unlink /data/ro/file',
    'read /var/log',
    'create /run/new',
    'write /dev/zero',
  ];
  const INSIDE = [
    'read /data/ro/file',
    'list /data/ro',
    'execute /data/ro/program',
    'write /data/rw/file',
    'create /data/rw/new',
    'execute /data/rw/program',
    'rename /data/rw/new /data/rw/renamed',
    'unlink /data/rw/renamed',
    'write /dev/null',
  ];
  const CHANGING = [
    'rename /data/rw/file /data/rw2/moved',
    'rename /data/ro/file /data/rw/taken',
    'link /data/out/file /data/rw/stolen',
    'truncate /data/ro/file',
    'open-truncate /data/ro/program',
    'truncate /data/out/file',
    'ioctl /dev/urandom',
    'abstract files-test',
    'kill 1 0',
    'kill parent 0',
    'kill -1 15',
  ];

  test('hold under crun too', async (context) => {
    const reason = missing('crun');
    if (reason !== undefined) context.skip(reason);
    const result = await attempt([...OUTSIDE, ...INSIDE], {
      runtime: 'crun',
      policy: policy('crun', ['/data/ro'], ['/data/rw', '/dev/null']),
      binds: [{ source: dataDirectory(), destination: '/data', writable: true }],
    });
    expect(Object.values(said(result))).toEqual([...OUTSIDE.map(() => 'EACCES'), ...INSIDE.map(() => 'ok')]);
  });

  test.for([1, 2, 3, 4, 6, 'the newest'] as const)('hold at Landlock ABI %s', async (masked, context) => {
    const abi = masked === 'the newest' ? newest : masked;
    if (abi === 0 || abi > newest) context.skip(`this kernel has Landlock ABI ${newest}`);
    const data = dataDirectory();
    const network = await world.network();
    await serve(network, 'serve-abstract', 'files-test');
    const result = await attempt([...OUTSIDE, ...INSIDE, ...CHANGING], {
      policy: policy(`abi-${abi}`, ['/data/ro', '/dev/urandom'], ['/data/rw', '/data/rw2', '/dev/null']),
      binds: [{ source: data, destination: '/data', writable: true }],
      flags: masked === 'the newest' ? [] : ['--landlock-abi-max', `${masked}`],
      network,
    });
    const seen = said(result);
    expect(result.code).toBe(0);
    const each = (words: readonly string[], outcome: string) =>
      Object.fromEntries(words.map((one) => [one, outcome]));
    expect(seen).toMatchObject({ ...each(OUTSIDE, 'EACCES'), ...each(INSIDE, 'ok') });
    const cut = abi < 3 ? 'ok' : 'EACCES';
    expect(seen).toMatchObject({
      'rename /data/rw/file /data/rw2/moved': abi < 2 ? 'EXDEV' : 'ok',
      'rename /data/ro/file /data/rw/taken': expect.stringMatching(/^(EACCES|EXDEV)$/),
      'link /data/out/file /data/rw/stolen': expect.stringMatching(/^(EACCES|EXDEV)$/),
      'truncate /data/ro/file': cut,
      'open-truncate /data/ro/program': cut,
      'truncate /data/out/file': cut,
      'ioctl /dev/urandom': abi < 5 ? 'ok' : 'EACCES',
      'abstract files-test': abi < 6 ? 'ok' : 'EPERM',
      // Below ABI 6 the seccomp filter's arguments protect them alone.
      'kill 1 0': 'EPERM',
      'kill parent 0': 'EPERM',
      'kill -1 15': 'EPERM',
    });
    expect(Object.keys(seen)).toHaveLength(OUTSIDE.length + INSIDE.length + CHANGING.length);
    // And from outside:
    expect(readFileSync(join(data, 'out/file'), 'utf8')).toBe(abi < 3 ? '' : 'content');
  });

  test('are told as they are: the ABI in force, who bounds it, and what it leaves open', async () => {
    const doctor = async (...flags: readonly string[]) => {
      const { stdout } = await runSandbox({
        image,
        command: [],
        policy: policy('doctor', ['/etc', '/data/rw/ro'], ['/data/rw']),
        entrypoint: [
          '/opt/openshell/bin/openshell-sandbox',
          'doctor',
          '--json',
          '--policy',
          '/run/policy.yaml',
          ...flags,
        ],
      });
      const report = JSON.parse(stdout) as {
        statement: readonly { aspect: string; mechanism: string; level: string; note: string }[];
      };
      return report.statement.find(({ aspect }) => aspect === 'files');
    };
    expect(await doctor('--landlock-abi-max', '2')).toMatchObject({
      mechanism: 'Landlock ABI 2',
      level: 'partial',
      note: expect.stringMatching(
        new RegExp(
          `the kernel has ABI ${newest}, --landlock-abi-max bounds it; truncating by path is not restricted`,
        ),
      ),
    });
    expect(await doctor()).toMatchObject({
      mechanism: `Landlock ABI ${newest}`,
      level: 'full',
      note: expect.stringMatching(
        /^filesystem_policy; (?!.*truncating).*\/data\/rw\/ro is writable, because/,
      ),
    });
    expect(await doctor('--landlock-abi-max', '999')).toMatchObject({ mechanism: `Landlock ABI ${newest}` });
  });

  test.each(['-1', '3x', '1001'])('take no ABI that is none: %s', async (abi) => {
    const result = await attempt(['stat /'], {
      policy: policy('bad-abi', ['/etc'], ['/tmp']),
      flags: [`--landlock-abi-max=${abi}`],
    });
    expect(result).toMatchObject({
      code: 64,
      stderr: expect.stringMatching(/^[^\n]*--landlock-abi-max must be a number[^\n]*\n$/),
    });
  });

  test('that are missing stop a hard requirement, with their name, and nothing else', async () => {
    const hard = await attempt(['stat /'], {
      policy: policy('hard', ['/nowhere'], ['/tmp'], 'landlock: {compatibility: hard_requirement}\n'),
    });
    expect(hard).toMatchObject({
      code: 71,
      stderr: expect.stringMatching(/^[^\n]*names \/nowhere, which does not exist[^\n]*\n$/),
    });
    const soft = await attempt(['create /tmp/x'], {
      policy: policy('soft', ['/nowhere'], ['/tmp', '/nothing']),
    });
    expect(soft).toMatchObject({ code: 0, stdout: 'create /tmp/x: ok\n' });
  });

  test('behind a link of the image are those that it leads to, but not what is the supervisor’s', async () => {
    const data = dataDirectory();
    symlinkSync('out', join(data, 'link'));
    symlinkSync('/run', join(data, 'run'));
    const result = await attempt(
      [
        'read /data/link/file',
        'read /data/out/file',
        'write /data/out/file',
        'create /run/new',
        'create /run/openshell/new',
      ],
      {
        policy: policy('links', ['/data/link'], ['/data/run']),
        binds: [{ source: data, destination: '/data', writable: true }],
      },
    );
    expect(Object.values(said(result))).toEqual(['ok', 'ok', 'EACCES', 'EACCES', 'EACCES']);
    expect(result.stdout).toMatch(
      /"\/data\/run stays out of reach, for a link leads from it to \/run; name that in the policy"/,
    );
  });

  test('of the supervisor stay its own, although the policy gives the directories above', async () => {
    const secrets = mkdtempSync(join(directory, 'secrets-'));
    chmodSync(secrets, 0o755);
    for (const one of ['token', 'tls.key']) {
      writeFileSync(join(secrets, one), 'secret', { mode: 0o400 });
      chownSync(join(secrets, one), USER, USER);
    }
    const data = dataDirectory();
    symlinkSync('/etc/openshell-tls/client', join(data, 'link'));
    const options = {
      binds: [
        { source: secrets, destination: '/etc/openshell-tls/client' },
        { source: data, destination: '/data', writable: true },
      ],
      policy: policy('secrets', ['/etc', '/run', '/data/link'], ['/tmp']),
    };
    const KEY = 'read /etc/openshell-tls/client/tls.key';
    // It is readable as far as modes and the policy go:
    expect(said(await attempt([KEY], options))).toEqual({ [KEY]: 'ok' });
    const tried = [
      KEY,
      'read /data/link/tls.key',
      'list /etc/openshell-tls/client',
      'read /etc/passwd',
      'read /etc/ssl/openssl.cnf',
      'list /etc',
      'create /run/openshell/x',
      'list /run/openshell',
      'read /run/policy.yaml',
    ];
    const hidden = { OPENSHELL_TLS_KEY: '/etc/openshell-tls/client/tls.key' };
    expect(said(await attempt(tried, { ...options, env: hidden }))).toEqual({
      [KEY]: 'EACCES',
      'read /data/link/tls.key': 'EACCES',
      'list /etc/openshell-tls/client': 'ok', // names only: the right to list goes with the directory above
      'read /etc/passwd': 'ok',
      'read /etc/ssl/openssl.cnf': 'ok',
      'list /etc': 'ok',
      'create /run/openshell/x': 'EACCES',
      'list /run/openshell': 'ok',
      'read /run/policy.yaml': 'ok',
    });
    // In the namespace fence it is covered by a mount as well.
    const covered = await attempt([KEY, 'read /etc/passwd'], { ...options, env: hidden, seccomp: false });
    expect(said(covered)).toEqual({
      [KEY]: expect.stringMatching(/^(ENOENT|EACCES)$/),
      'read /etc/passwd': 'ok',
    });
    // A writable directory above it cannot be carved, so what that means is said.
    const writable = await attempt([KEY], {
      ...options,
      env: hidden,
      policy: policy('writable', [], ['/etc/openshell-tls']),
    });
    expect(writable.stdout).toMatch(
      /"the policy makes \/etc\/openshell-tls writable, and \/etc\/openshell-tls\/client below it is in reach/,
    );
    // With a token in the same directory it is the same.
    const token = { OPENSHELL_SANDBOX_TOKEN_FILE: '/etc/openshell-tls/client/token' };
    expect(
      said(
        await attempt(['read /etc/openshell-tls/client/token', 'read /etc/passwd'], {
          ...options,
          env: token,
        }),
      ),
    ).toEqual({ 'read /etc/openshell-tls/client/token': 'EACCES', 'read /etc/passwd': 'ok' });
  });
});

describeUnless(why, '--strict-loopback', () => {
  const HEALTH = ['--health-check', '--health-port', '9090', '--health-host', '127.0.0.1'];
  const TRIED = [
    'connect 3128',
    'connect 9090',
    'connect 7777',
    'fastopen-sendto 7777',
    'fastopen-sendmsg 7777',
    'fastopen-sendmmsg 7777',
    'fastopen-deferred 7777',
  ];
  const open = () => policy('loopback', ['/etc', '/dev/urandom'], ['/tmp']);
  const FASTOPEN = {
    'fastopen-sendto 7777': 'EOPNOTSUPP',
    'fastopen-sendmsg 7777': 'EOPNOTSUPP',
    'fastopen-sendmmsg 7777': 'EOPNOTSUPP',
  };

  test('leaves the workload the proxy, and neither the health port nor another container’s listener', async (context) => {
    if (newest < 4) context.skip(`needs Landlock ABI 4; this kernel has ${newest}`);
    const network = await world.network();
    const arrived = await serve(network, 'serve-tcp', '7777');
    const result = await attempt(TRIED, { policy: open(), network, flags: [...HEALTH, '--strict-loopback'] });
    expect(said(result)).toEqual({
      'connect 3128': 'ok',
      'connect 9090': 'EACCES',
      'connect 7777': 'EACCES',
      ...FASTOPEN,
      'fastopen-deferred 7777': 'EACCES',
    });
    expect(arrived()).toBe('serving\n');
  });

  test('is why: without it they are reached', async () => {
    const network = await world.network();
    const arrived = await serve(network, 'serve-tcp', '7777');
    const result = await attempt(TRIED, { policy: open(), network, flags: HEALTH });
    expect(said(result)).toEqual({
      'connect 3128': 'ok',
      'connect 9090': 'ok',
      'connect 7777': 'ok',
      ...FASTOPEN,
      'fastopen-deferred 7777': 'ok',
    });
    await expect.poll(arrived).toContain('arrived: hello');
  });

  test('lets requests through the proxy as before', async (context) => {
    if (newest < 4) context.skip(`needs Landlock ABI 4; this kernel has ${newest}`);
    const result = await runSandbox({
      image,
      command: [
        '/usr/bin/curl',
        '-s',
        '-m',
        '10',
        '-o',
        '/dev/null',
        '-w',
        '%{http_code}',
        'http://api.allowed.test/',
      ],
      policy: policy(
        'proxied',
        ['/etc', '/dev/urandom'],
        ['/tmp', '/dev/null'],
        'network_policies: {a: {endpoints: [{host: api.allowed.test, port: 80}], binaries: [{path: /usr/bin/curl}]}}\n',
      ),
      network: await world.network(),
      flags: ['--strict-loopback', '--proxy-port', '3129'],
    });
    expect(result).toMatchObject({ code: 0, stdout: '200' });
  });

  test('is refused where Landlock is too old, in one sentence that names the flag', async () => {
    const result = await attempt(['connect 3128'], {
      policy: open(),
      flags: ['--strict-loopback', '--landlock-abi-max', '3'],
    });
    expect(result).toMatchObject({
      code: 71,
      stdout: expect.not.stringContaining('connect'),
      stderr: expect.stringMatching(
        /^[^\n]*--strict-loopback needs Landlock ABI 4[^\n]*ABI 3 is in force[^\n]*\n$/,
      ),
    });
  });

  test('needs no Landlock where the fence has a loopback of its own', async () => {
    const network = await world.network();
    const arrived = await serve(network, 'serve-tcp', '7777');
    const result = await attempt(['connect 3128', 'connect 9090', 'connect 7777'], {
      policy: open(),
      network,
      seccomp: false,
      flags: [...HEALTH, '--strict-loopback', '--landlock-abi-max', '3'],
    });
    expect(said(result)).toEqual({
      'connect 3128': 'ok',
      'connect 9090': 'ECONNREFUSED',
      'connect 7777': 'ECONNREFUSED',
    });
    expect(arrived()).toBe('serving\n');
  });
});
