import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { chmodSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { temporaryDirectory } from '../temporary-directory.ts';
import { describeUnless } from './describe-unless.ts';
import { isSeenFromOutside } from './places.ts';
import { missing } from './requirements.ts';
import { sandboxPolicy } from './sandbox-policy.ts';
import { SSH_PLACES, type SshSandbox, startSshSandbox } from './ssh-sandbox.ts';

const { directory, file } = temporaryDirectory('sftp-runtime-');
const POLICY = file('policy.yaml', sandboxPolicy());

for (const place of SSH_PLACES) {
  const { runtime } = place.options;
  const why = missing(runtime, 'sftp', 'ip');
  describeUnless(why, place.name, { timeout: 60_000 }, () => {
    let ssh: SshSandbox;
    beforeAll(async () => {
      ssh = await startSshSandbox({
        policy: POLICY,
        ...place.options,
        env: { OPENSHELL_USER_ENVIRONMENT: '{"HOME":"/tmp"}' },
      });
    }, 120_000);
    afterAll(async () => {
      await ssh?.stop();
    });

    /** Starts OpenSSH's sftp, which reads commands. */
    const start = (...flags: readonly string[]) =>
      spawn('sftp', ['-D', ssh.commandOf(['-s'], ['sftp']).join(' '), ...flags], {
        stdio: ['pipe', 'pipe', 'pipe'],
      });
    /** Runs commands to the end, or to the first that fails and has no `-` before it. */
    const sftp = async (...commands: readonly string[]) => {
      const child = start('-b', '-');
      let [stdout, stderr] = ['', ''];
      child.stdout.on('data', (chunk) => (stdout += chunk));
      child.stderr.on('data', (chunk) => (stderr += chunk));
      child.stdin.end(`${commands.join('\n')}\n`);
      const [code] = (await once(child, 'close')) as [number];
      return { code, stdout, stderr };
    };

    test('carries 10 MB both ways, byte for byte, with modes, and whole trees', async () => {
      const tree = join(directory, `tree-${runtime}`);
      rmSync(tree, { recursive: true, force: true });
      mkdirSync(join(tree, 'inner'), { recursive: true });
      const bytes = randomBytes(10 << 20);
      writeFileSync(join(tree, 'inner/bytes'), bytes);
      chmodSync(join(tree, 'inner/bytes'), 0o751);
      const back = join(directory, `back-${runtime}`);
      rmSync(back, { recursive: true, force: true });
      const ran = await sftp(
        'pwd',
        'mkdir /tmp/to',
        `put -pR ${tree} /tmp/to/tree`,
        'rename /tmp/to/tree /tmp/to/renamed',
        'ls -ln /tmp/to/renamed/inner',
        `get -pR /tmp/to/renamed ${back}`,
      );
      expect([ran.code, ran.stderr]).toEqual([0, '']);
      expect(ran.stdout).toContain('Remote working directory: /tmp\n');
      expect(ran.stdout).toMatch(/-rwxr-x--x +\? 1000 +1000 +10485760 /);
      expect(readFileSync(join(back, 'inner/bytes')).equals(bytes)).toBe(true);
      expect(statSync(join(back, 'inner/bytes')).mode & 0o777).toBe(0o751);
    });

    test('reaches what the workload reaches, whatever the path says', async () => {
      writeFileSync(join(directory, 'evil'), 'evil');
      const evil = join(directory, 'evil');
      const got = join(directory, 'got');
      rmSync(got, { force: true });
      for (const path of ['/usr/evil', '/sandbox/../usr/evil', '/tmp/../../usr/bin/env', '/proc/1/mem'])
        expect([path, (await sftp(`put ${evil} ${path}`)).code]).toEqual([path, 1]);
      // The gVisor of Debian 12 confines no files.
      const closed = ['/proc/1/environ', '/proc/1/root/etc/hostname'];
      const outside = runtime === 'runsc' ? [] : ['/opt/openshell/bin/supervisor', ...closed];
      for (const path of outside) {
        await sftp('-rm /tmp/link', `symlink ${path} /tmp/link`);
        for (const from of [path, `/tmp/..${path}`, '/tmp/link']) {
          const ran = await sftp(`get ${from} ${got}`);
          expect([from, ran.code, ran.stderr]).toEqual([
            from,
            1,
            expect.stringMatching(/denied|not found|No such/),
          ]);
        }
      }
      expect(readdirSync(directory)).not.toContain('got');
    });

    test('follows no link out that is put in its way while it works', async () => {
      const script = `import os
os.makedirs('/tmp/real', exist_ok=True)
def turn(to):
    os.symlink(to, '/tmp/next'); os.rename('/tmp/next', '/tmp/turning')
turn('/usr'); print('turning', flush=True)
while True: turn('/tmp/real'); turn('/usr')
`;
      const racer = ssh.start([], [`python3 -c "${script}"`]);
      await once(racer.stdout as NodeJS.EventEmitter, 'data');
      writeFileSync(join(directory, 'evil'), 'evil');
      const puts = Array.from(
        { length: 200 },
        (_, n) => `-put ${join(directory, 'evil')} /tmp/turning/evil-${n}`,
      );
      await sftp(...puts);
      racer.kill();
      // Not ls: its statx(2) is EINVAL to the gVisor of Debian 12.
      const { stdout } = await ssh.run(['echo /usr/*; set -- /tmp/real/evil-*; echo $#']);
      const [usr, count] = stdout.toString().trim().split('\n');
      expect(usr).toContain('/usr/bin');
      expect(usr).not.toContain('evil');
      expect(Number(count)).toBeGreaterThan(1);
    });

    test.runIf(isSeenFromOutside(place))('is gone soon after its client', async () => {
      const groupOf = (pid: number | string) => readFileSync(`/proc/${pid}/cgroup`, 'latin1');
      const group = groupOf((await ssh.sandbox.pid()) ?? 0);
      const isServer = (pid: string): boolean => {
        try {
          const name = readFileSync(`/proc/${pid}/comm`, 'latin1');
          return name === 'sftp-server\n' && groupOf(pid) === group;
        } catch {
          return false; // it has ended meanwhile
        }
      };
      const servers = () =>
        readdirSync('/proc').filter((name) => /^\d+$/.test(name) && isServer(name)).length;
      const before = servers();
      const child = start();
      child.stdin.write('pwd\n');
      await once(child.stdout, 'data');
      await expect.poll(servers).toBe(before + 1);
      child.kill('SIGKILL');
      await expect.poll(servers).toBe(before);
    });
  });
}
