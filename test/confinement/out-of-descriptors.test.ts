import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { expect, test } from 'vitest';

test('a supervisor without descriptors refuses a terminal, and lives on', () => {
  const script = join(import.meta.dirname, 'out-of-descriptors.ts');
  const out = execFileSync('sh', ['-c', 'ulimit -n 64; exec "$0" "$1"', process.execPath, script]);
  expect(JSON.parse(out.toString())).toEqual({
    opened: { ok: false, error: 'cannot run /bin/true' },
    helpers: 0,
  });
});
