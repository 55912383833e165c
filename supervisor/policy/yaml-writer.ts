import { stringify } from 'yaml';
import {
  BLANK_ENDPOINT,
  type Endpoint,
  type MiddlewareConfig,
  type NetworkRule,
  type OperationPattern,
  type PolicyDocument,
  type RegisteredOperation,
  type ValuePattern,
} from './document.ts';

type Fields = Readonly<Record<string, unknown>>;

/**
 * Writes a policy as YAML that `parsePolicyYaml` reads back to the same document, without what says
 * nothing. What only the gateway sets (advisor_proposed, provider_credentialed) cannot be written.
 */
export function policyToYaml(document: PolicyDocument): string {
  return stringify(policyToPlain(document), { lineWidth: 0 });
}

/** The same as plain data, for JSON. */
export function policyToPlain(document: PolicyDocument): Fields {
  const { filesystem, process } = document;
  return said({
    version: document.version,
    filesystem_policy: filesystem && {
      include_workdir: filesystem.includeWorkdir,
      read_only: filesystem.readOnly,
      read_write: filesystem.readWrite,
    },
    landlock: { compatibility: document.landlock },
    process: process && said({ run_as_user: process.runAsUser, run_as_group: process.runAsGroup }),
    network_policies: mapValues(document.networkPolicies, ruleFields),
    network_middlewares: Object.fromEntries(
      document.networkMiddlewares.map((middleware) => [middleware.key, middlewareFields(middleware)]),
    ),
  });
}

/** Leaves out what is undefined, empty, false or zero: each of them is what its absence means. */
function said(fields: Fields): Fields {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => !saysNothing(value)));
}

function saysNothing(value: unknown): boolean {
  if (value === undefined || value === '' || value === false || value === 0) return true;
  if (Array.isArray(value)) return value.length === 0;
  return false;
}

const mapValues = <T>(map: Readonly<Record<string, T>>, change: (value: T, key: string) => unknown): Fields =>
  Object.fromEntries(Object.entries(map).map(([key, value]) => [key, change(value, key)]));

const unlessEmpty = (fields: Fields): Fields | undefined =>
  Object.keys(fields).length === 0 ? undefined : fields;

const ruleFields = ({ name, endpoints, binaries }: NetworkRule, key: string): Fields =>
  said({
    name: name === key ? '' : name,
    endpoints: endpoints.map(endpointFields),
    binaries: binaries.map(({ path }) => ({ path })),
  });

function endpointFields(endpoint: Endpoint): Fields {
  const { ports, protocol, mcp } = endpoint;
  const bytes = (key: 'graphqlMaxBodyBytes' | 'jsonRpcMaxBodyBytes'): number =>
    endpoint[key] === BLANK_ENDPOINT[key] ? 0 : endpoint[key];
  const rpcBytes = bytes('jsonRpcMaxBodyBytes');
  return said({
    host: endpoint.host,
    ...(ports.length === 1 ? { port: ports[0] } : { ports }),
    path: endpoint.path,
    protocol: protocol === 'opaque' ? '' : protocol,
    tls: endpoint.tls === 'skip' ? 'skip' : (endpoint.deprecated[0]?.replace('tls: ', '') ?? ''),
    enforcement: endpoint.enforcement === 'enforce' ? 'enforce' : '',
    access: endpoint.access,
    rules: endpoint.rules.map((rule) => ({ allow: operationFields(rule) })),
    deny_rules: endpoint.denyRules.map(operationFields),
    allowed_ips: endpoint.allowedIps,
    allow_encoded_slash: endpoint.allowEncodedSlash,
    persisted_queries: endpoint.persistedQueries === 'deny' ? '' : endpoint.persistedQueries,
    graphql_persisted_queries: unlessEmpty(mapValues(endpoint.graphqlPersistedQueries, registeredFields)),
    graphql_max_body_bytes: bytes('graphqlMaxBodyBytes'),
    json_rpc: mcp === undefined && rpcBytes > 0 ? { max_body_bytes: rpcBytes } : undefined,
    mcp:
      mcp &&
      Object.fromEntries(
        Object.entries({
          max_body_bytes: rpcBytes === 0 ? undefined : rpcBytes,
          strict_tool_names: mcp.strictToolNames,
          allow_all_known_mcp_methods: mcp.allowAllKnownMethods,
        }).filter(([, value]) => value !== undefined),
      ),
    websocket_credential_rewrite: endpoint.websocketCredentialRewrite,
    request_body_credential_rewrite: endpoint.requestBodyCredentialRewrite,
    credential_signing: endpoint.credentialSigning,
    signing_service: endpoint.signingService,
    signing_region: endpoint.signingRegion,
    credential_binding:
      endpoint.credentialBinding === undefined ? undefined : { provider: endpoint.credentialBinding },
    allow_uninspected_credentials: endpoint.allowUninspectedCredentials,
  });
}

function operationFields(pattern: OperationPattern): Fields {
  const { name: tool, ...params } = pattern.params;
  return said({
    method: pattern.method,
    path: pattern.path,
    command: pattern.command,
    query: unlessEmpty(mapValues(pattern.query, matcher)),
    operation_type: pattern.operationType,
    operation_name: pattern.operationName,
    fields: pattern.fields,
    params: unlessEmpty(mapValues(params, matcher)),
    // Written by hand as `tool`, and an empty one is still a pattern: it must not be left out.
    ...(tool === undefined
      ? {}
      : { tool: tool.length === 1 && tool[0] === '' ? { any: [''] } : matcher(tool) }),
  });
}

const matcher = (pattern: ValuePattern): unknown => (pattern.length === 1 ? pattern[0] : { any: pattern });

const registeredFields = (registered: RegisteredOperation): Fields =>
  said({
    operation_type: registered.operationType,
    operation_name: registered.operationName,
    fields: registered.fields,
  });

function middlewareFields(middleware: MiddlewareConfig): Fields {
  return said({
    name: middleware.name === middleware.key ? '' : middleware.name,
    middleware: middleware.middleware,
    config: unlessEmpty(middleware.config),
    on_error: middleware.onError === 'fail_open' ? 'fail_open' : '',
    endpoints: said({ include: middleware.include, exclude: middleware.exclude }),
    order: middleware.order,
  });
}
