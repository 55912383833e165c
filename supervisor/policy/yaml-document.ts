import {
  BLANK_ENDPOINT,
  DEFAULT_BODY_BYTES,
  type Endpoint,
  type JsonObject,
  type MiddlewareConfig,
  type NetworkRule,
  type OperationPattern,
  type PolicyDocument,
  type ValuePattern,
} from './document.ts';
import { faultAt, type Place, type PolicyFault } from './fault.ts';
import type {
  EndpointShape,
  MatcherShape,
  MiddlewareShape,
  OperationShape,
  PolicyShape,
} from './yaml-schema.ts';

/** The document of what has the shape of one. Adds what the shape could not tell to the faults. */
export function documentFrom(shape: PolicyShape, faults: PolicyFault[]): PolicyDocument {
  const networkPolicies: Record<string, NetworkRule> = Object.create(null);
  for (const [key, rule] of Object.entries(shape.network_policies))
    networkPolicies[key] = {
      name: rule.name || key,
      endpoints: rule.endpoints.map((endpoint, index) =>
        endpointFrom(endpoint, ['network_policies', key, 'endpoints', index], faults),
      ),
      binaries: rule.binaries.map(({ path }) => ({ path, advisorProposed: false })),
    };
  const id = (value: string | number | undefined): string | undefined =>
    value === undefined || value === '' ? undefined : String(value);
  return {
    version: shape.version,
    filesystem: shape.filesystem_policy && {
      includeWorkdir: shape.filesystem_policy.include_workdir,
      readOnly: shape.filesystem_policy.read_only,
      readWrite: shape.filesystem_policy.read_write,
    },
    landlock: shape.landlock?.compatibility === 'hard_requirement' ? 'hard_requirement' : 'best_effort',
    process: shape.process && {
      runAsUser: id(shape.process.run_as_user),
      runAsGroup: id(shape.process.run_as_group),
    },
    networkPolicies,
    networkMiddlewares: Object.entries(shape.network_middlewares).map(middlewareFrom),
  };
}

function endpointFrom(shape: EndpointShape, at: Place, faults: PolicyFault[]): Endpoint {
  const operation = (written: OperationShape, where: Place) => operationFrom(written, where, faults);
  return {
    ...BLANK_ENDPOINT,
    host: shape.host,
    ports: shape.ports && shape.ports.length > 0 ? shape.ports : shape.port ? [shape.port] : [],
    path: shape.path,
    protocol: shape.protocol === '' ? 'opaque' : shape.protocol,
    tls: shape.tls === 'skip' ? 'skip' : 'auto',
    enforcement: shape.enforcement === 'enforce' ? 'enforce' : 'audit',
    access: shape.access === '' ? undefined : shape.access,
    rules: (shape.rules ?? []).map(({ allow }, index) => operation(allow, [...at, 'rules', index, 'allow'])),
    denyRules: (shape.deny_rules ?? []).map((rule, index) => operation(rule, [...at, 'deny_rules', index])),
    allowedIps: shape.allowed_ips,
    allowEncodedSlash: shape.allow_encoded_slash,
    persistedQueries: shape.persisted_queries === 'allow_registered' ? 'allow_registered' : 'deny',
    graphqlPersistedQueries: Object.fromEntries(
      Object.entries(shape.graphql_persisted_queries).map(([key, registered]) => [
        key,
        {
          operationType: registered.operation_type,
          operationName: registered.operation_name,
          fields: registered.fields,
        },
      ]),
    ),
    graphqlMaxBodyBytes: shape.graphql_max_body_bytes || DEFAULT_BODY_BYTES,
    jsonRpcMaxBodyBytes:
      (shape.mcp === undefined ? shape.json_rpc?.max_body_bytes : shape.mcp.max_body_bytes) ||
      DEFAULT_BODY_BYTES,
    mcp: shape.mcp && {
      strictToolNames: shape.mcp.strict_tool_names,
      allowAllKnownMethods: shape.mcp.allow_all_known_mcp_methods,
    },
    websocketCredentialRewrite: shape.websocket_credential_rewrite,
    requestBodyCredentialRewrite: shape.request_body_credential_rewrite,
    credentialSigning: shape.credential_signing === '' ? undefined : shape.credential_signing,
    signingService: shape.signing_service,
    signingRegion: shape.signing_region,
    credentialBinding: shape.credential_binding?.provider,
    allowUninspectedCredentials: shape.allow_uninspected_credentials,
    deprecated: shape.tls === 'terminate' || shape.tls === 'passthrough' ? [`tls: ${shape.tls}`] : [],
  };
}

function operationFrom(shape: OperationShape, at: Place, faults: PolicyFault[]): OperationPattern {
  const params = flatParams(shape.params, [...at, 'params'], faults);
  if (shape.tool !== undefined) {
    if (params['name'] !== undefined)
      faults.push(faultAt([...at, 'tool'], 'says the same as params.name; keep one of them'));
    params['name'] = patternOf(shape.tool);
  }
  return {
    method: shape.method,
    path: shape.path,
    command: shape.command,
    query: Object.fromEntries(Object.entries(shape.query).map(([key, value]) => [key, patternOf(value)])),
    operationType: shape.operation_type,
    operationName: shape.operation_name,
    fields: shape.fields ?? [],
    params,
  };
}

const patternOf = (matcher: MatcherShape): ValuePattern =>
  typeof matcher === 'string' ? [matcher] : matcher.any;

/** Nested maps of matchers become flat ones, their keys joined by dots. */
function flatParams(
  params: Readonly<Record<string, unknown>>,
  at: Place,
  faults: PolicyFault[],
  prefix = '',
): Record<string, ValuePattern> {
  const flat: Record<string, ValuePattern> = {};
  for (const [key, value] of Object.entries(params)) {
    const where = [...at, key];
    if (typeof value === 'string') flat[prefix + key] = [value];
    else if (typeof value !== 'object' || value === null || Array.isArray(value))
      faults.push(faultAt(where, 'must be a text or a mapping'));
    else if ('any' in value && Object.keys(value).length === 1) {
      const { any } = value;
      if (
        Array.isArray(any) &&
        any.length > 0 &&
        any.every((glob): glob is string => typeof glob === 'string')
      )
        flat[prefix + key] = any;
      else faults.push(faultAt([...where, 'any'], 'must be a list of texts'));
    } else Object.assign(flat, flatParams({ ...value }, where, faults, `${prefix}${key}.`));
  }
  return flat;
}

function middlewareFrom([key, shape]: [string, MiddlewareShape]): MiddlewareConfig {
  return {
    key,
    name: shape.name || key,
    middleware: shape.middleware,
    // Parsed from YAML's JSON subset, so it holds nothing that JSON does not.
    config: shape.config as JsonObject,
    onError: shape.on_error === 'fail_open' ? 'fail_open' : 'fail_closed',
    include: shape.endpoints.include,
    exclude: shape.endpoints.exclude,
    order: shape.order,
  };
}
