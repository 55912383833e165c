import { ok, type Result } from '../result.ts';
import { intersect } from './character-set.ts';
import {
  type GlobDialect,
  PATH_GLOB,
  type Program,
  parseGlob,
  runProgram,
  SCOPE_GLOB,
  type Step,
  VALUE_GLOB,
} from './glob.ts';

/** Whether a text is one of those that a pattern stands for. */
export type Matcher = (text: string) => boolean;

const everything: Matcher = () => true;
const nothing: Matcher = () => false;

/** Compiles the path of a rule: `**` is everything, `a/**` is below `a`, not `a` itself. */
export const compilePathGlob = (pattern: string): Matcher => compiled(pattern, PATH_GLOB);

/** Compiles a pattern for a query value, a method, a tool or a GraphQL name. */
export const compileValueGlob = (pattern: string): Matcher => compiled(pattern, VALUE_GLOB);

/** Why a pattern cannot be compiled; undefined when it can. */
export function globFault(pattern: string, dialect: GlobDialect): string | undefined {
  const parsed = parseGlob(pattern, dialect);
  return parsed.ok ? undefined : parsed.error;
}

/** A pattern that validation lets through always compiles; any other one matches nothing. */
function compiled(pattern: string, dialect: GlobDialect): Matcher {
  if (pattern === '**') return everything;
  if (!/[*?[\]{}\\]/.test(pattern)) return (text) => text === pattern;
  const { delimiter } = dialect;
  const below = pattern.endsWith(`${delimiter}**`) ? pattern.slice(0, -2) : undefined;
  if (below !== undefined && !/[*?[\]{}\\]/.test(below)) return (text) => text.startsWith(below);
  const program = parseGlob(pattern, dialect);
  if (!program.ok) return nothing;
  const prefix = literalPrefix(pattern);
  return (text) => text.startsWith(prefix) && runProgram(program.value, text);
}

/** What every match begins with: cheap to compare, and enough to tell most texts apart. */
const literalPrefix = (pattern: string): string => /^[^*?[\]{}\\]*/.exec(pattern)?.[0] ?? '';

/** The path that scopes an endpoint, a credential binding or a token grant (contract.md, 7.7). */
export interface PathScope {
  readonly matches: Matcher;
  /** Characters that are no `*`: of several scopes the one with the most holds. */
  readonly specificity: number;
}

/** Compiles an endpoint's path: empty is everything, `a/**` is `a` and all below, `*` crosses slashes. */
export function compilePathScope(pattern: string): PathScope {
  const specificity = pattern.replaceAll('*', '').length;
  const program = scopeProgram(pattern);
  if (!program.ok) return { matches: (path) => path === pattern, specificity };
  if (isEverything(pattern)) return { matches: everything, specificity };
  return { matches: (path) => path === pattern || runProgram(program.value, path), specificity };
}

const isEverything = (pattern: string): boolean => ['', '**', '/**'].includes(pattern);

function scopeProgram(pattern: string): Result<Program, string> {
  if (isEverything(pattern)) return parseGlob('**', SCOPE_GLOB);
  if (!pattern.endsWith('/**')) return parseGlob(pattern, SCOPE_GLOB);
  const itself = parseGlob(pattern.slice(0, -3), SCOPE_GLOB);
  const below = parseGlob(pattern, SCOPE_GLOB);
  return itself.ok && below.ok ? ok([...itself.value, ...below.value]) : below;
}

/** Whether some path lies in both scopes. Scopes that cannot be compiled are taken to. */
export function scopesOverlap(a: string, b: string): boolean {
  const [first, second] = [scopeProgram(a), scopeProgram(b)];
  return !first.ok || !second.ok || programsOverlap(first.value, second.value);
}

/** Whether some text is matched by both: a search through pairs of states. */
export function programsOverlap(a: Program, b: Program): boolean {
  return a.some((first) => b.some((second) => stepsOverlap(first, second)));
}

function stepsOverlap(a: readonly Step[], b: readonly Step[]): boolean {
  const width = b.length + 1;
  const seen = new Set<number>();
  const open: [number, number][] = [[0, 0]];
  for (let pair = open.pop(); pair !== undefined; pair = open.pop()) {
    const [i, j] = pair;
    if (seen.has(i * width + j)) continue;
    seen.add(i * width + j);
    if (i === a.length && j === b.length) return true;
    const [x, y] = [a[i], b[j]];
    for (const next of skipsOf(x, i)) open.push([next, j]);
    for (const next of skipsOf(y, j)) open.push([i, next]);
    if (x === undefined || y === undefined || x.kind === 'optional' || y.kind === 'optional') continue;
    if (intersect(x.set, y.set)) open.push([x.kind === 'one' ? i + 1 : i, y.kind === 'one' ? j + 1 : j]);
  }
  return false;
}

function skipsOf(step: Step | undefined, at: number): readonly number[] {
  if (step === undefined || step.kind === 'one') return [];
  return step.kind === 'many' ? [at + 1] : [at + 1, at + step.by];
}
