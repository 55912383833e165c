import {
  type L7Allow,
  type L7QueryMatcher,
  NetworkEndpoint,
  NetworkMiddlewareConfig,
  SandboxPolicy,
} from '../../proto/generated/openshell/sandbox/v1/sandbox.ts';
import { err, ok, type Result } from '../result.ts';
import {
  BLANK_ENDPOINT,
  CREDENTIAL_SIGNINGS,
  DEFAULT_BODY_BYTES,
  type Endpoint,
  INSPECTED_PROTOCOLS,
  type MiddlewareConfig,
  type NetworkRule,
  type OperationPattern,
  type PolicyDocument,
  type ValuePattern,
} from './document.ts';
import { faultAt, type Place, type PolicyFault, shown } from './fault.ts';
import { jsonToStruct, structToJson } from './struct.ts';
import { validatePolicy } from './validation.ts';

/**
 * Reads a policy from the wire. What the schema leaves to strings is checked here: an unknown protocol
 * or compatibility is a fault, never silently the weaker choice.
 */
export function policyFromWire(policy: SandboxPolicy): Result<PolicyDocument, readonly PolicyFault[]> {
  const faults: PolicyFault[] = [];
  const networkPolicies: Record<string, NetworkRule> = Object.create(null);
  for (const [key, rule] of Object.entries(policy.networkPolicies))
    networkPolicies[key] = {
      name: rule.name || key,
      endpoints: rule.endpoints.map((endpoint, index) =>
        endpointFrom(endpoint, ['network_policies', key, 'endpoints', index], faults),
      ),
      binaries: rule.binaries.map(({ path, harness }) => ({ path, advisorProposed: harness })),
    };
  const landlock = policy.landlock?.compatibility ?? '';
  const document: PolicyDocument = {
    version: policy.version,
    filesystem: policy.filesystem && {
      includeWorkdir: policy.filesystem.includeWorkdir,
      readOnly: policy.filesystem.readOnly,
      readWrite: policy.filesystem.readWrite,
    },
    landlock:
      oneOf(landlock, ['best_effort', 'hard_requirement'], ['landlock', 'compatibility'], faults) ??
      'best_effort',
    process: policy.process && {
      runAsUser: policy.process.runAsUser || undefined,
      runAsGroup: policy.process.runAsGroup || undefined,
    },
    networkPolicies,
    networkMiddlewares: Object.entries(policy.networkMiddlewares).map(([key, config]) =>
      middlewareFrom(key, config, faults),
    ),
  };
  faults.push(...validatePolicy(document));
  return faults.length > 0 ? err(faults) : ok(document);
}

/** One of the words that a field knows; undefined when empty, and a fault when it is none of them. */
function oneOf<const Word extends string>(
  value: string,
  words: readonly Word[],
  at: Place,
  faults: PolicyFault[],
): Word | undefined {
  if (value === '') return undefined;
  const word = words.find((known) => known === value);
  if (word === undefined)
    faults.push(faultAt(at, `is ${JSON.stringify(shown(value))}, but must be one of ${words.join(', ')}`));
  return word;
}

function endpointFrom(wire: NetworkEndpoint, at: Place, faults: PolicyFault[]): Endpoint {
  const word = <const Word extends string>(key: string, value: string, words: readonly Word[]) =>
    oneOf(value, words, [...at, key], faults);
  const tls = word('tls', wire.tls, ['skip', 'terminate', 'passthrough']);
  return {
    ...BLANK_ENDPOINT,
    host: wire.host,
    ports: wire.ports.length > 0 ? wire.ports : wire.port === 0 ? [] : [wire.port],
    path: wire.path,
    protocol: word('protocol', wire.protocol.toLowerCase(), ['tcp', ...INSPECTED_PROTOCOLS]) ?? 'opaque',
    tls: tls === 'skip' ? 'skip' : 'auto',
    enforcement: wire.enforcement.toLowerCase() === 'enforce' ? 'enforce' : 'audit',
    access: word('access', wire.access, ['read-only', 'read-write', 'full']),
    rules: wire.rules.map(({ allow }) => operationFrom(allow)),
    denyRules: wire.denyRules.map(operationFrom),
    allowedIps: wire.allowedIps,
    allowEncodedSlash: wire.allowEncodedSlash,
    persistedQueries:
      word('persisted_queries', wire.persistedQueries, ['deny', 'allow_registered']) ?? 'deny',
    graphqlPersistedQueries: { ...wire.graphqlPersistedQueries },
    graphqlMaxBodyBytes: wire.graphqlMaxBodyBytes || DEFAULT_BODY_BYTES,
    jsonRpcMaxBodyBytes: wire.jsonRpcMaxBodyBytes || DEFAULT_BODY_BYTES,
    mcp: wire.mcp && {
      strictToolNames: wire.mcp.strictToolNames,
      allowAllKnownMethods: wire.mcp.allowAllKnownMcpMethods,
    },
    websocketCredentialRewrite: wire.websocketCredentialRewrite,
    requestBodyCredentialRewrite: wire.requestBodyCredentialRewrite,
    credentialSigning: word('credential_signing', wire.credentialSigning, CREDENTIAL_SIGNINGS),
    signingService: wire.signingService,
    signingRegion: wire.signingRegion,
    credentialBinding: wire.credentialBinding?.provider,
    allowUninspectedCredentials: wire.allowUninspectedCredentials,
    advisorProposed: wire.advisorProposed,
    providerCredentialed: wire.providerCredentialed,
    deprecated: tls === 'terminate' || tls === 'passthrough' ? [`tls: ${tls}`] : [],
  };
}

function operationFrom(wire: L7Allow | undefined): OperationPattern {
  return {
    method: wire?.method ?? '',
    path: wire?.path ?? '',
    command: wire?.command ?? '',
    query: matchersFrom(wire?.query ?? {}),
    operationType: wire?.operationType ?? '',
    operationName: wire?.operationName ?? '',
    fields: wire?.fields ?? [],
    params: matchersFrom(wire?.params ?? {}),
  };
}

const matchersFrom = (wire: Readonly<Record<string, L7QueryMatcher>>): Record<string, ValuePattern> =>
  Object.fromEntries(
    Object.entries(wire).map(([key, { glob, any }]) => [key, any.length > 0 ? any : [glob]]),
  );

function middlewareFrom(key: string, wire: NetworkMiddlewareConfig, faults: PolicyFault[]): MiddlewareConfig {
  const at = ['network_middlewares', key];
  const config = structToJson(wire.config);
  if (!config.ok) faults.push(faultAt([...at, 'config'], `cannot be decoded: ${config.error}`));
  return {
    key,
    name: wire.name || key,
    middleware: wire.middleware,
    config: config.ok ? config.value : {},
    onError: oneOf(wire.onError, ['fail_closed', 'fail_open'], [...at, 'on_error'], faults) ?? 'fail_closed',
    include: wire.endpoints?.include ?? [],
    exclude: wire.endpoints?.exclude ?? [],
    order: wire.order,
  };
}

/** Writes a policy for the wire; `policyFromWire` reads it back to the same document. */
export function policyToWire(document: PolicyDocument): SandboxPolicy {
  return SandboxPolicy.fromPartial({
    version: document.version,
    filesystem: document.filesystem && {
      includeWorkdir: document.filesystem.includeWorkdir,
      readOnly: [...document.filesystem.readOnly],
      readWrite: [...document.filesystem.readWrite],
    },
    landlock: { compatibility: document.landlock },
    process: document.process && {
      runAsUser: document.process.runAsUser ?? '',
      runAsGroup: document.process.runAsGroup ?? '',
    },
    networkPolicies: mapValues(document.networkPolicies, ({ name, endpoints, binaries }) => ({
      name,
      endpoints: endpoints.map(endpointToWire),
      binaries: binaries.map(({ path, advisorProposed }) => ({ path, harness: advisorProposed })),
    })),
    networkMiddlewares: Object.fromEntries(
      document.networkMiddlewares.map((middleware) => [middleware.key, middlewareToWire(middleware)]),
    ),
  });
}

function mapValues<T, U>(map: Readonly<Record<string, T>>, change: (value: T) => U): Record<string, U> {
  return Object.fromEntries(Object.entries(map).map(([key, value]) => [key, change(value)]));
}

function endpointToWire(endpoint: Endpoint): NetworkEndpoint {
  const { protocol, graphqlMaxBodyBytes: graphql, jsonRpcMaxBodyBytes: rpc } = endpoint;
  return NetworkEndpoint.fromPartial({
    host: endpoint.host,
    port: endpoint.ports[0] ?? 0,
    ports: [...endpoint.ports],
    protocol: protocol === 'opaque' ? '' : protocol,
    tls: endpoint.tls === 'skip' ? 'skip' : '',
    enforcement: endpoint.enforcement === 'enforce' ? 'enforce' : '',
    access: endpoint.access ?? '',
    rules: endpoint.rules.map((rule) => ({ allow: operationToWire(rule) })),
    denyRules: endpoint.denyRules.map(operationToWire),
    allowedIps: [...endpoint.allowedIps],
    allowEncodedSlash: endpoint.allowEncodedSlash,
    persistedQueries: endpoint.persistedQueries === 'allow_registered' ? 'allow_registered' : '',
    graphqlPersistedQueries: mapValues(endpoint.graphqlPersistedQueries, (registered) => ({
      ...registered,
      fields: [...registered.fields],
    })),
    graphqlMaxBodyBytes: graphql === DEFAULT_BODY_BYTES ? 0 : graphql,
    path: endpoint.path,
    websocketCredentialRewrite: endpoint.websocketCredentialRewrite,
    requestBodyCredentialRewrite: endpoint.requestBodyCredentialRewrite,
    advisorProposed: endpoint.advisorProposed,
    credentialSigning: endpoint.credentialSigning ?? '',
    signingService: endpoint.signingService,
    signingRegion: endpoint.signingRegion,
    jsonRpcMaxBodyBytes: rpc === DEFAULT_BODY_BYTES ? 0 : rpc,
    mcp: endpoint.mcp && {
      strictToolNames: endpoint.mcp.strictToolNames,
      allowAllKnownMcpMethods: endpoint.mcp.allowAllKnownMethods,
    },
    credentialBinding:
      endpoint.credentialBinding === undefined ? undefined : { provider: endpoint.credentialBinding },
    allowUninspectedCredentials: endpoint.allowUninspectedCredentials,
    providerCredentialed: endpoint.providerCredentialed,
  });
}

const operationToWire = (pattern: OperationPattern) => ({
  method: pattern.method,
  path: pattern.path,
  command: pattern.command,
  query: mapValues(pattern.query, matcherToWire),
  operationType: pattern.operationType,
  operationName: pattern.operationName,
  fields: [...pattern.fields],
  params: mapValues(pattern.params, matcherToWire),
});

const matcherToWire = (pattern: ValuePattern): { glob: string; any: string[] } =>
  pattern.length === 1 ? { glob: pattern[0] ?? '', any: [] } : { glob: '', any: [...pattern] };

function middlewareToWire(middleware: MiddlewareConfig): NetworkMiddlewareConfig {
  return NetworkMiddlewareConfig.fromPartial({
    name: middleware.name,
    middleware: middleware.middleware,
    config: Buffer.from(jsonToStruct(middleware.config)),
    onError: middleware.onError,
    endpoints: { include: [...middleware.include], exclude: [...middleware.exclude] },
    order: middleware.order,
  });
}
