import * as v from 'valibot';
import { type Document, isMap, isScalar, isSeq, LineCounter, type Node, parseDocument } from 'yaml';
import { err, ok, type Result } from '../result.ts';
import type { PolicyDocument } from './document.ts';
import { faultAt, type Place, type PolicyFault, shown } from './fault.ts';
import { validatePolicy } from './validation.ts';
import { documentFrom } from './yaml-document.ts';
import { POLICY_SCHEMA, type PolicyShape } from './yaml-schema.ts';

/** The gateway's own bound on a stored policy (contract.md, 2.3), in bytes. */
export const MAX_POLICY_BYTES = 262_144;

/** Deeper than any policy; what is deeper would only exhaust the stack. */
const MAX_DEPTH = 64;

/** Keys, items and values that a policy may expand to: more than its bytes can hold without aliases. */
const MAX_NODES = 200_000;

/**
 * Reads a policy from YAML 1.2 text: at most MAX_POLICY_BYTES, no duplicate keys, no unknown keys, aliases
 * expanded at most 100 times. The error lists every fault, each with its place: those of the syntax alone
 * when there are any, else those of shape and of meaning together.
 */
export function parsePolicyYaml(source: string): Result<PolicyDocument, readonly PolicyFault[]> {
  if (Buffer.byteLength(source) > MAX_POLICY_BYTES)
    return err([faultAt([], `is larger than ${MAX_POLICY_BYTES} bytes`)]);
  const lines = new LineCounter();
  const parsed = parseSyntax(source, lines);
  if (!parsed.ok) return parsed;
  let value: unknown;
  try {
    value = parsed.value.toJS({ maxAliasCount: 100 });
  } catch (error) {
    return err([faultAt([], error instanceof Error ? error.message : 'cannot be expanded')]);
  }
  const read = readValue(value);
  return read.ok ? read : err(read.error.map(placing(parsed.value, lines)).sort(byLine));
}

/** Adds to faults, or warnings, where they stand in the text that the document was read from. */
export function locateFaults(source: string, faults: readonly PolicyFault[]): readonly PolicyFault[] {
  const lines = new LineCounter();
  const parsed = parseSyntax(source, lines);
  return parsed.ok ? faults.map(placing(parsed.value, lines)) : faults;
}

const byLine = (a: PolicyFault, b: PolicyFault): number =>
  (a.line ?? 0) - (b.line ?? 0) || (a.column ?? 0) - (b.column ?? 0);

const placing =
  ({ contents }: Document, lines: LineCounter) =>
  (fault: PolicyFault): PolicyFault => {
    const offset = offsetOf(contents, fault.at);
    if (offset === undefined) return fault;
    const { line, col } = lines.linePos(offset);
    return { ...fault, line, column: col };
  };

function parseSyntax(source: string, lines: LineCounter): Result<Document, readonly PolicyFault[]> {
  const parsed = parseDocument(source, { lineCounter: lines, prettyErrors: false, uniqueKeys: true });
  if (parsed.errors.length > 0)
    return err(
      parsed.errors.map((error) => {
        const { line, col } = lines.linePos(error.pos[0]);
        return { ...faultAt([], error.message), line, column: col };
      }),
    );
  return ok(parsed as Document);
}

/** Reads a policy from what JSON or YAML has been parsed to; faults have no line then. */
export function readValue(value: unknown): Result<PolicyDocument, readonly PolicyFault[]> {
  const strange: PolicyFault[] = [];
  if (countNodes(value, [], strange) > MAX_NODES)
    return err([faultAt([], `expands to more than ${MAX_NODES} keys, items and values`)]);
  if (strange.length > 0) return err(strange);
  const shaped = v.safeParse(POLICY_SCHEMA, value);
  if (shaped.success) return validated(shaped.output, []);
  // What has no shape is taken out, so that the faults of all that has one are found as well.
  const found = shaped.issues.flatMap(leafIssues);
  const places = found.map(({ at }) => at);
  const rest = v.safeParse(POLICY_SCHEMA, withoutPlaces(value, places));
  return rest.success ? validated(rest.output, found) : err(found);
}

/** The document of a shape; with faults that were found before, all of them instead. */
function validated(
  shape: PolicyShape,
  found: readonly PolicyFault[],
): Result<PolicyDocument, readonly PolicyFault[]> {
  const unshaped: PolicyFault[] = [];
  const document = documentFrom(shape, unshaped);
  const before = [...found, ...unshaped];
  const isNew = (fault: PolicyFault): boolean => !before.some((one) => mayFollow(fault, one));
  const faults = [...before, ...validatePolicy(document).filter(isNew)];
  return faults.length > 0 ? err(faults) : ok(document);
}

/** Whether a fault may only follow from one that was found before: at its place, below, or beside it. */
function mayFollow(later: PolicyFault, found: PolicyFault): boolean {
  if (found.message === UNKNOWN_KEY) return false;
  const shares = (length: number): boolean =>
    found.at.slice(0, length).every((key, at) => later.at[at] === key);
  const depth = found.at.length;
  const isField = depth > 1 && typeof found.at.at(-1) === 'string';
  return shares(depth) || (isField && later.at.length === depth && shares(depth - 1));
}

const UNKNOWN_KEY = 'is not a key of the policy schema';

/**
 * Counts what a document holds, up to the bound, and reports what is no policy whatever it holds: names
 * that mean something to JavaScript, and nesting without end.
 */
function countNodes(value: unknown, at: Place, faults: PolicyFault[]): number {
  if (typeof value !== 'object' || value === null) return 1;
  if (at.length > MAX_DEPTH) {
    faults.push(faultAt(at.slice(0, 8), `is nested more than ${MAX_DEPTH} deep`));
    return 1;
  }
  if (value instanceof Map || value instanceof Set) {
    faults.push(faultAt(at, 'has keys that are no texts'));
    return 1;
  }
  let count = 1;
  for (const [key, inner] of Array.isArray(value) ? value.entries() : Object.entries(value)) {
    if (key === '__proto__' || key === 'prototype' || key === 'constructor')
      faults.push(faultAt([...at, key], 'cannot be used as a name'));
    count += countNodes(inner, [...at, key], faults);
    if (count > MAX_NODES) break;
  }
  return count;
}

/** One fault for each place; of a choice between shapes the faults of the one that was meant. */
function leafIssues(issue: v.BaseIssue<unknown>): readonly PolicyFault[] {
  const at = (issue.path ?? []).map(({ key }) => (typeof key === 'number' ? key : String(key)));
  if (issue.issues !== undefined && typeof issue.input === 'object' && issue.input !== null) {
    const deeper = issue.issues.filter((inner) => inner.path !== undefined);
    if (deeper.length > 0)
      return deeper.flatMap(leafIssues).map((fault) => faultAt([...at, ...fault.at], fault.message));
  }
  return [faultAt(at, sentence(issue))];
}

function sentence(issue: v.BaseIssue<unknown>): string {
  if (issue.type === 'strict_object' && issue.expected === 'never') return UNKNOWN_KEY;
  if (issue.received === 'undefined') return 'is needed';
  if (issue.type === 'min_length') return 'must not be empty';
  if (issue.type === 'integer') return `must be a whole number, is ${issue.received}`;
  if (issue.type === 'min_value' || issue.type === 'max_value')
    return `must be a number ${issue.expected?.replace('>=', 'from ').replace('<=', 'up to ')}, is ${issue.received}`;
  return `must be ${kindOf(issue.expected)}, is ${shown(kindOf(issue.received))}`;
}

const KINDS: Readonly<Record<string, string>> = {
  string: 'a text',
  number: 'a number',
  boolean: 'true or false',
  Object: 'a mapping',
  Array: 'a list',
  null: 'empty',
  '(string | Object)': 'a text or a mapping with "any"',
  '(string | number)': 'a text or a number',
};

const kindOf = (expected: string | null | undefined): string =>
  expected === null || expected === undefined
    ? 'valid'
    : (KINDS[expected] ?? expected.replaceAll(' | ', ' or '));

/** A copy in which what stands at the places is left out; what must be there is left out with its mapping. */
function withoutPlaces(value: unknown, places: readonly Place[]): unknown {
  const copy: unknown = structuredClone(value);
  for (const at of places) {
    let holder: unknown = copy;
    for (const key of at.slice(0, -1)) holder = isHolder(holder) ? holder[key] : undefined;
    const last = at.at(-1);
    if (!isHolder(holder) || last === undefined) continue;
    // An index must stay, or the places of later faults would be wrong; so does what a mapping needs.
    const stand = standIn(at, last);
    if (Array.isArray(holder)) holder[Number(last)] = holder.some(isHolder) ? {} : '';
    else if (stand === undefined) delete holder[last];
    else holder[last] = stand;
  }
  return copy;
}

const isHolder = (value: unknown): value is Record<string | number, unknown> =>
  typeof value === 'object' && value !== null;

/** What stands in for a value that is needed and has the wrong shape. */
function standIn(at: Place, last: string | number): unknown {
  switch (last) {
    case 'version':
      return 1;
    case 'allow':
      return {};
    case 'path':
      return at.at(-3) === 'binaries' ? '/' : undefined;
    case 'endpoints':
      return at[0] === 'network_middlewares' ? {} : undefined;
    case 'middleware':
    case 'provider':
      return '-';
    default:
      return undefined;
  }
}

/** Where a place begins in the text: an unknown key at the key itself, everything else at its value. */
function offsetOf(root: unknown, at: Place): number | undefined {
  let node: unknown = root;
  let offset = rangeOf(root);
  for (const [index, key] of at.entries()) {
    if (isMap(node)) {
      const pair = node.items.find(
        (item) => String(isScalar(item.key) ? item.key.value : item.key) === String(key),
      );
      if (pair === undefined) break;
      const isLast = index === at.length - 1;
      offset = (isLast ? rangeOf(pair.key) : undefined) ?? rangeOf(pair.value) ?? rangeOf(pair.key) ?? offset;
      node = pair.value;
    } else if (isSeq(node) && typeof key === 'number') {
      node = node.items[key];
      offset = rangeOf(node) ?? offset;
    } else break;
  }
  return offset;
}

const rangeOf = (node: unknown): number | undefined =>
  node !== null && typeof node === 'object' && 'range' in node ? (node as Node).range?.[0] : undefined;
