import { allowedIps, parseIp } from './addresses.ts';
import { type BinarySet, compileBinaries } from './binary-pattern.ts';
import type { Endpoint, MiddlewareConfig, PolicyDocument } from './document.ts';
import { EndpointIndex } from './endpoint-index.ts';
import { placeText } from './fault.ts';
import { compileHostPattern, isHostGlob, normalizeHost } from './host-pattern.ts';
import type { DestinationRule } from './intent.ts';
import { compilePathScope, type Matcher, type PathScope } from './matchers.ts';
import { type CompiledOperation, compileOperations, hasGraphqlMessages } from './operation.ts';

/** One endpoint of one rule, ready to be matched. */
export interface CompiledEndpoint {
  /** Key of its rule. */
  readonly policy: string;
  /** Its place in the document, such as `network_policies.github.endpoints[0]`. */
  readonly place: string;
  /** All that its author said of it: protocol, enforcement, limits, credentials. */
  readonly options: Endpoint;
  readonly rule: CompiledRule;
  readonly matches: Matcher;
  /** Whether it names a host exactly, rather than by a glob or not at all. */
  readonly exact: boolean;
  /** Which addresses it may be dialled at, when it is trusted as far as its author can. */
  readonly destination: DestinationRule;
  /** Whether its requests are looked at: rest, websocket, graphql, json-rpc and mcp. */
  readonly inspected: boolean;
  /** Whether client messages of this websocket endpoint are to be read as GraphQL. */
  readonly graphqlMessages: boolean;
  readonly scope: PathScope;
  /** Presets are written out. */
  readonly allow: readonly CompiledOperation[];
  readonly deny: readonly CompiledOperation[];
}

export interface CompiledRule {
  readonly key: string;
  readonly binaries: BinarySet;
  /** Those that a person wrote, rather than an advisor: only they bring trust in private addresses. */
  readonly declaredBinaries: BinarySet;
}

export interface CompiledMiddleware {
  readonly config: MiddlewareConfig;
  readonly matches: Matcher;
}

/** A policy compiled once; decisions only read it. `generation` rises with every swap. */
export type PolicyGeneration =
  | {
      readonly kind: 'active';
      readonly generation: number;
      readonly endpoints: EndpointIndex;
      /** By order, then name. */
      readonly middlewares: readonly CompiledMiddleware[];
      readonly hostGateways: ReadonlyMap<string, string>;
      readonly relaxedIdentity: boolean;
      readonly empty: boolean;
    }
  /** Everything is denied, and the reason says why. */
  | { readonly kind: 'quarantine'; readonly generation: number; readonly reason: string };

export interface CompileOptions {
  readonly generation: number;
  /** Where a binary's path leads when it is a symbolic link in the sandbox; nothing when left out. */
  readonly resolveBinary?: (path: string) => string | undefined;
  /** The machine that runs the sandbox, by alias: `hostGateways` of addresses.ts. */
  readonly hostGateways?: ReadonlyMap<string, string>;
  /** Whether callers cannot be told apart here: then rules hold for every binary, and need none. */
  readonly relaxedIdentity?: boolean;
}

/** Compiles a valid document. Rules are tried in the order of their keys, so the smallest one wins. */
export function compilePolicy(document: PolicyDocument, options: CompileOptions): PolicyGeneration {
  const resolve = options.resolveBinary ?? (() => undefined);
  const all: CompiledEndpoint[] = [];
  const rules = Object.entries(document.networkPolicies).sort(([a], [b]) => (a < b ? -1 : 1));
  for (const [key, { binaries, endpoints }] of rules) {
    const declared = binaries.filter((binary) => !binary.advisorProposed);
    const compiled = compileBinaries(binaries, resolve);
    const rule: CompiledRule = {
      key,
      binaries: compiled,
      declaredBinaries: declared.length === binaries.length ? compiled : compileBinaries(declared, resolve),
    };
    for (const [index, endpoint] of endpoints.entries()) all.push(compileEndpoint(rule, endpoint, index));
  }
  return {
    kind: 'active',
    generation: options.generation,
    endpoints: new EndpointIndex(all),
    middlewares: compileMiddlewares(document.networkMiddlewares),
    hostGateways: options.hostGateways ?? new Map(),
    relaxedIdentity: options.relaxedIdentity ?? false,
    empty: rules.length === 0,
  };
}

/** A generation that denies everything. */
export const quarantined = (reason: string, generation: number): PolicyGeneration => ({
  kind: 'quarantine',
  generation,
  reason,
});

function compileEndpoint(rule: CompiledRule, endpoint: Endpoint, index: number): CompiledEndpoint {
  const place = placeText(['network_policies', rule.key, 'endpoints', index]);
  const host = normalizeHost(endpoint.host);
  return {
    policy: rule.key,
    place,
    options: endpoint,
    rule,
    matches: host === '' ? () => true : compileHostPattern(host),
    exact: host !== '' && !isHostGlob(host),
    destination: destinationOf(endpoint, host),
    inspected: isInspected(endpoint),
    graphqlMessages: hasGraphqlMessages(endpoint),
    scope: compilePathScope(endpoint.path),
    ...compileOperations(endpoint, place),
  };
}

/** Whether a proxy looks at an endpoint's requests; sql is only ever passed through (contract.md, 7.7). */
export const isInspected = ({ protocol }: Endpoint): boolean =>
  protocol !== 'opaque' && protocol !== 'tcp' && protocol !== 'sql';

/** Which addresses the endpoint grants: the first mode of contract.md, 7.6 that applies. */
function destinationOf(endpoint: Endpoint, host: string): DestinationRule {
  if (endpoint.allowedIps.length > 0) return allowedIps(endpoint.allowedIps);
  if (parseIp(host) !== undefined) return { kind: 'literal', address: host };
  return isHostGlob(host) || endpoint.advisorProposed ? { kind: 'public-only' } : { kind: 'exact-host' };
}

function compileMiddlewares(configs: readonly MiddlewareConfig[]): readonly CompiledMiddleware[] {
  return configs
    .toSorted((a, b) => a.order - b.order || (a.name < b.name ? -1 : 1))
    .map((config) => {
      const include = config.include.map(compileHostPattern);
      const exclude = config.exclude.map(compileHostPattern);
      return {
        config,
        matches: (host) =>
          include.some((matches) => matches(host)) && !exclude.some((matches) => matches(host)),
      };
    });
}
