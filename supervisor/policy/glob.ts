import { err, ok, type Result } from '../result.ts';
import { type CharacterSet, complementOf, EVERYTHING, includes, setOf, unionOf } from './character-set.ts';

/** How a pattern reads its wildcards. */
export interface GlobDialect {
  /** What a plain `*`, a `?` and a class stop at. */
  readonly delimiter: string;
  /** Whether `*` and `?` cross the delimiter all the same. */
  readonly crossing: boolean;
  /** Whether `{a,b}` names alternatives; otherwise braces are themselves. */
  readonly braces: boolean;
}

/** Paths in rules and binaries (contract.md, 7.7): `*` and `?` stay within a segment, `**` is whole segments. */
export const PATH_GLOB: GlobDialect = { delimiter: '/', crossing: false, braces: true };
/** Query values, methods, tools and GraphQL names: the same with dots, so `*` crosses slashes. */
export const VALUE_GLOB: GlobDialect = { delimiter: '.', crossing: false, braces: true };
/** Endpoint paths (contract.md, 7.7): `*` crosses slashes, and there are no alternatives. */
export const SCOPE_GLOB: GlobDialect = { delimiter: '/', crossing: true, braces: false };

/**
 * One step of a pattern, a little automaton without back-tracking: consumes a character of a set, any
 * number of them, or nothing while the next `by - 1` steps may be left out.
 */
export type Step =
  | { readonly kind: 'one'; readonly set: CharacterSet }
  | { readonly kind: 'many'; readonly set: CharacterSet }
  | { readonly kind: 'optional'; readonly by: number };

/** Alternatives, each a sequence of steps. */
export type Program = readonly (readonly Step[])[];

/** What `{…}` may expand to, and how deep: more is refused, because the expansion multiplies. */
const MAX_ALTERNATIVES = 64;
const MAX_DEPTH = 8;

/** No longer than the longest path. */
const MAX_LENGTH = 4096;

/** Reads a pattern; the error says what is wrong with it. */
export function parseGlob(pattern: string, dialect: GlobDialect): Result<Program, string> {
  if (pattern.length > MAX_LENGTH) return err(`is longer than ${MAX_LENGTH} characters`);
  const alternatives = dialect.braces ? expandBraces(pattern, 0) : ok([pattern]);
  if (!alternatives.ok) return alternatives;
  const program: (readonly Step[])[] = [];
  for (const alternative of alternatives.value) {
    const steps = parseAlternative(alternative, dialect);
    if (!steps.ok) return steps;
    program.push(steps.value);
  }
  return ok(program);
}

function parseAlternative(pattern: string, dialect: GlobDialect): Result<readonly Step[], string> {
  const { delimiter } = dialect;
  const inner = dialect.crossing ? EVERYTHING : complementOf(setOf(delimiter));
  const characters = [...pattern];
  const steps: Step[] = [];
  for (let at = 0; at < characters.length; at++) {
    const character = characters[at] ?? '';
    if (character === '*') {
      const recursive =
        characters[at + 1] === '*' &&
        characters[at + 2] !== '*' &&
        (at === 0 || characters[at - 1] === delimiter) &&
        (at + 2 === characters.length || characters[at + 2] === delimiter);
      if (!recursive) steps.push({ kind: 'many', set: inner });
      else if (at + 2 === characters.length) {
        steps.push({ kind: 'many', set: EVERYTHING });
        at++;
      } else {
        // Whole segments, or none of them: then its own delimiter is left out as well.
        steps.push({ kind: 'optional', by: 3 }, { kind: 'many', set: EVERYTHING }, one(setOf(delimiter)));
        at += 2;
      }
    } else if (character === '?') steps.push(one(inner));
    else if (character === '[') {
      const parsed = parseClass(characters, at + 1);
      if (!parsed.ok) return parsed;
      const { set, end } = parsed.value;
      steps.push(one(dialect.crossing ? set : without(set, delimiter)));
      at = end;
    } else if (character === '\\' && dialect.braces) {
      const next = characters[++at];
      if (next === undefined) return err('ends with a backslash that escapes nothing');
      steps.push(one(setOf(next)));
    } else steps.push(one(setOf(character)));
  }
  return ok(steps);
}

const one = (set: CharacterSet): Step => ({ kind: 'one', set });

const without = (set: CharacterSet, character: string): CharacterSet =>
  complementOf(unionOf(complementOf(set), setOf(character)));

/** Reads `[abc]`, `[a-z]`, `[!a]` and `[^a]` from behind the bracket; a `]` right at the start is itself. */
function parseClass(
  characters: readonly string[],
  from: number,
): Result<{ readonly set: CharacterSet; readonly end: number }, string> {
  const negated = characters[from] === '!' || characters[from] === '^';
  const first = negated ? from + 1 : from;
  const end = characters.indexOf(']', first + 1);
  if (end < 0) return err('has a [ without its ]');
  let set: CharacterSet = [];
  for (let at = first; at < end; at++) {
    const low = characters[at] ?? '';
    const high = characters[at + 1] === '-' && at + 2 < end ? characters[at + 2] : undefined;
    if (high !== undefined) {
      if ((low.codePointAt(0) ?? 0) > (high.codePointAt(0) ?? 0))
        return err(`has the range ${low}-${high}, which is the wrong way round`);
      at += 2;
    }
    set = unionOf(set, setOf(low, high));
  }
  return ok({ set: negated ? complementOf(set) : set, end });
}

/** Writes `a{b,c}d` out as its alternatives; nested ones too. Brackets and escapes keep their braces. */
function expandBraces(pattern: string, depth: number): Result<readonly string[], string> {
  if (depth > MAX_DEPTH) return err(`nests braces more than ${MAX_DEPTH} deep`);
  let results = [''];
  let at = 0;
  while (at < pattern.length) {
    const character = pattern.charAt(at);
    if (character === '}') return err('has a } without its {');
    if (character !== '{') {
      const end = atomEnd(pattern, at);
      const atom = pattern.slice(at, end);
      results = results.map((result) => result + atom);
      at = end;
      continue;
    }
    const group = bracedGroup(pattern, at);
    if (group === undefined) return err('has a { without its }');
    const inner: string[] = [];
    for (const part of group.parts) {
      const expanded = expandBraces(part, depth + 1);
      if (!expanded.ok) return expanded;
      inner.push(...expanded.value);
      if (inner.length * results.length > MAX_ALTERNATIVES)
        return err(`has more than ${MAX_ALTERNATIVES} alternatives`);
    }
    results = results.flatMap((result) => inner.map((part) => result + part));
    at = group.end;
  }
  return ok(results);
}

/** Where what begins at a place ends: an escape and a class are one piece. */
function atomEnd(pattern: string, at: number): number {
  const character = pattern.charAt(at);
  if (character === '\\') return Math.min(at + 2, pattern.length);
  if (character !== '[') return at + 1;
  const negated = pattern.charAt(at + 1) === '!' || pattern.charAt(at + 1) === '^';
  const end = pattern.indexOf(']', at + (negated ? 3 : 2));
  return end < 0 ? pattern.length : end + 1;
}

function bracedGroup(
  pattern: string,
  from: number,
): { readonly parts: readonly string[]; readonly end: number } | undefined {
  const parts: string[] = [];
  let depth = 0;
  let begin = from + 1;
  for (let at = from; at < pattern.length; at = atomEnd(pattern, at)) {
    const character = pattern.charAt(at);
    if (character === '{') depth++;
    else if (character === ',' && depth === 1) {
      parts.push(pattern.slice(begin, at));
      begin = at + 1;
    } else if (character === '}' && --depth === 0)
      return { parts: [...parts, pattern.slice(begin, at)], end: at + 1 };
  }
  return undefined;
}

/**
 * Runs a program over a text: linear in the text times the length of the pattern, whatever either holds,
 * because a workload chooses the text.
 */
export function runProgram(program: Program, text: string): boolean {
  return program.some((steps) => runSteps(steps, text));
}

function runSteps(steps: readonly Step[], text: string): boolean {
  const end = steps.length;
  let states = new Uint8Array(end + 1);
  let next = new Uint8Array(end + 1);
  enter(steps, 0, states);
  for (const character of text) {
    const code = character.codePointAt(0) ?? 0;
    let alive = false;
    next.fill(0);
    for (let at = 0; at < end; at++) {
      if (states[at] === 0) continue;
      const step = steps[at];
      if (step === undefined || step.kind === 'optional' || !includes(step.set, code)) continue;
      enter(steps, step.kind === 'one' ? at + 1 : at, next);
      alive = true;
    }
    if (!alive) return false;
    [states, next] = [next, states];
  }
  return states[end] === 1;
}

/** Marks a state and every state that is reached from it without consuming anything. */
function enter(steps: readonly Step[], at: number, states: Uint8Array): void {
  if (states[at] === 1) return;
  states[at] = 1;
  const step = steps[at];
  if (step === undefined || step.kind === 'one') return;
  enter(steps, at + 1, states);
  if (step.kind === 'optional') enter(steps, at + step.by, states);
}
