/** Matches the absolute path of an executable. */
export type BinaryMatcher = (path: string) => boolean;

/**
 * Compiles a binary's pattern: an exact path, or, only if it holds `*`, a glob whose delimiter is the
 * slash: `*` stays within a segment, `**` crosses segments.
 */
export function compileBinaryPattern(pattern: string): BinaryMatcher {
  if (!pattern.includes('*')) return (path) => path === pattern;
  let source = '';
  for (let i = 0; i < pattern.length; i++) {
    const char = pattern.charAt(i);
    if (char !== '*') source += char.replaceAll(/[\\^$.*+?()[\]{}|]/g, '\\$&');
    else if (pattern.charAt(i + 1) === '*') {
      source += '.*';
      i++;
    } else source += '[^/]*';
  }
  const expression = new RegExp(`^${source}$`, 's');
  return (path) => expression.test(path);
}
