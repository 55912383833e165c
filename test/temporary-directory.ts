import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll } from 'vitest';

/** A directory for the tests of a file, which is removed after them. Every user may read it, as a sandbox's must. */
export function temporaryDirectory(prefix: string) {
  const directory = mkdtempSync(join(tmpdir(), prefix));
  chmodSync(directory, 0o755);
  afterAll(() => rmSync(directory, { recursive: true }));
  return {
    directory,
    /** Writes a file into it, which every user may read, and tells its path. */
    file(name: string, text: string): string {
      writeFileSync(join(directory, name), text, { mode: 0o644 });
      return join(directory, name);
    },
  };
}
