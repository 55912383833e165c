/** `npm test`: builds, runs every test, and ends with one line that counts them. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { ensureBuilt } from './lib/build.ts';
import { NODE, ROOT } from './lib/paths.ts';
import { ensureRootfs } from './lib/rootfs.ts';

interface Report {
  readonly numPassedTests: number;
  readonly numFailedTests: number;
  readonly numPendingTests: number;
  readonly numFailedTestSuites: number;
}

const results = join(ROOT, '.cache', 'test-results.json');
mkdirSync(join(ROOT, '.cache'), { recursive: true });
rmSync(results, { force: true });

await ensureBuilt();
for (const kind of ['debian', 'clients', 'busybox'] as const) await ensureRootfs(kind);

const vitest = spawnSync(
  NODE,
  [
    join(ROOT, 'node_modules', 'vitest', 'vitest.mjs'),
    'run',
    '--reporter=default',
    '--reporter=json',
    `--outputFile.json=${results}`,
    ...process.argv.slice(2),
  ],
  { cwd: ROOT, stdio: ['ignore', 'inherit', 'inherit'] },
);

let report: Report | undefined;
try {
  report = JSON.parse(readFileSync(results, 'utf8')) as Report;
} catch {
  console.error('scripts/test: the test runner left no result');
}
// A file that cannot be loaded fails without a failed test of its own: count it, so that the line says so.
const failed =
  report === undefined ? 1 : Math.max(report.numFailedTests, report.numFailedTestSuites > 0 ? 1 : 0);
console.log(
  `tests: ${report?.numPassedTests ?? 0} passed, ${failed} failed, ${report?.numPendingTests ?? 0} skipped`,
);
process.exit(failed > 0 || vitest.status !== 0 ? 1 : 0);
