import { parseIp, parseRange } from './addresses.ts';
import { type BinaryMatcher, compileBinaryPattern } from './binary-pattern.ts';
import type { Endpoint, PolicyDocument } from './document.ts';
import { compileHostPattern, type HostMatcher, isHostGlob } from './host-pattern.ts';
import type { DestinationRule, IpRange } from './intent.ts';

/** One endpoint of one rule, ready to be matched. */
export interface CompiledEndpoint {
  readonly rule: CompiledRule;
  readonly matches: HostMatcher;
  readonly ports: ReadonlySet<number>;
  readonly destination: DestinationRule;
  readonly inspect: boolean;
}

export interface CompiledRule {
  readonly name: string;
  readonly binaries: readonly BinaryMatcher[];
}

/** A policy compiled once; decisions only read it. `generation` rises with every swap. */
export type PolicyGeneration =
  | {
      readonly kind: 'active';
      readonly generation: number;
      /** Endpoints with an exact host, by that host; sorted by rule name. */
      readonly exact: ReadonlyMap<string, readonly CompiledEndpoint[]>;
      /** Globs, and endpoints without a host (allowed_ips alone); sorted by rule name. */
      readonly patterns: readonly CompiledEndpoint[];
      readonly empty: boolean;
    }
  /** Everything is denied, and the reason says why. */
  | { readonly kind: 'quarantine'; readonly generation: number; readonly reason: string };

/** Compiles a valid document. Rules are tried in the order of their names, so the smallest one wins. */
export function compilePolicy(
  document: PolicyDocument,
  options: { readonly generation: number },
): PolicyGeneration {
  const exact = new Map<string, CompiledEndpoint[]>();
  const patterns: CompiledEndpoint[] = [];
  const rules = Object.values(document.networkPolicies).sort((a, b) =>
    a.name < b.name ? -1 : a.name > b.name ? 1 : 0,
  );
  for (const { name, binaries, endpoints } of rules) {
    const rule: CompiledRule = { name, binaries: binaries.map(compileBinaryPattern) };
    for (const endpoint of endpoints) {
      const compiled = compileEndpoint(rule, endpoint, document.networkMiddlewares.length > 0);
      const host = endpoint.host.toLowerCase().replace(/\.$/, '');
      if (host === '' || isHostGlob(host)) patterns.push(compiled);
      else exact.set(host, [...(exact.get(host) ?? []), compiled]);
    }
  }
  return { kind: 'active', generation: options.generation, exact, patterns, empty: rules.length === 0 };
}

/** A generation that denies everything. */
export const quarantined = (reason: string, generation: number): PolicyGeneration => ({
  kind: 'quarantine',
  generation,
  reason,
});

/** With middlewares configured every endpoint may be one of theirs, and they see requests: inspect it. */
function compileEndpoint(rule: CompiledRule, endpoint: Endpoint, middlewares: boolean): CompiledEndpoint {
  return {
    rule,
    matches: endpoint.host === '' ? () => true : compileHostPattern(endpoint.host),
    ports: new Set(endpoint.ports),
    destination: destinationOf(endpoint),
    inspect: middlewares || (endpoint.protocol !== 'opaque' && endpoint.protocol !== 'tcp'),
  };
}

/** Which addresses the endpoint grants: the first mode of contract.md, 7.6 that applies. */
function destinationOf(endpoint: Endpoint): DestinationRule {
  if (endpoint.allowedIps.length > 0) {
    const ranges: IpRange[] = [];
    for (const text of endpoint.allowedIps) {
      const range = parseRange(text);
      if (range !== undefined) ranges.push(range); // an entry that is none grants nothing
    }
    return { kind: 'allowed-ips', ranges };
  }
  if (parseIp(endpoint.host) !== undefined) return { kind: 'literal', address: endpoint.host.toLowerCase() };
  return isHostGlob(endpoint.host) || endpoint.advisorProposed
    ? { kind: 'public-only' }
    : { kind: 'exact-host' };
}
