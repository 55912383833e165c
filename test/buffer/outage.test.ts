import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';

const root = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'buffer-outage-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));

test('an outage that fills 64 MiB and forces 100,000 lines out costs at most 4 MiB of memory, and no audit', () => {
  const script = join(import.meta.dirname, 'outage.ts');
  // Both bounds are what init/environment.c gives the supervisor.
  const run = spawnSync(process.execPath, ['--expose-gc', '--max-semi-space-size=2', script, root], {
    encoding: 'utf8',
    env: { ...process.env, MALLOC_ARENA_MAX: '1', MALLOC_TRIM_THRESHOLD_: '131072' },
    timeout: 150_000,
  });
  expect(run.stderr).toBe('');
  console.log(`grown by ${JSON.parse(run.stdout).grown} bytes`);
  const { grown, bytes, maxBytes, lostAudits } = JSON.parse(run.stdout);
  expect(grown).toBeLessThanOrEqual(4 * 1024 * 1024);
  expect(bytes).toBeLessThanOrEqual(maxBytes);
  expect(bytes).toBeGreaterThan(maxBytes * 0.99);
  expect(lostAudits).toBe(0);
}, 180_000);
