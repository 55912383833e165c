/** A process that appends as fast as it can and says what was taken, until it is killed. Arguments: directory, boot. */
import { writeSync } from 'node:fs';
import { openDiskBuffer } from '../../supervisor/buffer/disk-buffer.ts';
import { RECORD_CLASSES } from '../../supervisor/buffer/record.ts';
import { systemClock } from '../../supervisor/clock.ts';

const [, , directory = '', boot = ''] = process.argv;
const buffer = openDiskBuffer({
  directory,
  boot,
  sandboxId: 'sb-1',
  clock: systemClock,
  // Small, so that full buffers, gaps and checkpoints are among what is interrupted.
  maxBytes: 256 * 1024,
  report: (event) => void writeSync(2, `${JSON.stringify(event)}\n`),
});

/** Every so often a turn ends, so that timers write through and move the log. */
function write(from: number): void {
  for (let index = from; index < from + 40; index += 1) {
    const recordClass = RECORD_CLASSES[index % 3] ?? 'logs';
    const message = `${boot} ${index} ${'.'.repeat((index * 37) % 900)}`;
    const outcome = buffer.append(recordClass, { kind: 'event', at: index, message });
    if (outcome === 'cut') throw new Error('nothing here is too large');
    writeSync(1, `${recordClass} ${index}\n`);
    if (index % 25 === 0) {
      const batch = buffer.nextBatch({ maxEntries: 10, maxBytes: 1e9 });
      // Said before it is done: what is acknowledged may be gone, what is not must be there.
      if (batch !== undefined) {
        let lines = '';
        for (const entry of batch.entries) {
          const [first, end] =
            entry.type === 'gap' ? [entry.first, entry.last] : [entry.sequence, entry.sequence];
          for (let sequence = first; sequence <= end; sequence += 1)
            lines += `acked ${entry.boot} ${entry.class} ${sequence}\n`;
        }
        writeSync(1, lines);
        buffer.ack(batch);
      }
    }
  }
  setImmediate(() => write(from + 40));
}
write(1);
