import { execFileSync } from 'node:child_process';
import { chmodSync, copyFileSync, mkdtempSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { ensureBuilt } from '../../scripts/lib/build.ts';
import {
  type RunningSandbox,
  runSandbox,
  type SandboxOptions,
  startSandbox,
} from '../../scripts/lib/sandbox.ts';
import { temporaryDirectory } from '../temporary-directory.ts';
import { describeUnless } from './describe-unless.ts';
import { missing } from './requirements.ts';
import { CURL_TO_API, sandboxPolicy } from './sandbox-policy.ts';

const why = missing('runc');
const { directory, file } = temporaryDirectory('sandbox-test-');
const POLICY = file('policy.yaml', sandboxPolicy(CURL_TO_API));
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

describeUnless(why, 'a sandbox', () => {
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
});
