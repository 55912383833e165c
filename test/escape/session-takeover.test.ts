/**
 * Without Landlock a workload may look at whatever of its user id does not hide. What starts the next session has that
 * user id and is not confined yet, so here the main process lies in wait for it.
 */
import { execFileSync } from 'node:child_process';
import { chmodSync, copyFileSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, expect, test, vi } from 'vitest';
import { ensureBuilt } from '../../scripts/lib/build.ts';
import { startSandbox } from '../../scripts/lib/sandbox.ts';
import { startWorld } from '../../scripts/lib/world.ts';
import { describeUnless } from '../runtime/describe-unless.ts';
import { client, established, runIn } from '../runtime/gateway-side.ts';
import { PLACES } from '../runtime/places.ts';
import { missing } from '../runtime/requirements.ts';
import { temporaryDirectory } from '../temporary-directory.ts';
import { compileHunter, type Taken, takenIn } from './hunter.ts';

const POLICY = `version: 1
filesystem_policy:
  include_workdir: true
  read_only: [/usr, /bin, /sbin, /lib, /lib64, /etc, /sys, /dev/urandom, /opt/hunter]
  read_write: [/tmp, /dev/null, /proc]
`;
const SESSIONS = 5;
const [LAUNCHER, VICTIM] = ['/opt/hunter/launcher', '/opt/hunter/victim'];
const why = missing('runc', 'gcc');
const { directory } = temporaryDirectory('takeover-test-');
const tools = join(directory, 'tools');
/** What ships, but for a shim that everybody may read. */
const readable = join(directory, 'readable');

beforeAll(async () => {
  if (why !== undefined) return;
  const { image } = await ensureBuilt();
  mkdirSync(tools);
  compileHunter('hunter', join(tools, 'hunter'));
  compileHunter('victim', join(tools, 'victim'));
  copyFileSync(join(image, 'openshell-sandbox'), join(tools, 'launcher'));
  execFileSync('cp', ['-a', image, readable]);
  chmodSync(join(readable, 'lib/openshell-shim'), 0o555);
}, 240_000);

interface Observed {
  readonly taken: readonly Taken[];
  /** What the sessions came to: their exit code and output, if any other than what they should. */
  readonly failed: readonly string[];
  /** How often the hunter was refused the memory of a process that had just come. */
  readonly tries: number;
  readonly log: string;
}

/** Opens sessions while the main process lies in wait for what starts them. */
async function observe(place: (typeof PLACES)[number], image?: string): Promise<Observed> {
  const world = await startWorld();
  try {
    await world.control('POST', '/policy', POLICY);
    const sandbox = await startSandbox({
      gateway: world.gatewayUrl,
      network: await world.network(),
      command: ['/opt/hunter/hunter', 'spin', LAUNCHER, VICTIM],
      flags: ['--landlock-abi-max', '0', '--log-level', 'info'],
      binds: [{ source: tools, destination: '/opt/hunter' }],
      ...(image === undefined ? {} : { image }),
      ...place.options,
      timeout: 240_000,
    });
    await established(world);
    await vi.waitFor(() => expect(sandbox.printed().stdout).toContain('spinning'), {
      timeout: 60_000,
      interval: 100,
    });
    const failed: string[] = [];
    const session = async (flags: readonly string[], command: readonly string[], wanted: string) => {
      const { code, stdout, stderr } = await runIn(world, client(sandbox.sandboxId, 'exec', flags, command));
      const seen = `${code} ${stdout.toString().trim()}`;
      if (seen !== wanted) failed.push(`${seen} ${stderr.trim()}`);
    };
    for (let times = 0; times < SESSIONS; times++) {
      await session([], ['/bin/echo', 'works'], '0 works');
      await session(['-t'], ['/bin/echo', 'works'], '0 works');
      // They live no longer than a shim does, and hide from nobody.
      await session([], ['/bin/sh', '-c', `for i in $(seq 30); do ${VICTIM}; done`], '0 ');
    }
    await session([], ['/bin/sh', '-c', 'sleep 0.5; cat /proc/self/oom_score_adj'], '0 500');
    await session(['-t'], ['/bin/sh', '-c', 'sleep 0.5; cat /proc/self/oom_score_adj'], '0 500');
    sandbox.signal('SIGTERM');
    const { stdout, stderr } = await sandbox.ended;
    return {
      taken: takenIn(stdout),
      failed,
      tries: Number(/^tries (\d+)$/m.exec(stdout)?.[1] ?? 0),
      log: stdout + stderr,
    };
  } finally {
    await world.stop();
  }
}

const of = (file: string, taken: readonly Taken[]) => taken.filter((one) => one.file === file).length;
const CHOSEN = ['runc, restricted', 'runc as root with default capabilities', 'runc without seccomp'];
const places = PLACES.filter(({ name }) => CHOSEN.includes(name));

describeUnless(why, 'a workload without Landlock', () => {
  test.each(places)(
    'takes nothing of what starts sessions beside it: $name',
    async (place) => {
      const { taken, failed, tries } = await observe(place);
      // It is quick enough: what hides from nobody it has taken.
      expect(of(VICTIM, taken)).toBeGreaterThan(0);
      expect(tries).toBeGreaterThan(100);
      expect(of(LAUNCHER, taken)).toBe(0);
      expect(failed).toEqual([]);
    },
    300_000,
  );

  test('takes nothing where the supervisor is a single file, which unpacks itself as the workload’s user', async () => {
    const [place] = places;
    const { singleFile } = await ensureBuilt();
    const lonely = join(directory, 'lonely');
    mkdirSync(lonely);
    copyFileSync(singleFile, join(lonely, 'openshell-sandbox'));
    if (place === undefined) throw new Error('there is no such place');
    const { taken, failed, log } = await observe(place, lonely);
    expect(of(VICTIM, taken)).toBeGreaterThan(0);
    expect(of(LAUNCHER, taken)).toBe(0);
    expect(failed).toEqual([]);
    expect(log).not.toContain('lib/openshell-shim must be mode 0111');
  }, 300_000);

  test('takes a shim that everybody may read, and the statement says so', async () => {
    const [place] = places;
    if (place === undefined) throw new Error('there is no such place');
    const { taken, log } = await observe(place, readable);
    expect(of(LAUNCHER, taken)).toBeGreaterThan(0);
    expect(log).toContain('lib/openshell-shim must be mode 0111');
  }, 300_000);
});
