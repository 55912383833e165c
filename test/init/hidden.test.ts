/** Nothing but being hidden keeps a workload without Landlock from what of ours starts beside it. */
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, copyFileSync, readFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { join, resolve } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { compileHunter, takenIn } from '../escape/hunter.ts';
import { describeUnless } from '../runtime/describe-unless.ts';
import { missing } from '../runtime/requirements.ts';
import { temporaryDirectory } from '../temporary-directory.ts';

const INIT = resolve(import.meta.dirname, '../../init');
const USER = 1234;
const { directory } = temporaryDirectory('hidden-test-');
const [readable, hidden, hunter] = ['readable', 'hidden', 'hunter'].map((name) => join(directory, name)) as [
  string,
  string,
  string,
];
const why = missing('gcc');

beforeAll(() => {
  if (why !== undefined) return;
  compileHunter('hunter', hunter);
  execFileSync('make', ['-s', '-C', INIT, `OUT=${join(directory, 'build')}`]);
  for (const [file, mode] of [
    [readable, 0o555],
    [hidden, 0o111],
  ] as const) {
    copyFileSync(join(directory, 'build/openshell-sandbox'), file);
    chmodSync(file, mode);
  }
}, 120_000);

const workload = { uid: USER, gid: USER } as const;
const WAYS = ['memory', 'vector', 'tracing', 'descriptor'];
/** What the hunter says of one process, by way. */
const hunt = (pid: number | undefined, ...file: string[]): Readonly<Record<string, string>> =>
  Object.fromEntries(
    execFileSync(hunter, ['at', String(pid), ...file], { ...workload, encoding: 'utf8' })
      .trim()
      .split('\n')
      .map((line) => line.split(' ')),
  );
const all = (outcome: string) => Object.fromEntries(WAYS.map((way) => [way, outcome]));
const kept = { memory: 'EACCES', vector: 'EPERM', tracing: 'EPERM', descriptor: 'EPERM' };

/** A program of ours as the supervisor starts it: its control socket is 3, the way to PID 1 is 4. */
function start(binary: string, words: readonly string[], ids: object = workload): ChildProcess {
  return spawn(binary, words, { ...ids, env: {}, stdio: ['pipe', 'pipe', 'ignore', 'pipe', 'pipe'] });
}
const filtered = (pid: number | undefined) =>
  readFileSync(`/proc/${pid}/status`, 'utf8').includes('Seccomp:\t2');
/** Nobody answers at 4, so a shim that has this stands for 5 s where it holds its own listener. */
const SPEC = ['fence socket', 'landlock off', 'oom-score-adj 0', 'arg /bin/true', 'end'];
const hand = (child: ChildProcess, records: readonly string[]) =>
  (child.stdio[3] as Socket).write(`${records.join('\0')}\0`);
const end = async (child: ChildProcess) => {
  const ended = once(child, 'exit');
  child.kill('SIGKILL');
  await ended;
};

describeUnless(why, 'a process of ours', () => {
  test('is hidden by the kernel when nobody may read its file', () => {
    const status = (file: string) => spawnSync(file, ['hidden'], workload).status;
    expect([status(readable), status(hidden)]).toEqual([1, 0]);
  });

  test('can be taken in every way as soon as it is not hidden: what the others here are measured by', async () => {
    const sleeper = spawn('/bin/sleep', ['100'], { ...workload, stdio: 'ignore' });
    expect(hunt(sleeper.pid)).toEqual(all('taken'));
    const shown = spawn(readable, ['sftp'], { ...workload, stdio: ['pipe', 'ignore', 'ignore'] });
    await expect.poll(() => hunt(shown.pid, readable)).toEqual(all('taken'));
    await end(sleeper);
    await end(shown);
  });

  test.each([
    ['a shim that waits for its specification', ['exec'], workload, []],
    ['a shim that holds its own listener', ['exec'], workload, SPEC],
    [
      'a shim of a root container that holds its own listener',
      ['exec'],
      {},
      [`uid ${USER}`, `gid ${USER}`, ...SPEC],
    ],
    ['a stand-in', ['join'], workload, []],
    ['the holder of a terminal', ['pty'], workload, []],
    ['the holder of a terminal in a root container', ['pty', String(USER), String(USER)], {}, []],
  ] as const)('is out of reach as %s', async (_what, words, ids, records) => {
    const child = start(hunter, ['hold', hidden, ...words], ids);
    try {
      if (records.length > 0) {
        hand(child, records);
        await expect.poll(() => filtered(child.pid)).toBe(true);
      }
      // The hunter's own program, which starts it, can be taken.
      await expect.poll(() => readFileSync(`/proc/${child.pid}/comm`, 'latin1')).toBe('hidden\n');
      for (let times = 0; times < 3; times++) expect(hunt(child.pid)).toEqual(kept);
      if (records.length > 0) expect(filtered(child.pid)).toBe(true);
    } finally {
      await end(child);
    }
  });

  /** Starts so many, one after the other, while the hunter looks out for them; whom it took. */
  async function starts(binary: string, words: readonly string[], times: number) {
    const spinner = spawn(hunter, ['spin', readable], {
      ...workload,
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let printed = '';
    spinner.stdout.on('data', (chunk) => {
      printed += chunk.toString();
    });
    await once(spinner.stdout, 'data');
    for (let time = 0; time < times; time++) {
      const child = start(binary, words);
      const control = child.stdio[3] as Socket;
      control.on('error', () => undefined);
      const ended = once(child, 'exit');
      if (words[0] === 'pty') {
        control.write('name\n');
        await once(control, 'data');
      }
      control.end(); // the end of their work, or of their specification
      await ended;
    }
    const ended = once(spinner, 'close');
    spinner.kill('SIGTERM');
    await ended;
    return takenIn(printed);
  }

  test.each([
    [['pty'], 100],
    [['exec'], 100],
  ] as const)(
    'is not taken while it starts, as %j, by who looks out for new processes',
    async (words, times) => {
      // Whoever starts shown and hides later is taken before it gets there; else this test would show nothing.
      expect((await starts(readable, words, times)).length).toBeGreaterThan(0);
      expect(await starts(hidden, words, times)).toEqual([]);
    },
    60_000,
  );
});
