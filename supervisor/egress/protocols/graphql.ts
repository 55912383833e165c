import { type DocumentNode, Kind, Lexer, parse, type SelectionSetNode, Source, TokenKind } from 'graphql';
import type { BodyFacts, GraphqlOperation, QueryParameters } from '../../policy/request.ts';
import { disguisedMember, disguisedName, repeatedMember } from './json-members.ts';

/** Bounds of contract.md, 7.7. */
const MAX_TOKENS = 20_000;
const MAX_DEPTH = 128;
const MAX_OPERATIONS = 100;
const MAX_FIELDS = 1000;
const SAVED = ['id', 'documentId', 'queryId'] as const;
/** Members that decide what a request executes. */
const REQUEST = new Set(['query', 'operationName', 'extensions', ...SAVED]);
const EXTENSION = new Set(['persistedQuery', 'sha256Hash']);
const DECISIVE = new Set([...REQUEST, ...EXTENSION]);

const malformed = (error: string): BodyFacts => ({ kind: 'malformed', error });

/** GraphQL over HTTP by POST: one request object or a non-empty array of them. */
export function graphqlFromText(text: string): BodyFacts {
  const repeated = repeatedMember(text, DECISIVE);
  if (repeated !== undefined) return malformed(repeated);
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch {
    return malformed('the GraphQL body is not JSON');
  }
  const requests: readonly unknown[] = Array.isArray(body) ? body : [body];
  if (requests.length === 0) return malformed('the GraphQL batch is empty');
  if (requests.length > MAX_OPERATIONS)
    return malformed(`the GraphQL batch has more than ${MAX_OPERATIONS} requests`);
  const operations: GraphqlOperation[] = [];
  for (const request of requests) {
    const read = operationOf(request);
    if (typeof read === 'string') return malformed(read);
    operations.push(read);
  }
  return { kind: 'graphql', operations };
}

/** GraphQL over HTTP by GET. */
export function graphqlFromQuery(parameters: QueryParameters): BodyFacts {
  const request: Record<string, unknown> = {};
  const disguised = disguisedName(parameters.keys(), REQUEST);
  if (disguised !== undefined) return malformed(disguised);
  for (const name of ['query', 'operationName', 'extensions', ...SAVED]) {
    const values = parameters.get(name);
    if (values === undefined) continue;
    if (values.length > 1) return malformed(`the GraphQL request has ${name} twice`);
    const [value = ''] = values;
    if (name !== 'extensions') request[name] = value;
    else
      try {
        request[name] = JSON.parse(value);
      } catch {
        return malformed('the GraphQL extensions are not JSON');
      }
  }
  const read = operationOf(request);
  return typeof read === 'string' ? malformed(read) : { kind: 'graphql', operations: [read] };
}

/** Whether a query string holds what servers take for a part of a GraphQL request, some before the body's. */
export const asksByQuery = (parameters: QueryParameters): boolean =>
  [...parameters.keys()].some((name) => REQUEST.has(name)) ||
  disguisedName(parameters.keys(), REQUEST) !== undefined;

/** What one request object would execute, or what is wrong with it. */
export function operationOf(request: unknown): GraphqlOperation | string {
  if (typeof request !== 'object' || request === null || Array.isArray(request))
    return 'a GraphQL request is an object';
  const members = request as Readonly<Record<string, unknown>>;
  const disguised = disguisedMember(members, REQUEST);
  if (disguised !== undefined) return disguised;
  const { query, operationName } = members;
  if (operationName !== undefined && operationName !== null && typeof operationName !== 'string')
    return 'the GraphQL operationName is no string';
  const persisted = persistedOf(members);
  if (typeof persisted === 'object') return persisted.error;
  if (query === undefined || query === null || query === '') {
    if (persisted === undefined) return 'the GraphQL request has no query';
    return { type: '', name: operationName ?? '', fields: [], persisted };
  }
  if (typeof query !== 'string') return 'the GraphQL query is no string';
  // With both a text and an id a server may run what it has saved under the id.
  if (SAVED.some((name) => members[name] !== undefined && members[name] !== null))
    return 'the GraphQL request has both a query and the id of a saved one';
  return readQuery(query, operationName ?? undefined);
}

/** The id or hash of a saved query; an error when there is more than one. */
function persistedOf(
  members: Readonly<Record<string, unknown>>,
): string | undefined | { readonly error: string } {
  const found: string[] = [];
  for (const name of SAVED) {
    const value = members[name];
    if (value === undefined || value === null) continue;
    if (typeof value !== 'string' || value === '') return { error: `the GraphQL ${name} is no string` };
    found.push(value);
  }
  const { extensions } = members;
  const disguised =
    typeof extensions === 'object' && extensions !== null
      ? disguisedMember(extensions, EXTENSION)
      : undefined;
  if (disguised !== undefined) return { error: disguised };
  if (typeof extensions === 'object' && extensions !== null && Object.hasOwn(extensions, 'persistedQuery')) {
    const persistedQuery: unknown = 'persistedQuery' in extensions ? extensions.persistedQuery : undefined;
    const hash =
      typeof persistedQuery === 'object' && persistedQuery !== null && 'sha256Hash' in persistedQuery
        ? persistedQuery.sha256Hash
        : undefined;
    if (typeof hash !== 'string' || hash === '')
      return { error: 'the GraphQL persistedQuery has no sha256Hash' };
    found.push(hash);
  }
  return found.length > 1 ? { error: 'the GraphQL request names several saved queries' } : found[0];
}

function readQuery(text: string, wanted: string | undefined): GraphqlOperation | string {
  let document: DocumentNode;
  try {
    if (isTooDeep(text)) return `the GraphQL query is nested deeper than ${MAX_DEPTH}`;
    document = parse(text, { noLocation: true, maxTokens: MAX_TOKENS });
  } catch (error) {
    return `the GraphQL query cannot be parsed: ${error instanceof Error ? error.message.slice(0, 120) : ''}`;
  }
  const fragments = new Map<string, SelectionSetNode>();
  const operations = [];
  for (const definition of document.definitions) {
    if (definition.kind === Kind.OPERATION_DEFINITION) operations.push(definition);
    else if (definition.kind === Kind.FRAGMENT_DEFINITION) {
      if (fragments.has(definition.name.value))
        return `the fragment ${definition.name.value} is defined twice`;
      fragments.set(definition.name.value, definition.selectionSet);
    } else return 'the GraphQL document defines a schema';
  }
  const named = new Set(operations.map(({ name }) => name?.value ?? ''));
  if (named.size !== operations.length) return 'two GraphQL operations have the same name';
  const chosen =
    wanted === undefined || wanted === ''
      ? operations
      : operations.filter(({ name }) => name?.value === wanted);
  const [operation, second] = chosen;
  if (operation === undefined) return 'the GraphQL document has no operation of that name';
  if (second !== undefined)
    return 'the GraphQL document has several operations and operationName chooses none';
  const fields = rootFields(operation.selectionSet, fragments);
  if (typeof fields === 'string') return fields;
  return { type: operation.operation, name: operation.name?.value ?? '', fields };
}

/** Field names at the root, whatever their alias, with fragments expanded. */
function rootFields(
  root: SelectionSetNode,
  fragments: ReadonlyMap<string, SelectionSetNode>,
): readonly string[] | string {
  const fields = new Set<string>();
  const seen = new Set<string>();
  const left: SelectionSetNode[] = [root];
  for (let set = left.pop(); set !== undefined; set = left.pop())
    for (const selection of set.selections) {
      if (fields.size > MAX_FIELDS) return `the GraphQL operation has more than ${MAX_FIELDS} root fields`;
      if (selection.kind === Kind.FIELD) fields.add(selection.name.value);
      else if (selection.kind === Kind.INLINE_FRAGMENT) left.push(selection.selectionSet);
      else {
        const name = selection.name.value;
        const fragment = fragments.get(name);
        if (fragment === undefined) return `the GraphQL fragment ${name} is not defined`;
        if (!seen.has(name)) left.push(fragment);
        seen.add(name);
      }
    }
  return [...fields];
}

const OPENING: ReadonlySet<TokenKind> = new Set([TokenKind.BRACE_L, TokenKind.PAREN_L, TokenKind.BRACKET_L]);
const CLOSING: ReadonlySet<TokenKind> = new Set([TokenKind.BRACE_R, TokenKind.PAREN_R, TokenKind.BRACKET_R]);

/** Whether brackets of any kind are nested too deeply, before a recursive parser sees them. Throws as the lexer does. */
function isTooDeep(text: string): boolean {
  const lexer = new Lexer(new Source(text));
  let depth = 0;
  // What has more tokens than the parser takes is its to refuse.
  for (let tokens = 0; tokens <= MAX_TOKENS; tokens++) {
    const { kind } = lexer.advance();
    if (kind === TokenKind.EOF) return false;
    if (OPENING.has(kind)) depth += 1;
    else if (CLOSING.has(kind)) depth -= 1;
    if (depth > MAX_DEPTH) return true;
  }
  return false;
}
