import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';

/** Every TypeScript file below a directory, sorted. */
export const sourceFiles = (directory: string): readonly string[] =>
  existsSync(directory)
    ? readdirSync(directory, { recursive: true, encoding: 'utf8' })
        .filter((name) => name.endsWith('.ts'))
        .map((name) => join(directory, name))
        .sort()
    : [];
