import { chmodSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { runSandbox, type SandboxOptions } from '../../scripts/lib/sandbox.ts';
import { temporaryDirectory } from '../temporary-directory.ts';
import { describeUnless } from './describe-unless.ts';
import { missing } from './requirements.ts';

const why = missing('runc');
const { directory, file } = temporaryDirectory('view-test-');
const token = file('token', 'the-secret-token');
const data = join(directory, 'data');
for (const sub of ['', 'inner', 'other']) {
  mkdirSync(join(data, sub), { recursive: true });
  chmodSync(join(data, sub), 0o777);
}
writeFileSync(join(data, 'inner/file'), 'inner');
writeFileSync(join(data, 'other/file'), 'other');
symlinkSync('inner', join(data, 'link'));

let policies = 0;
/** Runs a script where mounts work and Landlock does not, under a policy with these paths. */
function sh(
  script: string,
  paths: { readonly readOnly?: string; readonly readWrite?: string; readonly hard?: boolean },
  options: Partial<SandboxOptions> = {},
) {
  policies += 1;
  const policy = file(
    `policy-${policies}.yaml`,
    `version: 1
filesystem_policy:
  include_workdir: true
  read_only: [${paths.readOnly ?? '/usr, /bin, /lib, /lib64, /etc, /proc'}]
  read_write: [${paths.readWrite ?? '/tmp, /dev/null'}]
landlock: { compatibility: ${paths.hard ? 'hard_requirement' : 'best_effort'} }
`,
  );
  return runSandbox({
    runtime: 'runc',
    seccomp: false,
    policy,
    command: ['/bin/sh', '-c', script],
    ...options,
    flags: ['--landlock-abi-max', '0', ...(options.flags ?? [])],
  });
}
const lines = (text: string) => text.split('\n').filter((line) => line !== '');

describeUnless(why, 'a private mount view, without Landlock', () => {
  test('holds the paths of the policy and nothing else', async () => {
    const { stdout, code } = await sh('ls /; ls /dev 2>&1; ls /root 2>&1; cat /run/policy.yaml 2>&1', {});
    expect(code).toBe(1);
    expect(lines(stdout)).toEqual([
      ...['bin', 'dev', 'etc', 'lib', 'lib64', 'proc', 'sandbox', 'sbin', 'tmp', 'usr'],
      // A session's own terminal, whichever it is.
      ...['null', 'tty', "ls: cannot access '/root': No such file or directory"],
      'cat: /run/policy.yaml: No such file or directory',
    ]);
  });

  test('lets the workload write where the policy says, and only there', async () => {
    const { stdout } = await sh(
      `for path in /tmp/x /sandbox/x /usr/x /etc/x /x /dev/x /bin/x; do
           if (echo x > $path) 2>/dev/null; then echo "$path yes"; else echo "$path no"; fi
         done
         echo x > /dev/null && echo null`,
      {},
    );
    expect(lines(stdout)).toEqual([
      '/tmp/x yes',
      '/sandbox/x yes',
      ...['/usr/x no', '/etc/x no', '/x no', '/dev/x no', '/bin/x no'],
      'null',
    ]);
  });

  test('adds up rules as Landlock does: a writable path makes what is below it writable', async () => {
    const binds = [{ source: data, destination: '/data', writable: true }];
    const probe =
      'for d in /data /data/inner /data/other; do touch $d/new 2>/dev/null; echo "$d $?"; rm -f $d/new; done';
    const nested = await sh(
      probe,
      { readOnly: '/usr, /bin, /lib, /lib64, /data', readWrite: '/dev/null, /data/inner' },
      { binds },
    );
    expect(lines(nested.stdout)).toEqual(['/data 1', '/data/inner 0', '/data/other 1']);
    const reversed = await sh(
      probe,
      { readOnly: '/usr, /bin, /lib, /lib64, /data/inner', readWrite: '/dev/null, /data' },
      { binds },
    );
    expect(lines(reversed.stdout)).toEqual(['/data 0', '/data/inner 0', '/data/other 0']);
  });

  test('follows a link of the policy, and shows nothing beside its end', async () => {
    const { stdout } = await sh(
      'cat /data/link/file /data/inner/file; ls /data; cat /data/other/file',
      { readOnly: '/usr, /bin, /lib, /lib64, /data/link' },
      { binds: [{ source: data, destination: '/data' }] },
    );
    expect(lines(stdout)).toEqual(['innerinnerinner', 'link']);
  });

  test('can hold the whole root, read-only, with the writable paths on it', async () => {
    const { stdout } = await sh(
      'ls / | tr "\\n" " "; touch /etc/x /x 2>/dev/null; echo $?; touch /tmp/x /sandbox/x; echo $?; ls /tmp',
      { readOnly: '/', readWrite: '/tmp, /dev/null' },
    );
    expect(stdout).toMatch(/\bbin boot .*usr var 1\n0\nx\n$/);
  });

  test('hides what is the supervisor’s, whatever the policy says', async () => {
    const { stdout } = await sh(
      'cat /var/run/secrets/openshell/token /run/secrets/openshell/token; ls -A /run/openshell /run/secrets/openshell; echo end',
      { readOnly: '/' },
      {
        binds: [{ source: token, destination: '/run/secrets/openshell/token' }],
        env: { OPENSHELL_K8S_SA_TOKEN_FILE: '/var/run/secrets/openshell/token' },
      },
    );
    expect(stdout).not.toContain('the-secret-token');
    expect(lines(stdout)).toEqual(['/run/openshell:', '', '/run/secrets/openshell:', 'end'].filter(Boolean));
  });

  test('cannot be undone, looked behind or mounted upon', async () => {
    const { stdout } = await sh(
      `python3 - <<'END'
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
def attempt(name, result):
    print(name, "ok" if result == 0 else os.strerror(ctypes.get_errno()))
attempt("umount", libc.umount2(b"/run/openshell", 2))
attempt("mount", libc.mount(b"tmpfs", b"/tmp", b"tmpfs", 0, None))
attempt("remount", libc.mount(None, b"/usr", None, 32 | 4096, None))
attempt("unshare", libc.unshare(0x10000000 | 0x20000))
attempt("pivot", libc.syscall(155, b".", b"."))
attempt("chroot", libc.chroot(b"/tmp"))
END
awk '$9 == "tmpfs" && /size=1024k/ { print $5 }' /proc/self/mountinfo`,
      { readOnly: '/usr, /bin, /lib, /lib64, /etc, /proc, /run' },
    );
    const refused = ['umount', 'mount', 'remount', 'unshare', 'pivot', 'chroot'];
    expect(lines(stdout).slice(0, 6)).toEqual(refused.map((name) => `${name} Operation not permitted`));
    // The root and the covers are all that is left of the place where the view was made.
    expect(lines(stdout).slice(6).sort()).toEqual(['/', '/etc/resolv.conf', '/run/openshell']);
  });

  test('refuses a missing path when the policy demands all of them', async () => {
    const paths = { readOnly: '/usr, /bin, /lib, /lib64, /not/there' };
    expect(await sh('echo up', paths)).toMatchObject({ code: 0, stdout: 'up\n' });
    expect(await sh('echo up', { ...paths, hard: true })).toMatchObject({
      code: 71,
      stdout: expect.not.stringMatching(/^up$/m),
      stderr: expect.stringContaining('cannot open /not/there: ENOENT'),
    });
  });

  test('has a proc file system of its own where the container’s is not masked', async () => {
    const { stdout } = await sh(
      'ls /proc | grep -c "^[0-9]"; tr "\\0" " " < /proc/1/cmdline; kill -9 1; echo',
      {},
      {
        maskedProc: false,
      },
    );
    // PID 1 is the anchor; then the shell and the two ends of the pipe.
    expect(stdout).toMatch(/^[34]\n\S*openshell-shim anchor \n$/);
  });
});
