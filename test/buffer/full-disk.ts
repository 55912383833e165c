/** Run inside a mount namespace: fills the disk at its argument beside a buffer, frees it, and prints what became of that. */
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { openDiskBuffer } from '../../supervisor/buffer/disk-buffer.ts';
import { VirtualClock } from '../gateway/virtual-clock.ts';

const [, , directory = ''] = process.argv;
const clock = new VirtualClock();
const options = { boot: 'b', sandboxId: 's', clock, report: () => undefined } as const;
const buffer = openDiskBuffer({ directory: join(directory, 'state'), ...options });
const fillers: string[] = [];
try {
  for (let index = 0; ; index += 1) {
    fillers.push(join(directory, `filler-${index}`));
    writeFileSync(fillers.at(-1) ?? '', Buffer.alloc(64 * 1024));
    if (index === 1_000) throw new Error('this disk has no end');
  }
} catch {
  // full already
}
const total = 2_000;
for (let index = 0; index < total; index += 1)
  buffer.append('audit', { kind: 'event', at: 0, message: `${index} ${'x'.repeat(400)}` });
const degraded = buffer.stats().degraded !== undefined;
for (const filler of fillers) rmSync(filler, { force: true });
clock.run(120_000);
const restored = buffer.stats().degraded === undefined;
const sequences: number[] = [];
let counted = 0;
for (;;) {
  const batch = buffer.nextBatch({ maxEntries: 100, maxBytes: 1e9 });
  if (batch === undefined) break;
  for (const entry of batch.entries) {
    counted += entry.type === 'gap' ? entry.count : 1;
    if (entry.type === 'record') sequences.push(entry.sequence);
  }
  buffer.ack(batch);
}
const inOrder = sequences.every((sequence, index) => index === 0 || sequence > (sequences[index - 1] ?? 0));
console.log(JSON.stringify({ degraded, restored, inOrder, accounted: counted === total }));
buffer.close();
