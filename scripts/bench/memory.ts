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
    // Orphans of the workload would be init's children too, but none is as large.
    const [supervisor] = [...children(init)].sort((a, b) => privateKib(b) - privateKib(a));
    if (supervisor === undefined) throw new Error('the sandbox whose memory is read has ended');
    row('supervisor', `${(privateKib(supervisor) / 1024).toFixed(1)} MiB`);
    row('init', `${privateKib(init)} KiB`);
  } finally {
    await sandbox.stop();
  }
}
