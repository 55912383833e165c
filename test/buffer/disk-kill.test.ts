/**
 * A supervisor can be killed at any instant: by the kernel for memory, by the node's shutdown, by a person. What
 * its buffer had taken must be there for the next start, in order. Real processes and real SIGKILLs: a writer
 * appends until it is killed within its first milliseconds, the next opens what it left, and every few kills
 * all is read and held against what the writers had said.
 */
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buildSync } from 'esbuild';
import { afterAll, expect, test } from 'vitest';
import { type BufferEvent, openDiskBuffer } from '../../supervisor/buffer/disk-buffer.ts';
import type { Entry } from '../../supervisor/buffer/record.ts';
import { VirtualClock } from '../gateway/virtual-clock.ts';

const KILLS = Number(process.env['BUFFER_KILLS'] ?? 1_000);
const CHAINS = 6;
const READ_EVERY = 8;
const root = mkdtempSync(join(tmpdir(), 'buffer-kill-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));

const writer = join(root, 'writer.mjs');
buildSync({
  entryPoints: [join(import.meta.dirname, 'writer.ts')],
  bundle: true,
  platform: 'node',
  format: 'esm',
  outfile: writer,
});

/** Runs a writer and kills it `delayMs` after its first word. Returns all that it said. */
async function writeAndDie(directory: string, boot: string, delayMs: number): Promise<readonly string[]> {
  const child = spawn(process.execPath, [writer, directory, boot], { stdio: ['ignore', 'pipe', 'pipe'] });
  let said = '';
  let complaints = '';
  child.stdout.on('data', (chunk) => {
    if (said === '') setTimeout(() => child.kill('SIGKILL'), delayMs);
    said += chunk;
  });
  child.stderr.on('data', (chunk) => {
    complaints += chunk;
  });
  const signal = await new Promise((resolve) => child.once('close', (_, name) => resolve(name)));
  expect(`${signal} ${complaints.replaceAll(/\{"kind":"predecessor","records":\d+\}\n/g, '')}`).toBe(
    'SIGKILL ',
  );
  return said.slice(0, said.lastIndexOf('\n')).split('\n');
}

/** Everything that is left in the directory, which is then empty. */
function readAll(directory: string): readonly Entry[] {
  const events: BufferEvent[] = [];
  const buffer = openDiskBuffer({
    directory,
    boot: 'reader',
    sandboxId: 'sb-1',
    clock: new VirtualClock(),
    maxBytes: 256 * 1024,
    report: (event) => events.push(event),
  });
  const entries: Entry[] = [];
  for (;;) {
    const batch = buffer.nextBatch({ maxEntries: 1_000, maxBytes: 1e9 });
    if (batch === undefined) break;
    entries.push(...batch.entries);
    buffer.ack(batch);
  }
  expect(buffer.stats()).toMatchObject({ degraded: undefined, corrupt: 0, entries: 0 });
  buffer.close();
  return entries;
}

function check(entries: readonly Entry[], said: ReadonlyMap<string, readonly string[]>): number {
  const seen = new Map<string, number>();
  let accepted = 0;
  const boots = [...said.keys()];
  const acked = new Set<string>();
  for (const lines of said.values())
    for (const line of lines) if (line.startsWith('acked ')) acked.add(line.slice('acked '.length));
  const found = new Set<string>();
  for (const entry of entries) {
    const [first, last] =
      entry.type === 'record' ? [entry.sequence, entry.sequence] : [entry.first, entry.last];
    const order = boots.indexOf(entry.boot) * 1e9 + first;
    expect(order).toBeGreaterThan(seen.get(entry.class) ?? -1);
    seen.set(entry.class, boots.indexOf(entry.boot) * 1e9 + last);
    for (let sequence = first; sequence <= last; sequence += 1)
      found.add(`${entry.boot} ${entry.class} ${sequence}`);
  }
  for (const [boot, lines] of said) {
    const next: Record<string, number> = {};
    for (const line of lines) {
      const [recordClass = ''] = line.split(' ');
      if (recordClass === 'acked') continue;
      const sequence = (next[recordClass] ?? 0) + 1;
      next[recordClass] = sequence;
      accepted += 1;
      const name = `${boot} ${recordClass} ${sequence}`;
      if (!found.has(name) && !acked.has(name)) throw new Error(`${name} was taken and is lost`);
    }
  }
  return accepted;
}

test(`${KILLS} writers are killed, and no record that was taken is lost or out of order`, async () => {
  let accepted = 0;
  const begun = performance.now();
  let kills = 0;
  const chain = async (number: number): Promise<void> => {
    const directory = join(root, `${number}`);
    let said = new Map<string, readonly string[]>();
    while (kills < KILLS) {
      const kill = kills++;
      const boot = `boot-${number}-${kill}`;
      said.set(boot, await writeAndDie(directory, boot, (kill * 7) % 12));
      if (said.size < READ_EVERY && kills < KILLS) continue;
      accepted += check(readAll(directory), said);
      said = new Map();
    }
    accepted += check(readAll(directory), said);
  };
  await Promise.all(Array.from({ length: CHAINS }, (_, number) => chain(number)));
  expect(accepted).toBeGreaterThan(KILLS);
  console.log(`${KILLS} kills in ${Math.round((performance.now() - begun) / 1000)} s, ${accepted} records`);
}, 240_000);
