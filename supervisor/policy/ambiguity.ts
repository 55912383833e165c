import type { Endpoint, PolicyDocument } from './document.ts';
import { faultAt, type Place, type PolicyFault, placeText } from './fault.ts';
import { hostsOverlap, isHostGlob, literalSuffix, normalizeHost, parentSuffix } from './host-pattern.ts';
import { scopesOverlap } from './matchers.ts';
import { hasGraphqlMessages } from './operation.ts';

interface Placed {
  readonly endpoint: Endpoint;
  readonly at: Place;
  /** Lower case. */
  readonly host: string;
  readonly suffix: string;
  /** Equal for endpoints that differ in nothing that may conflict. */
  readonly traits: string;
}

/**
 * Endpoints that cover the same host and port must agree on what is done with a connection, and those
 * that are equally specific about the path on what is done with a request (contract.md, 7.2): otherwise
 * their order would decide. Each endpoint is said to differ from one other at most.
 */
export function findAmbiguities(document: PolicyDocument): readonly PolicyFault[] {
  const faults: PolicyFault[] = [];
  const byPort = new Map<number, PortIndex>();
  for (const [key, rule] of Object.entries(document.networkPolicies))
    for (const [index, endpoint] of rule.endpoints.entries()) {
      const at = ['network_policies', key, 'endpoints', index];
      const host = normalizeHost(endpoint.host);
      const placed = { endpoint, at, host, suffix: literalSuffix(host), traits: traitsOf(endpoint) };
      let fault: PolicyFault | undefined;
      for (const port of new Set(endpoint.ports)) {
        const others = byPort.get(port) ?? new PortIndex();
        byPort.set(port, others);
        fault ??= firstConflict(placed, others.candidates(placed));
        others.add(placed);
      }
      if (fault !== undefined) faults.push(fault);
    }
  return faults;
}

function firstConflict(placed: Placed, others: Iterable<Placed>): PolicyFault | undefined {
  for (const other of others) {
    if (other.traits === placed.traits) continue;
    const differs = conflicts(other.endpoint, placed.endpoint);
    // Searching two patterns for a common host costs the most, so it comes last.
    if (differs.length === 0 || !hostsOverlap(other.host, placed.host)) continue;
    const message = `differs in ${differs.join(', ')} from ${placeText(other.at)}, which covers the same host and port`;
    return faultAt(placed.at, message);
  }
  return undefined;
}

/**
 * The endpoints of one port, found by host without comparing all pairs. Of those with the same host and
 * the same traits only the first is kept: what differs from one of them differs from all.
 */
class PortIndex {
  readonly #seen = new Set<string>();
  readonly #exact = new Map<string, Placed[]>();
  /** Globs, and endpoints without a host, by their literal suffix. */
  readonly #wild = new Map<string, Placed[]>();
  /** All endpoints by every suffix that is shorter than their own. */
  readonly #below = new Map<string, Placed[]>();

  add(placed: Placed): void {
    const identity = `${placed.host} ${placed.traits}`;
    if (this.#seen.has(identity)) return;
    this.#seen.add(identity);
    push(isExact(placed) ? this.#exact : this.#wild, placed.suffix, placed);
    for (let up = parentSuffix(placed.suffix); up !== undefined; up = parentSuffix(up))
      push(this.#below, up, placed);
  }

  /** Those that may share a host: two patterns can only when the suffix of one ends in that of the other. */
  *candidates(placed: Placed): Generator<Placed> {
    if (isExact(placed)) yield* this.#exact.get(placed.host) ?? [];
    else {
      yield* this.#exact.get(placed.suffix) ?? [];
      yield* this.#below.get(placed.suffix) ?? [];
    }
    for (let up: string | undefined = placed.suffix; up !== undefined; up = parentSuffix(up))
      yield* this.#wild.get(up) ?? [];
  }
}

const isExact = ({ host }: Placed): boolean => host !== '' && !isHostGlob(host);

function push(map: Map<string, Placed[]>, key: string, placed: Placed): void {
  const listed = map.get(key);
  if (listed === undefined) map.set(key, [placed]);
  else listed.push(placed);
}

/** Everything that `conflicts` compares or depends on. */
function traitsOf(endpoint: Endpoint): string {
  const {
    rules: _rules,
    denyRules: _deny,
    graphqlPersistedQueries: _saved,
    ports: _ports,
    ...rest
  } = endpoint;
  return JSON.stringify({ ...rest, host: '', access: '', messages: hasGraphqlMessages(endpoint) });
}

function conflicts(a: Endpoint, b: Endpoint): readonly string[] {
  const [connection, request]: [string[], string[]] = [[], []];
  const compare = (into: string[], name: string, of: (endpoint: Endpoint) => unknown): void => {
    if (of(a) !== of(b)) into.push(name);
  };
  compare(connection, 'protocol (tcp or not)', ({ protocol }) => protocol === 'tcp');
  compare(connection, 'tls', ({ tls }) => tls);
  compare(connection, 'allowed_ips', ({ allowedIps }) =>
    [...new Set(allowedIps.map(normalizeText))].sort().join(),
  );
  compare(connection, 'advisor_proposed', ({ advisorProposed }) => advisorProposed);
  if (!competes(a) || !competes(b) || specificity(a) !== specificity(b)) return connection;
  compare(request, 'protocol', ({ protocol }) => (protocol === 'tcp' ? 'opaque' : protocol));
  for (const [name, of, protocols] of REQUEST_TRAITS)
    if (protocols === undefined || (a.protocol === b.protocol && protocols.includes(a.protocol)))
      compare(request, name, of);
  return request.length > 0 && scopesOverlap(a.path, b.path) ? [...connection, ...request] : connection;
}

/** What must be one and the same for a request, and among which protocols. */
const REQUEST_TRAITS: readonly (readonly [
  name: string,
  of: (endpoint: Endpoint) => unknown,
  protocols?: readonly Endpoint['protocol'][],
])[] = [
  ['enforcement', ({ enforcement }) => enforcement],
  ['allow_encoded_slash', ({ allowEncodedSlash }) => allowEncodedSlash],
  ['websocket_credential_rewrite', ({ websocketCredentialRewrite }) => websocketCredentialRewrite],
  ['request_body_credential_rewrite', (one) => one.requestBodyCredentialRewrite],
  ['credential_signing', ({ credentialSigning }) => credentialSigning],
  ['signing_service', ({ signingService }) => signingService],
  ['signing_region', ({ signingRegion }) => signingRegion],
  ['credential_binding', ({ credentialBinding }) => credentialBinding],
  ['how text messages are read', hasGraphqlMessages, ['websocket']],
  ['graphql_max_body_bytes', ({ graphqlMaxBodyBytes }) => graphqlMaxBodyBytes, ['graphql']],
  ['max_body_bytes', ({ jsonRpcMaxBodyBytes }) => jsonRpcMaxBodyBytes, ['json-rpc', 'mcp']],
  ['mcp.strict_tool_names', ({ mcp }) => mcp?.strictToolNames ?? true, ['mcp']],
];

const normalizeText = (text: string): string => text.trim().toLowerCase();

const specificity = ({ path }: Endpoint): number => path.replaceAll('*', '').length;

/** A plain L4 endpoint grants a destination, but brings nothing that a request could be treated by. */
const competes = (endpoint: Endpoint): boolean =>
  (endpoint.protocol !== 'opaque' && endpoint.protocol !== 'tcp') ||
  endpoint.allowedIps.length > 0 ||
  endpoint.tls === 'skip' ||
  endpoint.deprecated.length > 0 ||
  endpoint.credentialBinding !== undefined;
