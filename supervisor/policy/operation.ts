import type { Endpoint, OperationPattern, ValuePattern } from './document.ts';
import { compilePathGlob, compileValueGlob, type Matcher } from './matchers.ts';
import type { GraphqlOperation, QueryParameters, RequestFacts, RpcCall } from './request.ts';

/** One allow or deny rule, ready to be matched. Which of them means anything depends on the protocol. */
export type CompiledOperation =
  | {
      readonly kind: 'http';
      readonly place: string;
      readonly method: Matcher;
      readonly path: Matcher;
      readonly query: readonly (readonly [string, Matcher])[];
    }
  | {
      readonly kind: 'graphql';
      readonly place: string;
      /** Lower case; `*` is every type. */
      readonly type: string;
      readonly name: Matcher | undefined;
      /** Undefined when the rule names none: then it holds for every field. */
      readonly field: Matcher | undefined;
    }
  | {
      readonly kind: 'rpc';
      readonly place: string;
      readonly method: Matcher;
      /** Undefined when the rule names no tool. */
      readonly tool: Matcher | undefined;
    };

/** Compiles an endpoint's rules; a preset becomes the rules that it stands for (contract.md, 7.7). */
export function compileOperations(
  endpoint: Endpoint,
  place: string,
): { readonly allow: readonly CompiledOperation[]; readonly deny: readonly CompiledOperation[] } {
  const compileAll = (patterns: readonly OperationPattern[], where: (index: number) => string) =>
    patterns
      .map((pattern, index) => compileOperation(endpoint, pattern, where(index)))
      .filter((operation) => operation !== undefined);
  const deny = compileAll(endpoint.denyRules, (index) => `${place}.deny_rules[${index}]`);
  if (endpoint.access === undefined)
    return { allow: compileAll(endpoint.rules, (index) => `${place}.rules[${index}]`), deny };
  return { allow: compileAll(presetOf(endpoint), () => `${place}.access`), deny };
}

const NO_PATTERN: OperationPattern = {
  method: '',
  path: '',
  command: '',
  query: {},
  operationType: '',
  operationName: '',
  fields: [],
  params: {},
};

function presetOf({ protocol, access }: Endpoint): readonly OperationPattern[] {
  const http = (...methods: readonly string[]) =>
    methods.map((method) => ({ ...NO_PATTERN, method, path: '**' }));
  const graphql = (...types: readonly string[]) =>
    types.map((operationType) => ({ ...NO_PATTERN, operationType }));
  if (protocol === 'graphql')
    return access === 'full'
      ? graphql('*')
      : graphql('query', ...(access === 'read-only' ? [] : ['mutation']));
  if (access === 'full') return [...http('*'), ...(protocol === 'websocket' ? graphql('*') : [])];
  if (protocol === 'websocket') return access === 'read-only' ? http('GET') : http('GET', 'WEBSOCKET_TEXT');
  const reading = http('GET', 'HEAD', 'OPTIONS');
  return access === 'read-only' ? reading : [...reading, ...http('POST', 'PUT', 'PATCH')];
}

/** Undefined when the rule says nothing that its protocol understands: then it matches nothing. */
function compileOperation(
  endpoint: Endpoint,
  pattern: OperationPattern,
  place: string,
): CompiledOperation | undefined {
  switch (endpoint.protocol) {
    case 'json-rpc':
    case 'mcp':
      return compileRpc(endpoint, pattern, place);
    case 'graphql':
      return compileGraphql(pattern, place);
    case 'websocket':
      return compileGraphql(pattern, place) ?? compileHttp(pattern, place);
    case 'rest':
      return compileHttp(pattern, place);
    default:
      return undefined;
  }
}

function compileHttp(pattern: OperationPattern, place: string): CompiledOperation | undefined {
  if (pattern.method === '' || pattern.path === '') return undefined;
  return {
    kind: 'http',
    place,
    method: compileHttpMethod(pattern.method),
    path: compilePathGlob(pattern.path),
    query: Object.entries(pattern.query).map(([key, value]) => [key, compileValue(value)]),
  };
}

/** Ignores case; a rule for GET holds for HEAD, which asks for the same without its body. */
function compileHttpMethod(pattern: string): Matcher {
  if (pattern === '*') return () => true;
  const wanted = pattern.toUpperCase();
  return (method) => {
    const upper = method.toUpperCase();
    return upper === wanted || (wanted === 'GET' && upper === 'HEAD');
  };
}

function compileGraphql(pattern: OperationPattern, place: string): CompiledOperation | undefined {
  if (pattern.operationType === '') return undefined;
  return {
    kind: 'graphql',
    place,
    type: pattern.operationType.toLowerCase(),
    name: pattern.operationName === '' ? undefined : compileValueGlob(pattern.operationName),
    field: pattern.fields.length === 0 ? undefined : compileValue(pattern.fields),
  };
}

function compileRpc(
  endpoint: Endpoint,
  pattern: OperationPattern,
  place: string,
): CompiledOperation | undefined {
  const name = endpoint.protocol === 'mcp' ? pattern.params['name'] : undefined;
  // Where every method is allowed, a rule may leave its own out: then it is for all, or for all tool calls.
  const silent = endpoint.mcp?.allowAllKnownMethods === true ? (name === undefined ? '*' : 'tools/call') : '';
  const method = pattern.method === '' ? silent : pattern.method;
  if (method === '') return undefined;
  const exact: Matcher = (text) => text === method;
  const glob = endpoint.protocol === 'mcp' ? compileValueGlob(method) : exact;
  return {
    kind: 'rpc',
    place,
    method: method === '*' ? () => true : glob,
    tool: name === undefined ? undefined : compileValue(name),
  };
}

function compileValue(pattern: ValuePattern): Matcher {
  const globs = pattern.map(compileValueGlob);
  return (value) => globs.some((matches) => matches(value));
}

type HttpOperation = CompiledOperation & { readonly kind: 'http' };
type GraphqlRule = CompiledOperation & { readonly kind: 'graphql' };
type RpcRule = CompiledOperation & { readonly kind: 'rpc' };

/** Allowing: every named key is there, and all of its values match. */
export function allowsHttp(rule: HttpOperation, request: RequestFacts): boolean {
  return (
    matchesHead(rule, request) &&
    rule.query.every(([key, matches]) => valuesOf(request.query, key)?.every(matches) ?? false)
  );
}

/** Denying: every named key is there, and any of its values matches. */
export function deniesHttp(rule: HttpOperation, request: RequestFacts): boolean {
  return (
    matchesHead(rule, request) &&
    rule.query.every(([key, matches]) => valuesOf(request.query, key)?.some(matches) ?? false)
  );
}

const matchesHead = (rule: HttpOperation, request: RequestFacts): boolean =>
  rule.method(request.method) && rule.path(request.path);

function valuesOf(query: QueryParameters, key: string): readonly string[] | undefined {
  const values = query.get(key);
  return values === undefined || values.length === 0 ? undefined : values;
}

/** Allowing: type and name match, and every root field does. */
export function allowsGraphql(rule: GraphqlRule, operation: GraphqlOperation): boolean {
  if (!matchesOperation(rule, operation)) return false;
  return rule.field === undefined || (operation.fields.length > 0 && operation.fields.every(rule.field));
}

/** Denying: type and name match, and any root field does. */
export function deniesGraphql(rule: GraphqlRule, operation: GraphqlOperation): boolean {
  return matchesOperation(rule, operation) && (rule.field === undefined || operation.fields.some(rule.field));
}

const matchesOperation = (rule: GraphqlRule, operation: GraphqlOperation): boolean =>
  (rule.type === '*' || rule.type === operation.type) && (rule.name?.(operation.name) ?? true);

/** Allowing and denying alike: the method matches, and so does the tool, when the rule names any. */
export function matchesRpc(rule: RpcRule, call: RpcCall): boolean {
  if (!rule.method(call.method)) return false;
  return rule.tool === undefined || (call.tool !== undefined && rule.tool(call.tool));
}

/** Whether a rule narrows an mcp endpoint's tool calls: then its other methods alone are allowed whole. */
export const narrowsTools = (rules: readonly CompiledOperation[]): boolean =>
  rules.some((rule) => rule.kind === 'rpc' && rule.tool !== undefined);

/** Whether client messages of a websocket endpoint are GraphQL operations, rather than mere text. */
export function hasGraphqlMessages(endpoint: Endpoint): boolean {
  const speaks = ({ operationType, operationName, fields }: OperationPattern): boolean =>
    operationType !== '' || operationName !== '' || fields.length > 0;
  return (
    endpoint.protocol === 'websocket' &&
    (endpoint.persistedQueries !== 'deny' ||
      Object.keys(endpoint.graphqlPersistedQueries).length > 0 ||
      endpoint.rules.some(speaks) ||
      endpoint.denyRules.some(speaks))
  );
}
