import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { ensureBuilt } from '../../scripts/lib/build.ts';
import { unchanged } from '../../supervisor/confinement/privileges.ts';
import { openTerminal } from '../../supervisor/confinement/terminal.ts';
import { temporaryDirectory } from '../temporary-directory.ts';
import { describeUnless } from './describe-unless.ts';
import { isSeenFromOutside } from './places.ts';
import { missing } from './requirements.ts';
import { sandboxPolicy } from './sandbox-policy.ts';
import { settled } from './settled.ts';
import { SSH_PLACES, type SshSandbox, startSshSandbox } from './ssh-sandbox.ts';

const { file } = temporaryDirectory('ssh-test-');
const POLICY = file('policy.yaml', sandboxPolicy());

/** Something inside that answers what it is sent, on a port of the sandbox's own loopback. */
const ECHO = `import socket
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.bind(("127.0.0.1", 7777)); s.listen()
while True:
    c, _ = s.accept()
    while True:
        d = c.recv(65536)
        if not d: break
        c.sendall(d)
    c.close()
`;

/** Host pids of a container's processes. */
function tree(pid: number): readonly number[] {
  const children = readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((name) => {
      try {
        return new RegExp(`^PPid:\\t${pid}$`, 'm').test(readFileSync(`/proc/${name}/status`, 'latin1'));
      } catch {
        return false;
      }
    });
  return [pid, ...children.flatMap((child) => tree(Number(child)))];
}

/** OpenSSH's client on a terminal of its own, as a person has it. */
async function onTerminal(ssh: SshSandbox, command: readonly string[]) {
  const { image } = await ensureBuilt();
  const opened = await openTerminal(
    { launcher: join(image, 'openshell-sandbox'), privileges: unchanged, identity: undefined },
    { columns: 90, rows: 30, width: 0, height: 0 },
    {},
  );
  if (!opened.ok) throw new Error(opened.error);
  const terminal = opened.value;
  const [program = '', ...args] = ssh.commandOf(['-t'], command);
  const end = terminal.sessionEnd;
  const child = spawn('setsid', ['-c', program, ...args], { stdio: [end, end, end] });
  terminal.begin();
  let text = '';
  terminal.output.on('data', (chunk: Buffer) => {
    text += chunk.toString();
  });
  return { terminal, exited: once(child, 'exit'), printed: () => text };
}

for (const place of SSH_PLACES) {
  const { runtime } = place.options;
  const why = missing(runtime, 'ssh', 'ip');
  describeUnless(why, place.name, { timeout: 60_000 }, () => {
    let ssh: SshSandbox;
    beforeAll(async () => {
      ssh = await startSshSandbox({
        policy: POLICY,
        ...place.options,
        command: ['/usr/bin/python3', '-c', ECHO],
      });
    }, 120_000);
    afterAll(async () => {
      await ssh?.stop();
    });

    test('runs commands with their exit codes, outputs and the end of their input', async () => {
      const ran = await ssh.run(['cat; echo wrong >&2; exit 7'], { input: Buffer.from('typed') });
      expect([ran.code, ran.stdout.toString(), ran.stderr]).toEqual([7, 'typed', 'wrong\n']);
      expect((await ssh.run(['kill -TERM $$'])).code).toBe(143);
      // By name they are opened anew, which no socket can be.
      const named = await ssh.run(['echo out > /dev/stdout; echo err > /dev/stderr; cat < /dev/stdin'], {
        input: Buffer.from('in'),
      });
      expect([named.code, named.stdout.toString(), named.stderr]).toEqual([0, 'out\nin', 'err\n']);
      const shell = await ssh.run([], { input: Buffer.from('echo $0; exit 4\n') });
      expect([shell.code, shell.stdout.toString()]).toEqual([4, '/bin/bash\n']);
    });

    test('confines them as it confines the main process', async () => {
      const script = `id -u; pwd; grep -h ^NoNewPrivs: /proc/self/status; grep -h ^Cap /proc/self/status | cut -f2 | sort -u
          touch /usr/x /etc/x; kill -9 1; env | grep -E '^(http_proxy|HOME|TERM|OPENSHELL)' | LC_ALL=C sort`;
      const { stdout } = await ssh.run([script]);
      expect(stdout.toString()).toBe(
        `1000\n/sandbox\nNoNewPrivs:\t1\n0000000000000000\nHOME=/sandbox\nOPENSHELL_SANDBOX=1\nTERM=dumb\nhttp_proxy=http://127.0.0.1:3128\n`
          .split('\n')
          .filter((line) => runtime !== 'runsc' || line !== 'NoNewPrivs:\t1')
          .join('\n'),
      );
    });

    test('gives them no variable that a loader, a shell or a proxy client obeys', async () => {
      const names = ['LD_PRELOAD', 'BASH_ENV', 'http_proxy', 'OPENSHELL_SANDBOX', 'LC_ALL'];
      const flags = ['-o', `SetEnv=${names.map((name) => `${name}=injected`).join(' ')}`];
      const ran = await ssh.run(['env | grep injected'], { flags });
      expect(ran.stdout.toString()).toBe('LC_ALL=injected\n');
    });

    test('carries 10 MB of random bytes both ways, through a pipe and through a terminal in raw mode', async () => {
      const bytes = randomBytes(10 << 20);
      const piped = await ssh.run(['cat'], { input: bytes });
      expect([piped.code, piped.stdout.equals(bytes)]).toEqual([0, true]);
      const command = `stty raw -echo; echo ready; head -c ${bytes.length}`;
      const child = ssh.start(['-tt', '-e', 'none'], [command]);
      const chunks: Buffer[] = [];
      child.stdin?.on('error', () => undefined);
      child.stdout?.once('data', () => child.stdin?.write(bytes));
      child.stdout?.on('data', (chunk: Buffer) => chunks.push(chunk));
      expect((await once(child, 'close'))[0]).toBe(0);
      expect(Buffer.concat(chunks).subarray(-bytes.length).equals(bytes)).toBe(true);
    });

    test('gives a person a terminal: size, new sizes, Ctrl-C, job control, exit', async () => {
      const { terminal, exited, printed } = await onTerminal(ssh, []);
      terminal.input.write('stty size; tty; echo $TERM\n');
      await expect.poll(printed, { timeout: 10_000 }).toMatch(/30 90\r\n\/dev\/pts\/\d+\r\n/);
      terminal.resize({ columns: 132, rows: 43, width: 0, height: 0 });
      await expect
        .poll(
          () => {
            terminal.input.write('stty size\n');
            return printed();
          },
          { timeout: 10_000, interval: 300 },
        )
        .toContain('43 132\r\n');
      // The gVisor of Debian 12 makes no signals of typed characters.
      if (runtime !== 'runsc') {
        terminal.input.write("echo be''gins; sleep 1000\n");
        await expect.poll(printed, { timeout: 10_000 }).toContain('begins');
        await expect
          .poll(
            () => {
              terminal.input.write("\x03echo in''terrupted\n");
              return printed();
            },
            { timeout: 10_000, interval: 300 },
          )
          .toContain('interrupted');
      }
      terminal.input.write('sleep 1000 &\njobs; kill %1; exit 6\n');
      expect((await exited)[0]).toBe(6);
      expect(printed()).toMatch(/\[1\]\+? +Running/);
      terminal.hangUp();
    });

    test('lets a program ask on its own terminal, by its names, and on no other one', async () => {
      const one = await onTerminal(ssh, []);
      one.terminal.input.write(
        'exec 9<>/dev/tty && echo by its na""me >&9; exec 8<>"$(tty)" && echo by its num""ber >&8\n',
      );
      await expect.poll(one.printed, { timeout: 10_000 }).toContain('by its number\r\n');
      // The gVisor of Debian 12 opens no /dev/tty, and has nothing that confines files.
      if (runtime !== 'runsc') {
        expect(one.printed()).toContain('by its name\r\n');
        // As ssh, git and gpg ask for a password.
        one.terminal.input.write('read -s -p "Pass""word: " answer < /dev/tty; echo "<$answer>"\n');
        await expect.poll(one.printed, { timeout: 10_000 }).toContain('Password: ');
        one.terminal.input.write('secret\n');
        await expect.poll(one.printed, { timeout: 10_000 }).toContain('<secret>');
        const other = await ssh.run(
          [
            'for n in 0 1 2 3 4 5 6 7; do [ "/dev/pts/$n" = "$(tty)" ] || (exec 7<>/dev/pts/$n) 2>&1; done | grep -c "Permission denied"',
          ],
          { flags: ['-tt'] },
        );
        expect(other.stdout.toString()).toMatch(/^[1-9]\r\n$/);
      }
      one.terminal.input.write('exit\n');
      await one.exited;
      one.terminal.hangUp();
    });

    test('lets people in who are to mend what the workload has closed', async () => {
      expect((await ssh.run(['chmod 0 /sandbox'])).code).toBe(0);
      const ran = await ssh.run(['pwd; chmod 755 /sandbox; cd /sandbox && pwd']);
      expect([ran.code, ran.stdout.toString()]).toEqual([0, '/\n/sandbox\n']);
    });

    test('forwards connections to the loopback of the sandbox, never to the supervisor', async () => {
      const bytes = randomBytes(4 << 20);
      const forwarded = ssh.start(['-W', '127.0.0.1:7777'], []);
      const chunks: Buffer[] = [];
      forwarded.stdout?.on('data', (chunk: Buffer) => chunks.push(chunk));
      forwarded.stdin?.on('error', () => undefined).end(bytes);
      await once(forwarded, 'close');
      expect(Buffer.concat(chunks).equals(bytes)).toBe(true);
      for (const [target, why] of [
        ['127.0.0.1:3128', "administratively prohibited: port 3128 is the supervisor's own"],
        ['localhost:1080', "administratively prohibited: port 1080 is the supervisor's own"],
        ['127.64.0.2:443', 'administratively prohibited: 127.64.0.0/10 stands for names'],
        ['10.99.7.1:22', 'administratively prohibited: only loopback addresses'],
        ['127.0.0.1:7778', 'connect failed'],
      ]) {
        const refused = await ssh.run([], { flags: ['-o', 'LogLevel=INFO', '-W', String(target)] });
        expect([target, refused.code, refused.stderr]).toEqual([
          target,
          255,
          expect.stringContaining(`open failed: ${why}`),
        ]);
      }
    });

    test('ends what its caller has left, and leaves what was sent into a session of its own', async () => {
      const command =
        'echo $$; sh -c \'trap "" HUP TERM; sleep 1001\' & setsid sleep 1002 & sleep 1003; sleep 1004';
      const child = ssh.start([], [command]);
      await once(child.stdout as NodeJS.EventEmitter, 'data');
      const sleeping = async () => {
        const { stdout } = await ssh.run(["ps -eo args 2>/dev/null | grep -o '^sleep 100[0-9]' | sort"]);
        return stdout.toString();
      };
      await expect.poll(sleeping, { timeout: 10_000 }).toBe('sleep 1001\nsleep 1002\nsleep 1003\n');
      child.kill('SIGKILL');
      await expect.poll(sleeping, { timeout: 20_000, interval: 500 }).toBe('sleep 1002\n');
      await ssh.run(['kill $(ps -eo pid,args | grep "[s]leep 1002" | cut -c1-8)']);
    });

    test.runIf(place.fence === 'namespace' && isSeenFromOutside(place))(
      'is not left alone with a session whose stand-in was killed',
      async () => {
        const commands = async () => {
          const pid = await ssh.sandbox.pid();
          const all = pid === undefined ? [] : tree(pid);
          return all.flatMap((one) => {
            try {
              return [{ one, words: readFileSync(`/proc/${one}/cmdline`, 'latin1') }];
            } catch {
              return []; // it has ended meanwhile
            }
          });
        };
        const count = async (words: string) =>
          (await commands()).filter((command) => command.words === words).length;
        const standIns = async () =>
          (await commands()).filter(({ words }) => words.includes('\0join')).map(({ one }) => one);
        const asleep = 'sleep\x002001\0';
        const before = new Set(await standIns());
        const ran = ssh.run(['setsid sleep 2002 & sleep 2001; echo never']);
        await expect.poll(() => count(asleep), { timeout: 10_000 }).toBe(1);
        // Not by their numbers: those begin again at the lowest.
        const added = (await standIns()).filter((one) => !before.has(one));
        expect(added).toHaveLength(1);
        process.kill(Number(added[0]), 'SIGKILL');
        await expect.poll(() => count(asleep), { timeout: 10_000 }).toBe(0);
        expect((await ran).code).toBe(137);
        await ssh.run(['kill $(ps -eo pid,args | grep "[s]leep 2002" | cut -c1-8)']);
      },
    );

    test('leaves nothing behind after 50 commands at once, with and without a terminal', async () => {
      const pid = isSeenFromOutside(place) ? await ssh.sandbox.pid() : undefined;
      const all = async (count: number) => {
        const flags = (index: number) => (index % 2 === 0 ? ['-tt'] : []);
        const runs = Array.from({ length: count }, (_, index) =>
          ssh.run([`echo hello ${index}; exit ${index}`], { flags: flags(index) }),
        );
        return (await Promise.all(runs)).map(({ code, stdout }) => `${code} ${stdout.toString().trim()}`);
      };
      const facts = () => {
        if (pid === undefined) return undefined;
        const processes = tree(pid);
        // Node's name for its main thread, and so for its process.
        const supervisor = processes.find((one) =>
          readFileSync(`/proc/${one}/comm`, 'latin1').startsWith('node'),
        );
        if (supervisor === undefined) throw new Error('the supervisor is not to be seen');
        return {
          processes: processes.length,
          terminals: readdirSync(`/proc/${pid}/root/dev/pts`),
          descriptors: readdirSync(`/proc/${supervisor}/fd`).length,
        };
      };
      await all(4);
      const before = await settled(facts);
      const results = await all(50);
      expect(results).toEqual(Array.from({ length: 50 }, (_, index) => `${index} hello ${index}`));
      await expect.poll(facts, { timeout: 10_000 }).toEqual(before);
    }, 120_000);
  });
}
