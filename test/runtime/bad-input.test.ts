import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { runSandbox, type SandboxOptions } from '../../scripts/lib/sandbox.ts';
import { temporaryDirectory } from '../temporary-directory.ts';
import { describeUnless } from './describe-unless.ts';
import { missing } from './requirements.ts';
import { sharedWorld } from './world-fixture.ts';

const why = missing('runc');
const { file } = temporaryDirectory('bad-input-');
const POLICY = file('policy.yaml', 'version: 1\n');
/** A baseline that lets the programs of the image run. */
const RUNNABLE = file(
  'runnable.yaml',
  'version: 1\nfilesystem_policy: {include_workdir: true, read_only: [/usr, /bin, /lib, /lib64, /etc, /proc], read_write: [/tmp, /dev/null]}\n',
);

/** Runs a sandbox and expects one line on standard error, the exit code, and nothing started. */
async function refused(options: Partial<SandboxOptions>, code: number, line: RegExp): Promise<void> {
  const result = await runSandbox({ command: ['/bin/echo', 'started'], ...options });
  expect(result.stderr.trim()).toMatch(line);
  expect(result.stderr.trim().split('\n')).toHaveLength(1);
  expect(result.stdout).not.toMatch(/^started$/m);
  expect(result.code).toBe(code);
}

describeUnless(why, 'bad input', () => {
  test('a policy that does not parse', () =>
    refused(
      { policy: file('torn.yaml', 'version: [1\n') },
      65,
      /the policy .* is not valid: the document \(line \d, column \d+\): /,
    ));

  test('a policy that does not validate, with the place in the document', () =>
    refused(
      { policy: file('bad.yaml', 'version: 1\nfilesystem_policy:\n  read_only: [etc]\n') },
      65,
      /filesystem_policy\.read_only\[0\] \(line 3, column \d+\): must be an absolute path/,
    ));

  test('a policy file that does not exist', () =>
    refused(
      { policy: RUNNABLE, flags: ['--policy', '/nowhere.yaml'] },
      78,
      /cannot read \/nowhere\.yaml, which --policy names/,
    ));

  test('an unknown flag, with a suggestion', () =>
    refused(
      { policy: POLICY, flags: ['--log-levle=info'] },
      64,
      /unknown flag --log-levle; did you mean --log-level\?/,
    ));

  test('an endpoint that is not a URL', () =>
    refused(
      { policy: POLICY, env: { OPENSHELL_ENDPOINT: 'gateway:8080' } },
      78,
      /"gateway:8080" is not an http or https URL; set OPENSHELL_ENDPOINT/,
    ));

  test('a token file that is missing', () =>
    refused(
      {
        policy: POLICY,
        env: { OPENSHELL_ENDPOINT: 'http://127.0.0.1:1', OPENSHELL_SANDBOX_TOKEN_FILE: '/nowhere/token' },
      },
      77,
      /cannot read the token file \/nowhere\/token, which OPENSHELL_SANDBOX_TOKEN_FILE names/,
    ));

  test('a token file that is empty', () =>
    refused(
      {
        policy: POLICY,
        binds: [{ source: file('empty', '\n'), destination: '/run/token' }],
        env: { OPENSHELL_ENDPOINT: 'http://127.0.0.1:1', OPENSHELL_SANDBOX_TOKEN_FILE: '/run/token' },
      },
      77,
      /the token file \/run\/token is empty/,
    ));

  test('an https endpoint without certificates', () =>
    refused(
      { policy: POLICY, env: { OPENSHELL_ENDPOINT: 'https://127.0.0.1:1', OPENSHELL_SANDBOX_TOKEN: 'x' } },
      77,
      /an https endpoint needs mutual TLS: set OPENSHELL_TLS_CA/,
    ));

  test(
    'an unreachable gateway, after the contract’s five attempts',
    () =>
      refused(
        { env: { OPENSHELL_ENDPOINT: 'http://127.0.0.1:1', OPENSHELL_SANDBOX_TOKEN: 'x' } },
        69,
        /no configuration from the gateway: UNAVAILABLE.*check OPENSHELL_ENDPOINT/,
      ),
    60_000,
  );

  test('a port that is taken', () =>
    refused(
      { policy: POLICY, flags: ['--health-port', '3128', '--health-host', '127.0.0.1'] },
      73,
      /the proxy cannot listen on 127\.0\.0\.1:3128: the address is taken; choose another port with --proxy-port/,
    ));

  test('a main process spec that is not one', () =>
    refused(
      { policy: POLICY, command: [], env: { OPENSHELL_MAIN_PROCESS_SPEC: '{"version":2}' } },
      78,
      /OPENSHELL_MAIN_PROCESS_SPEC has version 2/,
    ));

  test('a workload that does not exist', () =>
    refused({ policy: RUNNABLE, command: ['/bin/nothing'] }, 127, /\/bin\/nothing: no such program/));

  test('a workload that is not executable', () =>
    refused({ policy: RUNNABLE, command: ['/etc/passwd'] }, 126, /\/etc\/passwd: not executable/));

  test('a root file system without /proc', async () => {
    // What a runtime does without the proc mount: the launcher finds out before anything else starts.
    const { ensureBuilt } = await import('../../scripts/lib/build.ts');
    const { execFileSync, spawnSync } = await import('node:child_process');
    const { image } = await ensureBuilt();
    const root = mkdtempSync(join(tmpdir(), 'no-proc-'));
    execFileSync('cp', ['-a', `${image}/.`, root]);
    const result = spawnSync('chroot', [root, '/openshell-sandbox', '--', '/bin/true'], { encoding: 'utf8' });
    rmSync(root, { recursive: true });
    expect(result.stderr.trim()).toMatch(
      /^openshell-sandbox: \/proc is not mounted: .*; mount proc at \/proc$/,
    );
    expect(result.status).toBe(71);
  });

  test('a container that allows neither user notification nor namespaces: the network cannot be fenced', () =>
    refused(
      { policy: RUNNABLE, refusedCalls: ['seccomp'] },
      71,
      /the network cannot be fenced, so the workload is not started: .*RuntimeDefault/,
    ));
});

describeUnless(why, 'a policy that the gateway does not take', () => {
  const world = sharedWorld();

  test('leaves the one in force as it is', async () => {
    await world().control(
      'POST',
      '/policy',
      'version: 1\nnetwork_policies: {a: {endpoints: [{host: a.test, port: 80}]}}\n',
    );
    const refusal = await world()
      .control('POST', '/policy', 'version: 1\nnope: 1\n')
      .catch((error: unknown) => String(error));
    expect(JSON.stringify(refusal)).toContain('nope');
    const result = await runSandbox({
      command: ['/bin/sh', '-c', 'curl -s -m 5 http://a.test/'],
      gateway: world().gatewayUrl,
      network: await world().network(),
    });
    expect(result.stdout).toContain('policy_denied');
    await expect
      .poll(() => world().control('GET', '/policy-reports'))
      .toMatchObject([{ version: 1, status: 'loaded' }]);
  });
});
