import { execFileSync, spawnSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ensureBuilt } from '../../scripts/lib/build.ts';
import { ensureRootfs } from '../../scripts/lib/rootfs.ts';
import {
  type RunningSandbox,
  runSandbox,
  type SandboxOptions,
  startSandbox,
} from '../../scripts/lib/sandbox.ts';
import { startWorld, type World } from '../../scripts/lib/world.ts';
import { missing } from './requirements.ts';

const why = missing('runc');
const directory = mkdtempSync(join(tmpdir(), 'sandbox-test-'));
chmodSync(directory, 0o755);
afterAll(() => rmSync(directory, { recursive: true }));

const file = (name: string, text: string): string => {
  writeFileSync(join(directory, name), text, { mode: 0o644 });
  return join(directory, name);
};
const POLICY = file(
  'policy.yaml',
  `version: 1
filesystem_policy:
  include_workdir: true
  read_only: [/usr, /bin, /sbin, /lib, /lib64, /etc, /proc, /dev/urandom]
  read_write: [/tmp, /dev/null]
network_policies:
  api:
    endpoints: [{ host: api.allowed.test, port: 80 }]
    binaries: [{ path: /usr/bin/curl }]
`,
);
const sh = (script: string, options: Partial<SandboxOptions> = {}) =>
  runSandbox({ policy: POLICY, command: ['/bin/sh', '-c', script], ...options });
const printed = async (sandbox: RunningSandbox, text: string) =>
  expect.poll(() => sandbox.printed().stdout, { timeout: 15_000 }).toContain(text);

/** A directory with nothing but the single-file build, as a driver delivers it. */
async function lonelyFile(): Promise<string> {
  const { singleFile } = await ensureBuilt();
  const lonely = mkdtempSync(join(directory, 'single-'));
  chmodSync(lonely, 0o755);
  copyFileSync(singleFile, join(lonely, 'openshell-sandbox'));
  return lonely;
}

/** Host pids of the container: PID 1 and everything below it. */
function tree(pid: number): readonly number[] {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim();
  return [pid, ...(children === '' ? [] : children.split(' ').map(Number).flatMap(tree))];
}

describe.skipIf(why !== undefined)(`a sandbox${why === undefined ? '' : ` (skipped: ${why})`}`, () => {
  test.each([
    ['exit 0', 0],
    ['exit 7', 7],
    ['kill -KILL $$', 137],
    ['kill -TERM $$', 143],
  ])('ends as its main process does: %s', async (script, code) => {
    expect(await sh(script)).toMatchObject({ code });
  });

  test('ends with 124 when the time is up', async () => {
    expect(await sh('sleep 60', { flags: ['--timeout', '1'] })).toMatchObject({ code: 124 });
  });

  test('passes standard input, output and error through, byte for byte', async () => {
    const sandbox = await startSandbox({
      policy: POLICY,
      command: ['/bin/sh', '-c', 'cat; echo err >&2'],
      stdin: 'pipe',
    });
    sandbox.child.stdin?.end('a\u0000b\r\n\u00e9');
    expect(await sandbox.ended).toEqual({ code: 0, stdout: 'a\u0000b\r\n\u00e9', stderr: 'err\n' });
  });

  test('ends politely on SIGTERM, and by force after the grace', async () => {
    const polite = await startSandbox({
      policy: POLICY,
      command: ['/bin/sh', '-c', 'trap "echo bye; exit 3" TERM; echo up; while :; do sleep 0.1; done'],
    });
    await printed(polite, 'up');
    polite.signal('SIGTERM');
    expect(await polite.ended).toMatchObject({ code: 3, stdout: 'up\nbye\n' });
    const stubborn = await startSandbox({
      policy: POLICY,
      command: ['/bin/sh', '-c', 'trap "" TERM; echo up; while :; do sleep 0.1; done'],
      flags: ['--termination-grace', '1'],
    });
    await printed(stubborn, 'up');
    stubborn.signal('SIGTERM');
    expect(await stubborn.ended).toMatchObject({ code: 137 });
  });

  test('gives the workload its own environment whole, and none of ours', async () => {
    const env = {
      LD_LIBRARY_PATH: '/x',
      NODE_OPTIONS: '--nope',
      LINES: 'a\nb',
      OPENSHELL_SANDBOX_TOKEN: 'secret-token',
    };
    const { stdout, code } = await sh('env -0', { env });
    expect(code).toBe(0);
    const seen = Object.fromEntries(
      stdout
        .split('\0')
        .filter(Boolean)
        .map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]),
    );
    expect(seen).toMatchObject({
      LD_LIBRARY_PATH: '/x',
      NODE_OPTIONS: '--nope',
      LINES: 'a\nb',
      HTTPS_PROXY: 'http://127.0.0.1:3128',
    });
    expect(Object.keys(seen).filter((name) => name.startsWith('OPENSHELL_'))).toEqual(['OPENSHELL_SANDBOX']);
    expect(stdout).not.toContain('secret-token');
  });

  test('leaves the workload no descriptor of the supervisor, no capability and one filter', async () => {
    const { stdout } = await sh(
      'ls /proc/self/fd | tr "\\n" " "; echo; grep -E "^(Cap|NoNewPrivs|Seccomp:)" /proc/self/status; cat /proc/self/oom_score_adj',
    );
    // ls itself has the directory open as 3.
    expect(stdout).toMatch(/^0 1 2 3 \nCap/);
    expect(stdout.match(/^Cap(Inh|Prm|Eff|Bnd|Amb):\t0+$/gm)).toHaveLength(5);
    expect(stdout).toMatch(/NoNewPrivs:\t1\nSeccomp:\t2\n500\n$/);
  });

  test('kills what the main process left behind', async () => {
    const sandbox = await startSandbox({
      policy: POLICY,
      command: ['/bin/sh', '-c', '(setsid sleep 300 &) ; echo up; sleep 2'],
    });
    await printed(sandbox, 'up');
    const pid = await sandbox.pid();
    expect(pid).toBeDefined();
    const pids = tree(pid ?? 0);
    expect(pids.length).toBeGreaterThanOrEqual(4);
    expect((await sandbox.ended).code).toBe(0);
    for (const one of pids) expect(() => process.kill(one, 0)).toThrow('ESRCH');
  });

  test('ends with 122 and says why when its supervisor is killed', async () => {
    const sandbox = await startSandbox({ policy: POLICY, command: ['/bin/sh', '-c', 'echo up; sleep 60'] });
    await printed(sandbox, 'up');
    const [init = 0, supervisor = 0, ...rest] = tree((await sandbox.pid()) ?? 0);
    process.kill(supervisor, 'SIGKILL');
    const result = await sandbox.ended;
    expect(result.code).toBe(122);
    expect(result.stderr.trim()).toMatch(
      /^openshell-sandbox: the supervisor was killed by signal 9, so the sandbox ends/,
    );
    for (const one of [init, ...rest]) expect(() => process.kill(one, 0)).toThrow('ESRCH');
  });

  test('holds its fence with nobody behind it: a stopped PID 1 gives out no socket', async () => {
    const sandbox = await startSandbox({
      policy: POLICY,
      command: [
        '/bin/sh',
        '-c',
        'echo up; sleep 2; timeout 3 curl -s -m 1 http://198.51.100.10/ --noproxy "*"; echo curl $?',
      ],
    });
    await printed(sandbox, 'up');
    const [init = 0] = tree((await sandbox.pid()) ?? 0);
    process.kill(init, 'SIGSTOP');
    await printed(sandbox, 'curl 124').finally(() => process.kill(init, 'SIGCONT'));
    expect((await sandbox.ended).code).toBe(0);
  });

  test('runs on a root file system without any libc, from the volume and from the single file', async () => {
    const options = {
      rootfs: 'busybox' as const,
      command: ['/bin/busybox', 'sh', '-c', 'echo $OPENSHELL_SANDBOX'],
    };
    expect(await runSandbox({ policy: POLICY, ...options })).toEqual({ code: 0, stdout: '1\n', stderr: '' });
    const lonely = await lonelyFile();
    expect(await runSandbox({ policy: POLICY, image: lonely, ...options })).toEqual({
      code: 0,
      stdout: '1\n',
      stderr: '',
    });
  });

  test('unpacks the single file where the workload cannot change it', async () => {
    const lonely = await lonelyFile();
    const { stdout } = await sh('find /run /tmp -name ".openshell*"; echo done', { image: lonely });
    expect(stdout).toBe('done\n');
  });

  test('runs under crun as well', async (context) => {
    const reason = missing('crun');
    if (reason !== undefined) context.skip(reason);
    expect(await sh('echo $OPENSHELL_SANDBOX; exit 5', { runtime: 'crun' })).toMatchObject({
      code: 5,
      stdout: '1\n',
    });
  });

  test('runs what copy-self delivered', async () => {
    const delivered = mkdtempSync(join(directory, 'delivered-'));
    chmodSync(delivered, 0o755);
    const { image } = await ensureBuilt();
    execFileSync(join(image, 'openshell-sandbox'), ['copy-self', join(delivered, 'bin')]);
    expect(readdirSync(join(delivered, 'bin')).sort()).toEqual(['lib', 'openshell-sandbox', 'supervisor']);
    expect(await sh('exit 9', { image: join(delivered, 'bin') })).toMatchObject({ code: 9 });
  });

  test('cannot be steered by its image: variables, OpenSSL, name service', async () => {
    // Leaves a trace that names the program it was loaded into.
    const evil = file(
      'evil.c',
      `#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
__attribute__((constructor)) static void loaded(void) {
  char exe[512] = "", path[600];
  readlink("/proc/self/exe", exe, sizeof exe - 1);
  snprintf(path, sizeof path, "/tmp/loaded-%s", strrchr(exe, '/') + 1);
  close(open(path, O_CREAT | O_WRONLY, 0666));
}
`,
    );
    const library = join(directory, 'libnss_evil.so.2');
    execFileSync('cc', ['-shared', '-fPIC', '-o', library, evil]);
    const world = await startWorld({ gateway: false });
    try {
      const { stdout, stderr, code } = await sh(
        'env -u LD_PRELOAD curl -s -m 5 -o /dev/null -w "%{http_code}" http://api.allowed.test/; getent hosts nowhere.test; echo; ls /tmp',
        {
          network: await world.network(),
          binds: [
            { source: library, destination: '/usr/lib/x86_64-linux-gnu/libnss_evil.so.2' },
            {
              source: file('nsswitch.conf', 'passwd: evil\nhosts: evil dns\n'),
              destination: '/etc/nsswitch.conf',
            },
            {
              source: file(
                'openssl.cnf',
                'nodejs_conf = x\n[x]\nproviders = y\n[y]\nz = q\n[q]\nmodule = /usr/lib/x86_64-linux-gnu/libnss_evil.so.2\nactivate = 1\n',
              ),
              destination: '/evil.cnf',
            },
          ],
          env: {
            LD_PRELOAD: '/evil-that-is-nowhere.so',
            LD_LIBRARY_PATH: '/evil',
            NODE_OPTIONS: '--require /evil.js',
            OPENSSL_CONF: '/evil.cnf',
            SSL_CERT_FILE: '/evil.pem',
            GLIBC_TUNABLES: 'glibc.malloc.check=3',
            OPENSHELL_LOG_LEVEL: 'warn',
          },
        },
      );
      const loaded = stdout.split('\n').filter((line) => line.startsWith('loaded-'));
      // The workload's own programs take the bait, so the trap works; the supervisor's loader does not.
      expect(loaded).toContain('loaded-getent');
      expect(loaded.filter((line) => !['loaded-getent', 'loaded-curl'].includes(line))).toEqual([]);
      expect({ code, begins: stdout.slice(0, 4) }).toEqual({ code: 0, begins: '200\n' });
      // Only the workload's own programs complain about the preload.
      expect(stderr).not.toContain('supervisor');
    } finally {
      await world.stop();
    }
  });

  test('tells an operator what it enforces and whether the gateway answers', async () => {
    const report = await runSandbox({
      command: [],
      flags: ['doctor', '--json'],
      policy: POLICY,
      entrypoint: ['/opt/openshell/bin/openshell-sandbox', 'doctor', '--json'],
    });
    // doctor is a word, not a flag: it stands first.
    expect(JSON.parse(report.stdout)).toMatchObject({
      startable: true,
      fence: 'socket',
      gateway: { configured: false },
      statement: expect.arrayContaining([expect.objectContaining({ aspect: 'network', enforced: true })]),
    });
    expect(report.code).toBe(0);
  });
});

describe.skipIf(why !== undefined)('health', () => {
  let world: World;
  beforeAll(async () => {
    await ensureRootfs('debian');
    world = await startWorld();
  });
  afterAll(() => world.stop());

  test('turns ready when the workload runs and the session stands, and not before', async () => {
    await world.control('POST', '/policy', readFileSync(POLICY, 'utf8'));
    const network = await world.network();
    const sandbox = await startSandbox({
      command: ['/bin/sh', '-c', 'sleep 60'],
      gateway: world.gatewayUrl,
      network,
      flags: ['--health-check', '--health-port', '9090'],
    });
    const get = async (path: string) =>
      (await network.exec(['curl', '-s', '-m', '2', '-w', '\n%{http_code}', `http://127.0.0.1:9090${path}`]))
        .stdout;
    await expect
      .poll(() => get('/readyz'), { timeout: 15_000, interval: 200 })
      .toBe('{"ready":true,"reasons":[]}\n\n200');
    expect(await get('/healthz')).toBe('ok\n\n200');
    const metrics = await get('/metrics');
    expect(metrics).toMatch(/^openshell_supervisor_session_established 1$/m);
    expect(metrics).toMatch(
      /^openshell_supervisor_enforcement\{aspect="network",mechanism="socket fence"\} 1$/m,
    );
    expect(metrics).toMatch(/^openshell_supervisor_private_memory_bytes \d+$/m);
    await world.control('POST', '/refuse');
    await expect
      .poll(() => get('/readyz'), { timeout: 15_000, interval: 200 })
      .toMatch(/"ready":false.*the gateway session is offline.*\n503$/s);
    await world.control('POST', '/accept');
    sandbox.signal('SIGTERM');
    expect((await sandbox.ended).code).toBe(143);
    await expect
      .poll(() => world.control('GET', '/exits'))
      .toMatchObject([{ exitCode: 143, accepted: true }]);
  });
});

describe.skipIf(missing('podman') !== undefined)('an image volume', () => {
  test('of podman carries the supervisor into a restricted container', async (context) => {
    const { makeImage } = await import('../../scripts/lib/image.ts');
    const { revision } = await import('../../scripts/lib/revision.ts');
    const { image } = await ensureBuilt();
    const out = mkdtempSync(join(tmpdir(), 'oci-'));
    const made = await makeImage(image, await revision(), out);
    const podman = (...args: string[]) =>
      spawnSync(
        'podman',
        [
          '--root',
          join(out, 'root'),
          '--runroot',
          join(out, 'run'),
          '--storage-driver',
          'vfs',
          '--cgroup-manager',
          'cgroupfs',
          ...args,
        ],
        { encoding: 'utf8' },
      );
    try {
      const loaded = podman('load', '-q', '-i', made.archive);
      const name = /([0-9a-f]{64}|\S+:\S+)\s*$/.exec(loaded.stdout)?.[1] ?? '';
      if (loaded.status !== 0)
        context.skip(`podman cannot load here: ${loaded.stderr.trim().split('\n').at(-1)}`);
      const rootfs = await ensureRootfs('debian');
      const run = podman(
        'run',
        '--rm',
        '--runtime',
        'runc',
        '--user',
        '1000:1000',
        '--cap-drop',
        'all',
        '--security-opt',
        'no-new-privileges',
        '--read-only',
        '--network',
        'none',
        '--ulimit',
        'nofile=4096:4096',
        '--ulimit',
        'nproc=4096:4096',
        '--mount',
        `type=image,source=${name},destination=/opt/openshell/bin`,
        '-v',
        `${POLICY}:/policy.yaml:ro`,
        '--entrypoint',
        '/opt/openshell/bin/openshell-sandbox',
        '--rootfs',
        `${rootfs}`,
        '--policy',
        '/policy.yaml',
        '--',
        '/bin/sh',
        '-c',
        'echo $OPENSHELL_SANDBOX; exit 6',
      );
      if (run.status === 125 || run.status === 126)
        context.skip(`podman cannot run here: ${run.stderr.trim().split('\n').at(-1)}`);
      expect({ code: run.status, stdout: run.stdout }).toEqual({ code: 6, stdout: '1\n' });
    } finally {
      podman('system', 'reset', '--force');
      await sleep(0);
      rmSync(out, { recursive: true, force: true });
    }
  }, 120_000);
});
