import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { ensureRootfs } from '../../scripts/lib/rootfs.ts';
import { runSandbox, type SandboxOptions, startSandbox } from '../../scripts/lib/sandbox.ts';
import { startWorld } from '../../scripts/lib/world.ts';
import { temporaryDirectory } from '../temporary-directory.ts';
import { describeUnless } from './describe-unless.ts';
import { missing } from './requirements.ts';

const why = missing('qemu-system-x86_64', 'runc', 'busybox', 'musl-gcc');
/** An emulated processor, on a machine that others use too. */
const PATIENCE = 120_000;
const INSTALLED = '/opt/openshell/bin';

const sh = (script: string, options: Partial<SandboxOptions> = {}) =>
  runSandbox({ runtime: 'vm', command: [], entrypoint: ['/bin/sh', '-c', script], ...options });

/** Whether a process of this machine has this text among its arguments. */
const runs = (text: string): boolean => {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .some((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(text);
      } catch {
        return false;
      }
    });
};

describeUnless(why, 'a virtual machine', () => {
  const { directory } = temporaryDirectory('vm-test-');
  beforeAll(() => ensureRootfs('debian'), PATIENCE);

  test(
    'runs the bundle as its user, on another kernel, with a read-only image, and ends with its code',
    async () => {
      const result = await sh(
        `id -u; uname -r; grep -E '^(CapBnd|NoNewPrivs|Seccomp):' /proc/self/status
         touch ${INSTALLED}/x /x 2>/dev/null && echo written
         stat -c '%a %u' ${INSTALLED}/lib/ld-linux-x86-64.so.2
         cat ${INSTALLED}/lib/ld-linux-x86-64.so.2 >/dev/null 2>&1 && echo readable
         ${INSTALLED}/lib/ld-linux-x86-64.so.2 --version | head -n 1 | cut -c 1-5
         exit 7`,
      );
      expect(result.stdout.split('\n')).toEqual([
        '1000',
        expect.stringMatching(/^6\.1\./),
        'CapBnd:\t0000000000000000',
        'NoNewPrivs:\t1',
        'Seccomp:\t0',
        '111 0',
        'ld.so',
        '',
      ]);
      expect(result.code).toBe(7);
    },
    PATIENCE,
  );

  test(
    'passes standard input, output and error through, byte for byte',
    async () => {
      const input = Array.from({ length: 40_000 }, (_, index) => `${index}\u0000\r\n\u00e9`).join('');
      const sandbox = await startSandbox({
        runtime: 'vm',
        command: [],
        entrypoint: ['/bin/sh', '-c', 'cat; echo err >&2'],
        stdin: 'pipe',
      });
      sandbox.child.stdin?.end(input);
      const { code, stdout, stderr } = await sandbox.ended;
      expect({ code, stderr, same: stdout === input }).toEqual({ code: 0, stderr: 'err\n', same: true });
    },
    PATIENCE,
  );

  test(
    'hands SIGTERM to the first process, and leaves nothing when it is stopped',
    async () => {
      const script = 'trap "echo bye; exit 3" TERM; echo up; while :; do sleep 0.1; done';
      const start = () => startSandbox({ runtime: 'vm', command: [], entrypoint: ['/bin/sh', '-c', script] });
      const polite = await start();
      await expect.poll(() => polite.printed().stdout, { timeout: 60_000 }).toContain('up');
      polite.signal('SIGTERM');
      expect(await polite.ended).toEqual({ code: 3, stdout: 'up\nbye\n', stderr: '' });
      const killed = await start();
      await expect.poll(() => killed.printed().stdout, { timeout: 60_000 }).toContain('up');
      expect(runs(`${killed.directory}/share`)).toBe(true);
      await killed.stop();
      await expect.poll(() => runs(`${killed.directory}/share`), { timeout: 10_000 }).toBe(false);
    },
    PATIENCE,
  );

  test(
    'is seen by the world at the address of its network',
    async () => {
      const world = await startWorld({ gateway: false });
      try {
        const network = await world.network();
        const { stdout } = await sh(
          'cat /sys/class/net/eth0/operstate; curl -s -m 20 -o /dev/null -w "%{http_code} %{local_ip}" http://api.allowed.test/',
          { network },
        );
        expect(stdout).toBe(`up\n200 ${network.address}`);
      } finally {
        await world.stop();
      }
    },
    PATIENCE,
  );

  test(
    'has only lo without a network, and writes to a writable bind alone',
    async () => {
      writeFileSync(join(directory, 'file'), 'old', { mode: 0o666 });
      const source = join(directory, 'file');
      const { stdout } = await sh('ls /sys/class/net; echo new > /tmp/file; echo new > /run/ro', {
        user: 0,
        binds: [
          { source, destination: '/tmp/file', writable: true },
          { source, destination: '/run/ro' },
        ],
      });
      expect(stdout).toBe('lo\n');
      expect(readFileSync(source, 'utf8')).toBe('new\n');
    },
    PATIENCE,
  );

  test(
    'has Landlock, unless the kernel is told otherwise',
    async () => {
      // landlock_create_ruleset(NULL, 0, LANDLOCK_CREATE_RULESET_VERSION)
      const probe =
        'import ctypes; l = ctypes.CDLL(None, use_errno=True); print(l.syscall(444, 0, 0, 1), ctypes.get_errno())';
      const ask = async (kernelArguments: readonly string[]) =>
        (await sh(`python3 -c '${probe}'`, { kernelArguments })).stdout;
      expect(await ask([])).toBe('2 0\n');
      // EOPNOTSUPP: built in, but not enabled at boot.
      expect(await ask(['lsm=yama'])).toBe('-1 95\n');
    },
    PATIENCE,
  );

  test(
    "runs the supervisor's probe, which finds the guest's Landlock",
    async () => {
      const result = await runSandbox({
        runtime: 'vm',
        command: [],
        entrypoint: [`${INSTALLED}/openshell-sandbox`, 'probe'],
      });
      expect(JSON.parse(result.stdout)).toMatchObject({
        release: expect.stringMatching(/^6\.1\./),
        landlock: { ok: true, abi: 2 },
        seccomp_filter: { ok: true },
      });
    },
    PATIENCE,
  );
});
