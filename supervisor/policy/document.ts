/**
 * A policy as its author wrote it, whichever way it came (YAML or the wire), with the whole schema of
 * the contract (contract.md, 1.4 and 7.1): nothing is dropped silently on the way in.
 */
export interface PolicyDocument {
  readonly version: number;
  readonly filesystem: FilesystemSection | undefined;
  readonly landlock: LandlockCompatibility;
  readonly process: ProcessSection | undefined;
  readonly networkPolicies: Readonly<Record<string, NetworkRule>>;
  /** Names of configured middlewares; their chains run once HTTP is inspected. */
  readonly networkMiddlewares: readonly string[];
}

export type LandlockCompatibility = 'best_effort' | 'hard_requirement';

export interface FilesystemSection {
  readonly includeWorkdir: boolean;
  readonly readOnly: readonly string[];
  readonly readWrite: readonly string[];
}

export interface ProcessSection {
  readonly runAsUser: string | undefined;
  readonly runAsGroup: string | undefined;
}

export interface NetworkRule {
  readonly name: string;
  readonly endpoints: readonly Endpoint[];
  readonly binaries: readonly string[];
}

/** The protocols whose requests are inspected; everything else is opaque TCP. */
export const INSPECTED_PROTOCOLS = ['rest', 'websocket', 'graphql', 'sql', 'json-rpc', 'mcp'] as const;
export type InspectedProtocol = (typeof INSPECTED_PROTOCOLS)[number];

export interface Endpoint {
  /** Exact name, DNS glob or address literal; empty only together with `allowedIps`. */
  readonly host: string;
  readonly ports: readonly number[];
  /** `opaque` is the absent protocol or `tcp`. */
  readonly protocol: InspectedProtocol | 'opaque' | 'tcp';
  readonly tls: 'auto' | 'skip';
  readonly enforcement: 'enforce' | 'audit';
  readonly access: 'read-only' | 'read-write' | 'full' | undefined;
  readonly hasRules: boolean;
  readonly hasDenyRules: boolean;
  readonly allowedIps: readonly string[];
  readonly path: string;
  readonly advisorProposed: boolean;
}

/** A fault of a policy: where in the document, and what is wrong. */
export interface PolicyFault {
  /** For example `network_policies.github.endpoints[0].port`; empty for the whole document. */
  readonly path: string;
  readonly message: string;
  /** 1-based place in the YAML text, when it came from one. */
  readonly line?: number;
  readonly column?: number;
}

/** One line for a person: "network_policies.a.endpoints[0].port (line 7): must be …". */
export function describeFault(fault: PolicyFault): string {
  const place = fault.line === undefined ? '' : ` (line ${fault.line})`;
  return `${fault.path === '' ? 'the document' : fault.path}${place}: ${fault.message}`;
}
