import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { unchanged } from '../../supervisor/confinement/privileges.ts';
import { openTerminal } from '../../supervisor/confinement/terminal.ts';
import { temporaryDirectory } from '../temporary-directory.ts';

const { directory } = temporaryDirectory('terminal-test-');

test('the reason why a container has no terminals is told, however soon their holder ends', async () => {
  const launcher = join(directory, 'holder');
  const reason = 'this container has no terminals: mount a devpts at /dev/pts';
  writeFileSync(launcher, `#!/bin/sh\necho 'fail 70 ${reason}' >&3\n`, { mode: 0o755 });
  const size = { columns: 80, rows: 24, width: 0, height: 0 };
  const modes = Object.fromEntries(Array.from({ length: 50 }, (_, n) => [`MODE_${n}`, n]));
  const open = () => openTerminal({ launcher, privileges: unchanged, identity: undefined }, size, modes);
  const all = await Promise.all(Array.from({ length: 20 }, open));
  expect(all).toEqual(all.map(() => ({ ok: false, error: reason })));
});
