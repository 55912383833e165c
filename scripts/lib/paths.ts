import { mkdirSync } from 'node:fs';
import { join, resolve } from 'node:path';

/** The repository's root. */
export const ROOT = resolve(import.meta.dirname, '../..');
/** What `npm run build` and `npm run image` make. */
export const DIST = join(ROOT, 'dist');
/** The Node of the pinned npm package: it runs the build, the tests and the product. */
export const NODE = join(ROOT, 'node_modules/.bin/node');

const CACHE = join(ROOT, '.cache');

/** A path below `.cache/`, whose parent directories exist afterwards. */
export const cached = (...parts: readonly string[]): string => {
  const path = join(CACHE, ...parts);
  mkdirSync(join(path, '..'), { recursive: true });
  return path;
};
