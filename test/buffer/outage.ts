/** A long outage in fast-forward, in a process of its own: fills the buffer at its argument many times over and prints how its memory grew. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type DurableBuffer, openDiskBuffer } from '../../supervisor/buffer/disk-buffer.ts';
import { systemClock } from '../../supervisor/clock.ts';

const [, , directory = ''] = process.argv;
const open = (name: string) =>
  openDiskBuffer({
    directory: join(directory, name),
    boot: 'b',
    sandboxId: 's',
    clock: systemClock,
    report: (event) => {
      throw new Error(JSON.stringify(event));
    },
  });
let appended = 0;

/**
 * RssAnon, in bytes: what no other process shares. The lowest of several samples, each after a collection: V8 keeps
 * emptied pages for 8 s (--memory-pool-timeout), and this load leaves it no moment of rest as a day would.
 */
async function privateBytes(): Promise<number> {
  let least = Number.POSITIVE_INFINITY;
  for (let sample = 0; sample < 24; sample += 1) {
    globalThis.gc?.();
    await new Promise((resolve) => setTimeout(resolve, 500));
    const line = /^RssAnon:\s+(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'utf8'));
    least = Math.min(least, Number(line?.[1]) * 1024);
  }
  return least;
}

async function append(buffer: DurableBuffer, until: () => boolean): Promise<void> {
  while (!until()) {
    for (let index = 0; index < 100; index += 1) {
      appended += 1;
      const recordClass = appended % 4 === 0 ? 'audit' : 'logs';
      buffer.append(recordClass, {
        kind: 'event',
        at: appended,
        message: `${appended} ${'x'.repeat(appended % 500)}`,
      });
    }
    await new Promise((resolve) => setImmediate(resolve));
  }
}

// What the code itself needs when it is warm is no growth: so another buffer before, and an empty one then.
const other = open('other');
await append(other, () => appended >= 20_000);
other.close();
const buffer = open('state');
const before = await privateBytes();
await append(buffer, () => buffer.stats().classes.logs.lost > 100_000);
const grown = (await privateBytes()) - before;
const { bytes, maxBytes, classes } = buffer.stats();
console.log(JSON.stringify({ appended, grown, bytes, maxBytes, lostAudits: classes.audit.lost }));
buffer.close();
process.exit(0);
