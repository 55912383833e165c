import type { Endpoint, PolicyDocument } from './document.ts';
import { faultAt, type Place, type PolicyFault, placeText } from './fault.ts';
import { hostsOverlap, isHostGlob, normalizeHost } from './host-pattern.ts';
import { scopesOverlap } from './matchers.ts';
import { hasGraphqlMessages } from './operation.ts';

interface Placed {
  readonly endpoint: Endpoint;
  readonly at: Place;
  readonly order: number;
  readonly host: string;
}

/**
 * Endpoints that cover the same host and port must agree on what is done with a connection, and those
 * that are equally specific about the path on what is done with a request (contract.md, 7.2): otherwise
 * their order would decide.
 */
export function findAmbiguities(document: PolicyDocument): readonly PolicyFault[] {
  let order = 0;
  const all: Placed[] = Object.entries(document.networkPolicies).flatMap(([key, rule]) =>
    rule.endpoints.map((endpoint, index) => ({
      endpoint,
      at: ['network_policies', key, 'endpoints', index],
      order: order++,
      host: normalizeHost(endpoint.host),
    })),
  );
  const faults = new Map<Placed, PolicyFault>();
  for (const [first, second] of overlapping(all)) {
    const differs = conflicts(first.endpoint, second.endpoint);
    if (differs.length > 0 && !faults.has(second))
      faults.set(
        second,
        faultAt(
          second.at,
          `differs in ${differs.join(', ')} from ${placeText(first.at)}, which covers the same host and port`,
        ),
      );
  }
  return [...faults].sort(([a], [b]) => a.order - b.order).map(([, fault]) => fault);
}

/** Pairs that share a port and some host, the earlier one first. Exact hosts are only compared with equals. */
function* overlapping(all: readonly Placed[]): Generator<readonly [Placed, Placed]> {
  const byPort = new Map<number, { exact: Map<string, Placed[]>; broad: Placed[] }>();
  for (const placed of all)
    for (const port of new Set(placed.endpoint.ports)) {
      const others = byPort.get(port) ?? { exact: new Map<string, Placed[]>(), broad: [] };
      byPort.set(port, others);
      for (const other of others.broad) if (hostsOverlap(other.host, placed.host)) yield [other, placed];
      if (placed.host !== '' && !isHostGlob(placed.host)) {
        const same = others.exact.get(placed.host) ?? [];
        for (const other of same) yield [other, placed];
        others.exact.set(placed.host, same);
        same.push(placed);
      } else {
        for (const [host, same] of others.exact)
          if (hostsOverlap(host, placed.host)) for (const other of same) yield [other, placed];
        others.broad.push(placed);
      }
    }
}

function conflicts(a: Endpoint, b: Endpoint): readonly string[] {
  const differs: string[] = [];
  const compare = (name: string, of: (endpoint: Endpoint) => unknown): void => {
    if (of(a) !== of(b)) differs.push(name);
  };
  compare('protocol (tcp or not)', ({ protocol }) => protocol === 'tcp');
  compare('tls', ({ tls }) => tls);
  compare('allowed_ips', ({ allowedIps }) => [...new Set(allowedIps.map(normalizeText))].sort().join());
  compare('advisor_proposed', ({ advisorProposed }) => advisorProposed);
  if (!competes(a) || !competes(b) || specificity(a) !== specificity(b) || !scopesOverlap(a.path, b.path))
    return differs;
  compare('protocol', ({ protocol }) => (protocol === 'tcp' ? 'opaque' : protocol));
  compare('enforcement', ({ enforcement }) => enforcement);
  compare('allow_encoded_slash', ({ allowEncodedSlash }) => allowEncodedSlash);
  compare('websocket_credential_rewrite', ({ websocketCredentialRewrite }) => websocketCredentialRewrite);
  compare('request_body_credential_rewrite', (one) => one.requestBodyCredentialRewrite);
  compare('credential_signing', ({ credentialSigning }) => credentialSigning);
  compare('signing_service', ({ signingService }) => signingService);
  compare('signing_region', ({ signingRegion }) => signingRegion);
  compare('credential_binding', ({ credentialBinding }) => credentialBinding);
  if (a.protocol !== b.protocol) return differs;
  if (a.protocol === 'websocket') compare('how text messages are read', hasGraphqlMessages);
  if (a.protocol === 'graphql') compare('graphql_max_body_bytes', ({ graphqlMaxBodyBytes: max }) => max);
  if (a.protocol === 'json-rpc' || a.protocol === 'mcp')
    compare('max_body_bytes', ({ jsonRpcMaxBodyBytes }) => jsonRpcMaxBodyBytes);
  if (a.protocol === 'mcp') compare('mcp.strict_tool_names', ({ mcp }) => mcp?.strictToolNames ?? true);
  return differs;
}

const normalizeText = (text: string): string => text.trim().toLowerCase();

const specificity = ({ path }: Endpoint): number => path.replaceAll('*', '').length;

/** A plain L4 endpoint grants a destination, but brings nothing that a request could be treated by. */
const competes = (endpoint: Endpoint): boolean =>
  (endpoint.protocol !== 'opaque' && endpoint.protocol !== 'tcp') ||
  endpoint.allowedIps.length > 0 ||
  endpoint.tls === 'skip' ||
  endpoint.deprecated.length > 0 ||
  endpoint.credentialBinding !== undefined;
