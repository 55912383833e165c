/** Run inside a mount namespace: a state directory that is read-only, and then is not; prints what became of the records. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { openDiskBuffer } from '../../supervisor/buffer/disk-buffer.ts';
import { VirtualClock } from '../gateway/virtual-clock.ts';

const [, , directory = ''] = process.argv;
const remount = (how: string): void => {
  const done = spawnSync('mount', ['-o', `remount,${how}`, directory]);
  if (done.status !== 0) throw new Error(String(done.stderr));
};
remount('ro');
const clock = new VirtualClock();
const buffer = openDiskBuffer({
  directory: join(directory, 'state'),
  boot: 'b',
  sandboxId: 's',
  clock,
  report: () => undefined,
});
for (let index = 0; index < 100; index += 1)
  buffer.append('audit', { kind: 'event', at: 0, message: `${index}` });
const degraded = buffer.stats().degraded;
remount('rw');
clock.run(120_000);
const restored = buffer.stats().degraded === undefined;
const messages = buffer
  .nextBatch({ maxEntries: 1_000, maxBytes: 1e9 })
  ?.entries.map((entry) =>
    entry.type === 'record' && entry.record.kind === 'event' ? entry.record.message : 'gap',
  );
console.log(JSON.stringify({ degraded, restored, messages }));
buffer.close();
