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
  /** Paths as the kernel names them. */
  readonly exact: ReadonlySet<string>;
  readonly globs: readonly Matcher[];
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
  return { exact, globs };
}

/** Whether a caller's executable, or one of its ancestors, is among the binaries. */
export function namesCaller(binaries: BinarySet, { binary, ancestors }: CallerIdentity): boolean {
  return namesPath(binaries, binary) || ancestors.some((ancestor) => namesPath(binaries, ancestor));
}

const namesPath = ({ exact, globs }: BinarySet, path: string): boolean =>
  exact.has(path) || globs.some((matches) => matches(path));

/** Whether one of the globs, rather than an exact path, names the caller. */
export function globNamesCaller({ globs }: BinarySet, { binary, ancestors }: CallerIdentity): boolean {
  for (const matches of globs) {
    if (matches(binary)) return true;
    for (const ancestor of ancestors) if (matches(ancestor)) return true;
  }
  return false;
}
