import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { type RunningSandbox, startSandbox } from '../../scripts/lib/sandbox.ts';
import { sshOptions } from '../dev-gateway/client/openssh.ts';
import { temporaryDirectory } from '../temporary-directory.ts';
import { describeUnless } from './describe-unless.ts';
import { client, established, GATEWAY, inNetworkOf, startIn } from './gateway-side.ts';
import { missing } from './requirements.ts';
import { sandboxPolicy } from './sandbox-policy.ts';
import { openScreen, type Screen } from './screen.ts';
import { sharedWorld } from './world-fixture.ts';

const POLICY = sandboxPolicy('', { readWrite: ['/dev/ptmx', '/dev/pts'] });
const PLACES = [
  { name: 'runc', runtime: 'runc' },
  { name: 'gVisor', runtime: 'runsc' },
] as const;

for (const { name, runtime } of PLACES) {
  const why = missing(runtime, 'ssh', 'rsync', 'tmux', 'git');
  describeUnless(why, `a person in a sandbox under ${name}`, () => {
    const { directory: here } = temporaryDirectory('people-');
    const config = join(here, 'ssh_config');
    const world = sharedWorld();
    let sandbox: RunningSandbox;

    beforeAll(async () => {
      await world().control('POST', '/policy', POLICY);
      sandbox = await startSandbox({
        runtime,
        rootfs: 'people',
        gateway: world().gatewayUrl,
        network: await world().network(),
        command: ['/bin/sh', '-c', 'echo begins; exec sleep 1000'],
      });
      const options = sshOptions({ gateway: GATEWAY, sandbox: sandbox.sandboxId });
      const lines = options.filter((word) => word !== '-o').map((word) => `  ${word.replace('=', ' ')}\n`);
      writeFileSync(config, `Host sandbox\n${lines.join('')}`);
      await established(world());
      await vi.waitFor(() => expect(sandbox.printed().stdout).toContain('begins'), {
        timeout: 60_000,
        interval: 100,
      });
    }, 240_000);
    afterAll(() => sandbox?.stop());

    const start = (command: readonly string[]) => startIn(world(), command);
    const run = async (...command: readonly string[]) => {
      const { child, seen, closed } = start(command);
      child.stdin.end();
      return { code: await closed, ...seen };
    };
    const ssh = (...command: readonly string[]) => run('ssh', '-F', config, 'sandbox', ...command);
    const gateway = (verb: string) => client(sandbox.sandboxId, verb);
    const shell = (columns: number, rows: number): Screen => {
      const screen = openScreen([...inNetworkOf(world()), ...gateway('shell')], columns, rows);
      return screen;
    };
    const shows = (screen: Screen, text: string | RegExp) =>
      vi.waitFor(() => expect(screen.read()).toMatch(text), { timeout: 20_000, interval: 100 });

    test('has a shell on a terminal, which follows the window, and whose Ctrl-C ends a program alone', async () => {
      const screen = shell(100, 30);
      try {
        await shows(screen, /\$$/m);
        screen.type('stty size; tty');
        screen.press('Enter');
        await shows(screen, /^30 100\n\/dev\/pts\/\d+$/m);
        screen.resize(72, 20);
        // The new size travels beside what is typed.
        await vi.waitFor(
          () => {
            screen.type('stty size');
            screen.press('Enter');
            expect(screen.read()).toMatch(/^20 72$/m);
          },
          { timeout: 10_000, interval: 500 },
        );
        // The gVisor of Debian 12 makes no signals of typed characters.
        if (runtime !== 'runsc') {
          screen.type('sleep 1000; echo after=$?');
          screen.press('Enter');
          await shows(screen, /sleep 1000; echo/);
          await vi.waitFor(
            () => {
              screen.press('C-c');
              expect(screen.read()).toMatch(/\^C/);
            },
            { timeout: 10_000, interval: 500 },
          );
        }
        screen.type('exit 5');
        screen.press('Enter');
        await shows(screen, /^ended with 5$/m);
      } finally {
        screen.stop();
      }
    }, 90_000);

    test('has commands and a shell without a terminal of their own, whose input ends where a pipe does', async () => {
      const command = async (verb: string, input: string, ...words: readonly string[]) => {
        const { child, seen, closed } = start([...gateway(verb), ...words]);
        child.stdin.end(input);
        return { code: await closed, ...seen };
      };
      // The gVisor of Debian 12 makes no end of input of a typed Ctrl-D either.
      if (runtime !== 'runsc') {
        const counted = await command('exec', 'one\ntwo', '--tty', '--', 'wc', '-l');
        expect(counted).toMatchObject({ code: 0, stdout: expect.stringMatching(/1\r\n$/) });
      }
      expect(await command('shell', 'tty\nexit 5\n')).toEqual({
        code: 5,
        stdout: 'not a tty\n',
        stderr: '',
      });
    }, 60_000);

    test('edits a file with vi, on the whole screen', async () => {
      const screen = shell(80, 24);
      try {
        await shows(screen, /\$$/m);
        screen.type('vi /tmp/letter');
        screen.press('Enter');
        await shows(screen, /^~$/m);
        expect(
          screen
            .read()
            .split('\n')
            .filter((line) => line === '~').length,
        ).toBeGreaterThan(15);
        screen.type('iDear world');
        screen.press('Enter');
        screen.type('grüße');
        screen.press('Escape');
        screen.resize(60, 12);
        await vi.waitFor(
          () =>
            expect(
              screen
                .read()
                .split('\n')
                .filter((line) => line === '~').length,
            ).toBeLessThan(12),
          { timeout: 10_000, interval: 100 },
        );
        screen.type(':wq');
        screen.press('Enter');
        await shows(screen, /\$$/m);
        expect((await ssh('cat /tmp/letter')).stdout).toBe('Dear world\ngrüße\n');
      } finally {
        screen.stop();
      }
    }, 90_000);

    test('closes her terminal, which is a hang-up and types no end of input', async () => {
      // A process of another session hears of its terminal's end by reading alone, before any signal.
      const screen = openScreen(['setsid', '--wait', ...inNetworkOf(world()), ...gateway('shell')], 80, 24);
      try {
        await shows(screen, /\$$/m);
        screen.type("stty raw -echo; echo rea''dy; exec cat >/tmp/typed");
        screen.press('Enter');
        await shows(screen, /ready/);
        screen.type('all');
        await vi.waitFor(async () => expect((await ssh('cat /tmp/typed')).stdout).toBe('all'), {
          timeout: 20_000,
          interval: 200,
        });
      } finally {
        screen.stop();
      }
      const gone = async (): Promise<void> => {
        const { code, stdout } = await ssh('pgrep -x cat; cat -A /tmp/typed');
        expect([code, stdout]).toEqual([0, 'all']);
      };
      await vi.waitFor(gone, { timeout: 20_000, interval: 200 });
    }, 90_000);

    test('leaves a tmux in the sandbox, and finds it again', async () => {
      let screen = shell(80, 24);
      try {
        await shows(screen, /\$$/m);
        screen.type('tmux -f /dev/null new -s inner');
        screen.press('Enter');
        await shows(screen, /\[inner\]/);
        screen.type('echo answer=$((6*7))');
        screen.press('Enter');
        await shows(screen, /^answer=42$/m);
        screen.stop(); // the window is closed, and with it the connection
        screen = shell(80, 24);
        await shows(screen, /\$$/m);
        screen.type('tmux attach -t inner');
        screen.press('Enter');
        await shows(screen, /^answer=42$/m);
        screen.press('C-b', 'd');
        await shows(screen, /\[detached/);
      } finally {
        screen.stop();
        await ssh('tmux kill-server');
      }
    }, 90_000);

    test('copies 10 MB both ways with scp, sftp and rsync, and clones with git', async () => {
      const bytes = randomBytes(10 << 20);
      mkdirSync(join(here, 'tree/inner'), { recursive: true });
      writeFileSync(join(here, 'tree/inner/bytes'), bytes);
      const same = (path: string) => readFileSync(path).equals(bytes);
      const remote = 'sandbox:/tmp';
      expect(await run('scp', '-F', config, join(here, 'tree/inner/bytes'), `${remote}/scp`)).toMatchObject({
        code: 0,
      });
      expect(await run('scp', '-F', config, `${remote}/scp`, join(here, 'scp'))).toMatchObject({ code: 0 });
      expect(await run(...gateway('cp'), ':/tmp/scp', join(here, 'cp'))).toMatchObject({ code: 0 });
      const batch = join(here, 'batch');
      writeFileSync(batch, `put -R ${here}/tree /tmp/sftp\nget /tmp/sftp/inner/bytes ${here}/sftp\n`);
      expect(await run('sftp', '-F', config, '-b', batch, 'sandbox')).toMatchObject({ code: 0 });
      const rsync = ['rsync', '-a', '--delete', '-e', `ssh -F ${config}`];
      expect(await run(...rsync, `${here}/tree/`, `${remote}/rsync/`)).toMatchObject({ code: 0 });
      await ssh('printf x > /tmp/rsync/extra; printf y >> /tmp/rsync/inner/bytes');
      expect(await run(...rsync, `${here}/tree/`, `${remote}/rsync/`)).toMatchObject({ code: 0 });
      // Not ls: its statx(2) is EINVAL to the gVisor of Debian 12.
      expect((await ssh('echo /tmp/rsync/*')).stdout).toBe('/tmp/rsync/inner\n');
      expect(await run(...rsync, `${remote}/rsync/`, `${here}/rsync/`)).toMatchObject({ code: 0 });
      for (const path of ['scp', 'cp', 'sftp', 'rsync/inner/bytes'])
        expect([path, same(join(here, path))]).toEqual([path, true]);
      const made = await ssh(
        'git init -q -b main /tmp/repo && cd /tmp/repo && echo hello > a && git add a && git -c user.name=x -c user.email=x@y commit -qm one',
      );
      expect(made).toMatchObject({ code: 0 });
      const clone = [
        'git',
        '-c',
        `core.sshCommand=ssh -F ${config}`,
        'clone',
        '-q',
        'sandbox:/tmp/repo',
        join(here, 'repo'),
      ];
      expect(await run(...clone)).toMatchObject({ code: 0 });
      expect(readFileSync(join(here, 'repo/a'), 'utf8')).toBe('hello\n');
    }, 180_000);

    test('has an editor install its server, which outlives the connection and is reached through it', async () => {
      // As VS Code's Remote-SSH does it: a script on the input of a shell, with a SOCKS port beside it.
      const script = (again: boolean) => `set -e
        mkdir -p ~/.editor-server/bin && cd ~/.editor-server
        if [ ! -e bin/pid ] || [ ! -d /proc/$(cat bin/pid) ]; then
          echo installing
          printf 'the server speaks' > index.html
          PYTHONUNBUFFERED=1 setsid nohup python3 -m http.server --bind 127.0.0.1 0 > bin/log 2>&1 < /dev/null &
          echo $! > bin/pid
        fi
        for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do grep -q port bin/log && break; sleep 0.5; done
        echo "listeningOn==$(sed -n 's/.* port \\([0-9]*\\) .*/\\1/p' bin/log)=="
        ${again ? 'exit 3' : 'while read line; do echo "got $line"; done'}
      `;
      const connect = async (again: boolean) => {
        const socks = again ? '1181' : '1180';
        const editor = start(['ssh', '-F', config, '-T', '-D', `127.0.0.1:${socks}`, 'sandbox', 'bash']);
        editor.child.stdin.write(
          `bash -c "$(echo ${Buffer.from(script(again)).toString('base64')} | base64 -d)"\n`,
        );
        await vi.waitFor(() => expect(editor.seen.stdout).toMatch(/listeningOn==\d+==/), {
          timeout: 30_000,
          interval: 50,
        });
        return { ...editor, socks, port: /listeningOn==(\d+)==/.exec(editor.seen.stdout)?.[1] };
      };
      const first = await connect(false);
      const ask = () =>
        run(
          'curl',
          '-sS',
          '-m',
          '10',
          '--socks5-hostname',
          `127.0.0.1:${first.socks}`,
          `http://localhost:${first.port}/index.html`,
        );
      const answers = await Promise.all(Array.from({ length: 10 }, ask));
      expect(answers.map(({ stdout }) => stdout)).toEqual(Array(10).fill('the server speaks'));
      first.child.stdin.write('still here\n');
      await vi.waitFor(() => expect(first.seen.stdout).toContain('got still here'), { timeout: 10_000 });
      first.child.kill();
      await first.closed;
      const second = await connect(true);
      expect(second.seen.stdout).not.toContain('installing');
      expect(second.port).toBe(first.port);
      second.child.stdin.end();
      expect(await second.closed).toBe(3);
    }, 120_000);

    test('reads as much of a command as she wants, which ends then', async () => {
      const { code, stdout, stderr } = await run('sh', '-c', `ssh -F ${config} sandbox yes | head -2`);
      expect([code, stdout, stderr]).toEqual([0, 'y\ny\n', '']);
    }, 60_000);

    test('runs many commands over one connection that is shared', async () => {
      const shared = [
        '-o',
        `ControlPath=${here}/control`,
        '-o',
        'ControlMaster=auto',
        '-o',
        'ControlPersist=20',
      ];
      const one = (n: number) => run('ssh', ...shared, '-F', config, 'sandbox', `echo ${n}; exit ${n}`);
      expect((await one(1)).code).toBe(1);
      const all = await Promise.all(Array.from({ length: 20 }, (_, n) => one(n)));
      expect(all.map(({ code, stdout }) => `${code} ${stdout}`)).toEqual(
        Array.from({ length: 20 }, (_, n) => `${n} ${n}\n`),
      );
      await run('ssh', ...shared, '-F', config, '-O', 'exit', 'sandbox');
    }, 60_000);
  });
}
