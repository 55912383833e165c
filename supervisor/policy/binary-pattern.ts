import type { Binary } from './document.ts';
import { PATH_GLOB, parseGlob, runProgram } from './glob.ts';
import type { CallerIdentity } from './intent.ts';
import type { Matcher } from './matchers.ts';

/**
 * Compiles a binary's pattern: an exact path, or, only if it holds `*`, a glob whose delimiter is the
 * slash: `*` stays within a segment, `**` is whole segments.
 */
export function compileBinaryPattern(pattern: string): Matcher {
  if (!pattern.includes('*')) return (path) => path === pattern;
  const program = parseGlob(pattern, PATH_GLOB);
  if (!program.ok) return () => false;
  // An absolute path begins with a slash, so this is every binary, and the most common glob.
  if (pattern === '/**' || pattern === '**') return (path) => path.startsWith('/');
  return (path) => runProgram(program.value, path);
}

/** The binaries of a rule. */
export interface BinarySet {
  /** Whether the executable or one of its ancestors is among them. */
  readonly matches: (identity: CallerIdentity) => boolean;
}

/**
 * Compiles the binaries of a rule. `resolve` tells where a path leads when it is a symbolic link in the
 * sandbox: then both spellings match, because the kernel only ever names the target.
 */
export function compileBinaries(
  binaries: readonly Binary[],
  resolve: (path: string) => string | undefined,
): BinarySet {
  const exact = new Set<string>();
  const globs: Matcher[] = [];
  for (const { path } of binaries) {
    if (path.includes('*')) globs.push(compileBinaryPattern(path));
    else {
      exact.add(path);
      const target = resolve(path);
      if (target !== undefined) exact.add(target);
    }
  }
  const matchesOne = (path: string): boolean => {
    if (exact.has(path)) return true;
    for (const glob of globs) if (glob(path)) return true;
    return false;
  };
  return {
    matches: ({ binary, ancestors }) => {
      if (matchesOne(binary)) return true;
      for (const ancestor of ancestors) if (matchesOne(ancestor)) return true;
      return false;
    },
  };
}
