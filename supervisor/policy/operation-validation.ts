import type { Endpoint, OperationPattern } from './document.ts';
import { faultAt, type Place, type PolicyFault } from './fault.ts';
import { PATH_GLOB, VALUE_GLOB } from './glob.ts';
import { compileValueGlob, globFault } from './matchers.ts';
import { hasGraphqlMessages } from './operation.ts';

const OPERATION_TYPES = ['query', 'mutation', 'subscription', '*'];

/** Checks the rules, deny rules and saved queries of one endpoint. */
export function checkOperations(at: Place, endpoint: Endpoint): readonly PolicyFault[] {
  const faults: PolicyFault[] = [];
  const { rules, denyRules } = endpoint;
  if (rules.length > 0 && rules.every(saysNothing) && !allowsAllMethods(endpoint))
    faults.push(faultAt([...at, 'rules'], 'allow nothing at all: none of them says what'));
  const check = (where: Place, pattern: OperationPattern, denies: boolean): void => {
    const context = { at: where, pattern, denies, endpoint, faults };
    checkGlobs(context);
    checkProtocol(context);
  };
  for (const [index, pattern] of rules.entries()) check([...at, 'rules', index, 'allow'], pattern, false);
  for (const [index, pattern] of denyRules.entries()) check([...at, 'deny_rules', index], pattern, true);
  for (const [key, { operationType }] of Object.entries(endpoint.graphqlPersistedQueries))
    if (!OPERATION_TYPES.slice(0, 3).includes(operationType.toLowerCase()))
      faults.push(
        faultAt(
          [...at, 'graphql_persisted_queries', key, 'operation_type'],
          'must be query, mutation or subscription',
        ),
      );
  return faults;
}

const allowsAllMethods = ({ protocol, mcp }: Endpoint): boolean =>
  protocol === 'mcp' && mcp?.allowAllKnownMethods === true;

const saysNothing = (pattern: OperationPattern): boolean =>
  pattern.method === '' &&
  pattern.path === '' &&
  pattern.command === '' &&
  !hasGraphqlFields(pattern) &&
  Object.keys(pattern.params).length === 0;

const hasGraphqlFields = ({ operationType, operationName, fields }: OperationPattern): boolean =>
  operationType !== '' || operationName !== '' || fields.length > 0;

const isWild = (glob: string): boolean => /[*?[\]{}]/.test(glob);

interface Context {
  readonly at: Place;
  readonly pattern: OperationPattern;
  readonly denies: boolean;
  readonly endpoint: Endpoint;
  readonly faults: PolicyFault[];
}

function report({ at, faults }: Context, key: string, message: string): void {
  faults.push(faultAt(key === '' ? at : [...at, key], message));
}

function checkGlobs(context: Context): void {
  const { at, pattern, faults } = context;
  const check = (where: Place, glob: string, dialect = VALUE_GLOB): void => {
    const message = globFault(glob, dialect);
    if (message !== undefined) faults.push(faultAt([...at, ...where], message));
  };
  check(['path'], pattern.path, PATH_GLOB);
  check(['operation_name'], pattern.operationName);
  for (const [index, field] of pattern.fields.entries()) check(['fields', index], field);
  for (const [key, globs] of Object.entries(pattern.query))
    for (const glob of globs) check(['query', key], glob);
  for (const [key, globs] of Object.entries(pattern.params))
    for (const glob of globs) check([key === 'name' ? 'tool' : 'params'], glob);
  if (context.endpoint.protocol === 'mcp') check(['method'], pattern.method);
}

function checkProtocol(context: Context): void {
  const { pattern, endpoint } = context;
  switch (endpoint.protocol) {
    case 'json-rpc':
      checkJsonRpc(context);
      return;
    case 'mcp':
      checkMcp(context);
      return;
    case 'graphql':
      checkOperationType(context);
      break;
    case 'websocket':
      checkWebSocket(context);
      break;
    default:
      break;
  }
  for (const key of Object.keys(pattern.params))
    report(context, key === 'name' ? 'tool' : 'params', 'is for protocol mcp alone');
}

function checkOperationType(context: Context): void {
  if (!OPERATION_TYPES.includes(context.pattern.operationType.toLowerCase()))
    report(context, 'operation_type', 'must be query, mutation, subscription or *');
}

function checkWebSocket(context: Context): void {
  const { pattern, endpoint, denies } = context;
  if (hasGraphqlFields(pattern)) {
    checkOperationType(context);
    if (pattern.method !== '' || pattern.path !== '' || Object.keys(pattern.query).length > 0)
      report(context, '', 'must not name method, path or query beside GraphQL fields');
  } else if (!denies && hasGraphqlMessages(endpoint) && pattern.method.toUpperCase() === 'WEBSOCKET_TEXT')
    report(context, 'method', 'WEBSOCKET_TEXT would let GraphQL messages pass; name their operation_type');
}

function checkRpcShape(context: Context): void {
  const { pattern } = context;
  if (pattern.path !== '') report(context, 'path', 'means nothing to JSON-RPC; name a method');
  if (Object.keys(pattern.query).length > 0)
    report(context, 'query', 'means nothing to JSON-RPC; name a method');
}

function checkJsonRpc(context: Context): void {
  const { pattern } = context;
  checkRpcShape(context);
  if (pattern.method === '') report(context, 'method', 'is needed where protocol is json-rpc');
  else if (pattern.method !== '*' && isWild(pattern.method))
    report(context, 'method', 'must be a whole name or *, not a glob');
  for (const key of Object.keys(pattern.params))
    report(context, key === 'name' ? 'tool' : 'params', 'is for protocol mcp alone');
}

function checkMcp(context: Context): void {
  const { pattern, endpoint, denies } = context;
  checkRpcShape(context);
  const tool = pattern.params['name'];
  for (const key of Object.keys(pattern.params))
    if (key !== 'name') report(context, 'params', `holds ${key}, but tools are told apart by name alone`);
  if (pattern.method === '' && !allowsAllMethods(endpoint))
    report(context, 'method', 'is needed unless mcp.allow_all_known_mcp_methods is true');
  if (pattern.method !== '*' && isWild(pattern.method) && !pattern.method.startsWith('tools/'))
    report(context, 'method', 'may be a glob only within tools/');
  if (tool !== undefined && pattern.method !== '' && pattern.method !== 'tools/call')
    report(context, 'method', 'must be tools/call where a tool is named');
  if (tool?.some(isWild) && endpoint.mcp?.strictToolNames === false)
    report(context, 'tool', 'may be a glob only while mcp.strict_tool_names is true');
  const named = endpoint.rules.some(({ params }) => params['name'] !== undefined);
  if (named && tool === undefined && coversToolCalls(pattern.method, allowsAllMethods(endpoint) && !denies))
    report(
      context,
      'method',
      `${denies ? 'denies' : 'allows'} every tool call, which other rules allow by tool`,
    );
}

function coversToolCalls(method: string, silentIsAll: boolean): boolean {
  if (method === '') return silentIsAll;
  return method === '*' || compileValueGlob(method)('tools/call');
}
