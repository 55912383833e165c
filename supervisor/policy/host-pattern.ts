import { isAddressLike } from './addresses.ts';
import { complementOf, setOf, unionOf } from './character-set.ts';
import { type Program, runProgram, type Step } from './glob.ts';
import { type Matcher, programsOverlap } from './matchers.ts';

const LABEL = /^[a-z0-9_*]([a-z0-9_*-]{0,61}[a-z0-9_*])?$/i;

/** Whether a pattern is a glob rather than an exact name. */
export const isHostGlob = (pattern: string): boolean => pattern.includes('*');

/** A host as it is compared: lower case, without the dot of the root. */
export const normalizeHost = (host: string): string => host.toLowerCase().replace(/\.$/, '');

/** Why a pattern may not stand in a policy (contract.md, 7.2), or undefined when it may. */
export function hostPatternFault(pattern: string): string | undefined {
  if (pattern === '*' || pattern === '**') return 'matches every host; name a domain';
  const shape = selectorFault(pattern);
  if (shape !== undefined || !isHostGlob(pattern)) return shape;
  const labels = pattern.split('.');
  if (labels.length <= 2) return 'is too broad: a wildcard needs at least two labels behind it';
  for (const [index, label] of labels.entries()) {
    if (label.includes('**') && (index > 0 || label !== '**'))
      return 'may hold ** only as its whole first label';
    if (index > 0 && label.includes('*') && label !== '*')
      return 'may hold * behind the first label only as a whole label';
  }
  if (isAddressLike(pattern)) return 'is a wildcard over addresses; list the networks in allowed_ips';
  return undefined;
}

/** Why a pattern may not stand in a middleware's selector, which may be as broad as it likes. */
export function selectorFault(pattern: string): string | undefined {
  if (pattern === '') return 'must not be empty';
  if (/[\s{}[\]?]/.test(pattern)) return 'must not hold blanks, braces, brackets or question marks';
  if (pattern.length > 253) return 'is longer than 253 characters';
  const labels = pattern.split('.');
  if (labels.some((label) => label === '')) return 'has an empty label';
  if (labels.some((label) => !LABEL.test(label))) return 'has a label that is no DNS label';
  return undefined;
}

/**
 * Compiles an exact name or DNS glob: `*` is one label or part of one, `**` one or more labels. Hosts are
 * lower case, have no trailing dot and no empty label.
 */
export function compileHostPattern(pattern: string): Matcher {
  const lower = normalizeHost(pattern);
  if (!isHostGlob(lower)) return (host) => host === lower;
  const [first = '', ...rest] = lower.split('.');
  const suffix = `.${rest.join('.')}`;
  if (!isHostGlob(suffix) && rest.length > 0) {
    // By far the most common shapes, and with them nothing has to be searched.
    if (first === '*')
      return (host) =>
        host.length > suffix.length &&
        host.endsWith(suffix) &&
        host.indexOf('.') === host.length - suffix.length;
    if (first === '**') return (host) => host.length > suffix.length && host.endsWith(suffix);
  }
  const program = hostProgram(lower);
  return (host) => runProgram(program, host);
}

/** The labels behind a pattern's last wildcard; the whole of it when it has none. */
export function literalSuffix(pattern: string): string {
  const lower = normalizeHost(pattern);
  const star = lower.lastIndexOf('*');
  if (star < 0) return lower;
  const dot = lower.indexOf('.', star);
  return dot < 0 ? '' : lower.slice(dot + 1);
}

/** A suffix without its first label: `b.test` of `a.b.test`, the empty one of `test`, and of that none. */
export function parentSuffix(suffix: string): string | undefined {
  if (suffix === '') return undefined;
  const dot = suffix.indexOf('.');
  return dot < 0 ? '' : suffix.slice(dot + 1);
}

/** Whether some host is matched by both; an empty pattern is every host. */
export function hostsOverlap(a: string, b: string): boolean {
  if (a === '' || b === '') return true;
  const [first, second] = [normalizeHost(a), normalizeHost(b)];
  if (!isHostGlob(first)) return compileHostPattern(second)(first);
  if (!isHostGlob(second)) return compileHostPattern(first)(second);
  return programsOverlap(hostProgram(first), hostProgram(second));
}

const DOT = setOf('.');
const IN_LABEL = complementOf(DOT);

function hostProgram(lower: string): Program {
  const steps: Step[] = [];
  for (const [index, label] of lower.split('.').entries()) {
    if (index > 0) steps.push({ kind: 'one', set: DOT });
    if (label === '**')
      // One or more labels: they begin and end with a character that is no dot.
      steps.push(
        { kind: 'one', set: IN_LABEL },
        { kind: 'optional', by: 3 },
        { kind: 'many', set: unionOf(IN_LABEL, DOT) },
        { kind: 'one', set: IN_LABEL },
      );
    else if (label === '*') steps.push({ kind: 'one', set: IN_LABEL }, { kind: 'many', set: IN_LABEL });
    else
      for (const character of label)
        steps.push(
          character === '*' ? { kind: 'many', set: IN_LABEL } : { kind: 'one', set: setOf(character) },
        );
  }
  return [steps];
}
