import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { startSandbox } from '../lib/sandbox.ts';
import { until } from './bounded.ts';
import { POLICY } from './policy.ts';
import { heading, row } from './report.ts';
import type { Bench } from './subject.ts';

/** One poll and the first beats: what idling is. */
const SETTLE_MS = 12_000;

/** RssAnon of a process in KiB (proc_pid_status(5)). */
const privateKib = (pid: number): number =>
  Number(/^RssAnon:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1] ?? Number.NaN);

const children = (pid: number): readonly number[] =>
  readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').filter(Boolean).map(Number);

const nameOf = (pid: number): string => readFileSync(`/proc/${pid}/comm`, 'utf8').trim();

/** Private memory of the idle supervisor and init. Under runc only: gVisor's processes are not the machine's. */
export async function memory({ runtimes, world: startWorld }: Bench): Promise<void> {
  heading('Private memory when idle (RssAnon)');
  if (!runtimes.includes('runc')) {
    row('not measured: it is read under runc, which is left out');
    return;
  }
  const world = await startWorld();
  await world.control('POST', '/policy', POLICY);
  const sandbox = await startSandbox({
    command: ['/bin/sleep', '60'],
    gateway: world.gatewayUrl,
    network: await world.network(),
  });
  try {
    await sleep(SETTLE_MS);
    const init = await until(5_000, 'the pid of the container', () => sandbox.pid());
    // The loader runs it, so the kernel names it after the loader.
    const supervisor = await until(5_000, 'the supervisor', () =>
      children(init).find(
        (pid) => nameOf(pid).startsWith('ld-linux') || nameOf(pid).startsWith('MainThread'),
      ),
    );
    row('supervisor', `${(privateKib(supervisor) / 1024).toFixed(1)} MiB`);
    row('init', `${privateKib(init)} KiB`);
    for (const pid of children(supervisor).filter((one) => nameOf(one) === 'openshell-sandb'))
      row('anchor or shim', `${privateKib(pid)} KiB`);
  } finally {
    await sandbox.stop();
  }
}
