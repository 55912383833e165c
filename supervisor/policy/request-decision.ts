import type { CompiledEndpoint } from './compilation.ts';
import type { Grant } from './intent.ts';
import {
  allowsGraphql,
  allowsHttp,
  type CompiledOperation,
  deniesGraphql,
  deniesHttp,
  matchesRpc,
  narrowsTools,
} from './operation.ts';
import type { GraphqlOperation, RequestDecision, RequestFacts, RpcCall } from './request.ts';
import { isStrictToolName } from './tool-name.ts';

/**
 * The endpoint whose options hold for a path: of those that cover it the one whose own path has the most
 * characters beside `*`. Undefined when none does: then the request is refused.
 */
export function routeRequest(grant: Grant, path: string): CompiledEndpoint | undefined {
  let best: CompiledEndpoint | undefined;
  for (const endpoint of grant.endpoints)
    if (
      endpoint.inspected &&
      (best === undefined || endpoint.scope.specificity > best.scope.specificity) &&
      endpoint.scope.matches(path)
    )
      best = endpoint;
  return best;
}

/**
 * What the policy says of one request inside a granted connection (contract.md, 7.7). Pure. A deny rule of
 * any endpoint that covers the path beats every allow rule; audit turns a denial into a remark, but not for
 * what cannot be understood.
 */
export function decideRequest(grant: Grant, request: RequestFacts): RequestDecision {
  const route = routeRequest(grant, request.path);
  const decided = (kind: RequestDecision['kind'], reason: string, by?: Verdict): RequestDecision => ({
    kind,
    policy: by?.endpoint.policy ?? route?.policy ?? grant.policy,
    rule: by?.place,
    reason,
    generation: grant.generation,
    endpoint: route,
  });
  if (!grant.endpoints.some(({ inspected }) => inspected))
    return { ...decided('allow', 'its requests are not inspected'), policy: grant.policy, rule: grant.rule };
  if (route === undefined)
    return decided('deny', `no endpoint of the policy covers the path ${request.path}`);
  const forbidden = unspeakable(route, request);
  if (forbidden !== undefined) return decided('deny', forbidden);
  const covering = grant.endpoints.filter(
    (endpoint) => endpoint.inspected && (endpoint === route || endpoint.scope.matches(request.path)),
  );
  const verdict = judge(covering, route, request);
  if (verdict.allowed) return decided('allow', verdict.reason, verdict);
  return decided(route.options.enforcement === 'enforce' ? 'deny' : 'audit', verdict.reason, verdict);
}

/** What is refused whether the endpoint enforces or audits, because nobody can tell what it would do. */
function unspeakable(route: CompiledEndpoint, request: RequestFacts): string | undefined {
  const { body, path } = request;
  if (path.includes('%2F') && !route.options.allowEncodedSlash)
    return 'the path holds an encoded slash (%2F), which its endpoint does not allow';
  if (body.kind === 'malformed') return body.error;
  if (body.kind !== 'json-rpc') return undefined;
  if (body.hasResponse && route.options.protocol !== 'mcp')
    return 'a client may not send JSON-RPC responses here';
  if (body.calls.length === 0 && !body.hasResponse) return 'the JSON-RPC body is empty';
  if (route.options.protocol !== 'mcp' || route.options.mcp?.strictToolNames === false) return undefined;
  const odd = body.calls.find(({ tool }) => tool !== undefined && !isStrictToolName(tool));
  return odd === undefined ? undefined : 'the tool name is none that mcp.strict_tool_names allows';
}

interface Verdict {
  readonly allowed: boolean;
  readonly reason: string;
  readonly endpoint: CompiledEndpoint;
  readonly place: string | undefined;
}

function judge(
  covering: readonly CompiledEndpoint[],
  route: CompiledEndpoint,
  request: RequestFacts,
): Verdict {
  const denied = deniedBy(covering, request);
  if (denied !== undefined) return denied;
  switch (request.body.kind) {
    case 'graphql':
      return judgeGraphql(covering, route, request.body.operations);
    case 'json-rpc':
      return judgeRpc(covering, route, request, request.body.calls);
    case 'receive-stream':
      return judgeStream(covering, route, request);
    default:
      return judgeHttp(covering, route, request);
  }
}

const refusal = (endpoint: CompiledEndpoint, reason: string, place?: string): Verdict => ({
  allowed: false,
  reason,
  endpoint,
  place,
});

const permission = (endpoint: CompiledEndpoint, place: string): Verdict => ({
  allowed: true,
  reason: `allowed by ${place}`,
  endpoint,
  place,
});

const sayHttp = ({ method, path }: RequestFacts): string => `${method} ${path}`;
const sayOperation = ({ type, name, fields, persisted }: GraphqlOperation): string =>
  type === ''
    ? `the saved query ${persisted ?? ''}`
    : `the ${type} ${name === '' ? '(anonymous)' : name} of ${fields.join(', ') || 'no field'}`;
const sayCall = ({ method, tool }: RpcCall): string =>
  tool === undefined ? `the call ${method}` : `the call ${method} of ${tool}`;

function deniedBy(covering: readonly CompiledEndpoint[], request: RequestFacts): Verdict | undefined {
  for (const endpoint of covering)
    for (const rule of endpoint.deny) {
      const what = whatIsDenied(endpoint, rule, request);
      if (what !== undefined) return refusal(endpoint, `${what} is denied by ${rule.place}`, rule.place);
    }
  return undefined;
}

function whatIsDenied(
  endpoint: CompiledEndpoint,
  rule: CompiledOperation,
  request: RequestFacts,
): string | undefined {
  const { body } = request;
  switch (rule.kind) {
    case 'http':
      return deniesHttp(rule, request) ? sayHttp(request) : undefined;
    case 'graphql': {
      if (body.kind !== 'graphql') return undefined;
      const operation = body.operations.find((one) => {
        const meant = effectiveOperation(endpoint, one);
        return meant !== undefined && deniesGraphql(rule, meant);
      });
      return operation && sayOperation(operation);
    }
    case 'rpc': {
      if (body.kind !== 'json-rpc' || !isPost(request)) return undefined;
      const call = body.calls.find((one) => matchesRpc(rule, one));
      return call && sayCall(call);
    }
  }
}

const isPost = ({ method }: RequestFacts): boolean => method.toUpperCase() === 'POST';

function judgeHttp(
  covering: readonly CompiledEndpoint[],
  route: CompiledEndpoint,
  request: RequestFacts,
): Verdict {
  for (const endpoint of covering)
    for (const rule of endpoint.allow)
      if (rule.kind === 'http' && allowsHttp(rule, request)) return permission(endpoint, rule.place);
  return refusal(route, `${sayHttp(request)} is allowed by no rule`);
}

/**
 * Every graphql endpoint that covers the path, and the route itself when it is a websocket one, has to
 * allow every operation: a broader one for rest, or a laxer one beside it, lets none of them through.
 */
function judgeGraphql(
  covering: readonly CompiledEndpoint[],
  route: CompiledEndpoint,
  operations: readonly GraphqlOperation[],
): Verdict {
  const [only] = operations;
  if (only === undefined) return refusal(route, 'the request holds no GraphQL operation');
  let allowed: Verdict | undefined;
  for (const endpoint of covering) {
    if (endpoint.options.protocol !== 'graphql' && endpoint !== route) continue;
    for (const operation of operations) {
      const meant = effectiveOperation(endpoint, operation);
      if (meant === undefined) return refusal(endpoint, `${sayOperation(operation)} is not registered`);
      const rule = endpoint.allow.find((one) => one.kind === 'graphql' && allowsGraphql(one, meant));
      if (rule === undefined) return refusal(endpoint, `${sayOperation(operation)} is allowed by no rule`);
      allowed ??= permission(endpoint, rule.place);
    }
  }
  return allowed ?? refusal(route, 'no endpoint for GraphQL covers the path');
}

/** What a saved query stands for; undefined when the endpoint does not know it. */
function effectiveOperation(
  { options }: CompiledEndpoint,
  operation: GraphqlOperation,
): GraphqlOperation | undefined {
  if (operation.type !== '') return operation;
  const key = operation.persisted ?? '';
  if (options.persistedQueries !== 'allow_registered' || !Object.hasOwn(options.graphqlPersistedQueries, key))
    return undefined;
  const registered = options.graphqlPersistedQueries[key];
  const type = registered?.operationType.toLowerCase();
  if (registered === undefined || (type !== 'query' && type !== 'mutation' && type !== 'subscription'))
    return undefined;
  return { type, name: registered.operationName, fields: registered.fields };
}

function judgeRpc(
  covering: readonly CompiledEndpoint[],
  route: CompiledEndpoint,
  request: RequestFacts,
  calls: readonly RpcCall[],
): Verdict {
  if (!isPost(request)) return refusal(route, `${sayHttp(request)} carries JSON-RPC, which only POST may`);
  let allowed: Verdict | undefined;
  for (const call of calls) {
    const verdict = judgeCall(covering, route, call);
    if (!verdict.allowed) return verdict;
    allowed ??= verdict;
  }
  // Nothing but responses, to what an mcp server asked: those pass.
  return allowed ?? permission(route, route.place);
}

/** Only endpoints of the route's own protocol count: a broad one for rest must not let calls through. */
function judgeCall(covering: readonly CompiledEndpoint[], route: CompiledEndpoint, call: RpcCall): Verdict {
  for (const endpoint of covering) {
    if (endpoint.options.protocol !== route.options.protocol) continue;
    const rule = endpoint.allow.find((one) => one.kind === 'rpc' && matchesRpc(one, call));
    if (rule !== undefined) return permission(endpoint, rule.place);
    if (
      endpoint.options.protocol === 'mcp' &&
      endpoint.options.mcp?.allowAllKnownMethods === true &&
      !(call.method === 'tools/call' && narrowsTools(endpoint.allow))
    )
      return permission(endpoint, `${endpoint.place}.mcp.allow_all_known_mcp_methods`);
  }
  return refusal(route, `${sayCall(call)} is allowed by no rule`);
}

function judgeStream(
  covering: readonly CompiledEndpoint[],
  route: CompiledEndpoint,
  request: RequestFacts,
): Verdict {
  const endpoint = covering.find(({ options }) => options.protocol === 'mcp');
  if (endpoint === undefined || request.method.toUpperCase() !== 'GET')
    return refusal(route, `${sayHttp(request)} is allowed by no rule`);
  return permission(endpoint, endpoint.place);
}
