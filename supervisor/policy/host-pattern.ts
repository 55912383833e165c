/** Matches host names against one pattern. Names are lower case and have no trailing dot. */
export type HostMatcher = (host: string) => boolean;

const LABEL = /^[a-z0-9_*]([a-z0-9_*-]{0,61}[a-z0-9_*])?$/i;

/** Whether a pattern is a glob rather than an exact name. */
export const isHostGlob = (pattern: string): boolean => pattern.includes('*');

/** Why a pattern may not stand in a policy (contract.md, 7.2), or undefined when it may. */
export function hostPatternFault(pattern: string): string | undefined {
  if (pattern === '*' || pattern === '**') return 'matches every host; name a domain';
  if (/[\s{}[\]?]/.test(pattern)) return 'must not hold blanks, braces, brackets or question marks';
  if (pattern.length > 253) return 'is longer than 253 characters';
  const labels = pattern.split('.');
  if (labels.some((label) => label === '')) return 'has an empty label';
  if (labels.some((label) => !LABEL.test(label))) return 'has a label that is no DNS label';
  if (!isHostGlob(pattern)) return undefined;
  if (labels.length <= 2) return 'is too broad: a wildcard needs at least two labels behind it';
  for (const [index, label] of labels.entries()) {
    if (label.includes('**') && (index > 0 || label !== '**'))
      return 'may hold ** only as its whole first label';
    if (index > 0 && label.includes('*') && label !== '*')
      return 'may hold * behind the first label only as a whole label';
  }
  return undefined;
}

/** Compiles an exact name or DNS glob: `*` is one label or part of one, `**` one or more labels. */
export function compileHostPattern(pattern: string): HostMatcher {
  const lower = pattern.toLowerCase().replace(/\.$/, '');
  if (!isHostGlob(lower)) return (host) => host === lower;
  const source = lower
    .split('.')
    .map((label) =>
      label === '**' ? '[^.]+(?:\\.[^.]+)*' : label.split('*').map(escapeRegExp).join('[^.]*'),
    )
    .map((label) => (label === '[^.]*' ? '[^.]+' : label))
    .join('\\.');
  const expression = new RegExp(`^${source}$`);
  return (host) => expression.test(host);
}

const escapeRegExp = (text: string): string => text.replaceAll(/[\\^$.*+?()[\]{}|]/g, '\\$&');
