import type { CompiledEndpoint, CompiledMiddleware } from './compilation.ts';

/** What a process of the sandbox wants to reach, before any decision. */
export interface Intent {
  /** Lower case, without a trailing dot; an IPv6 literal without brackets. */
  readonly host: string;
  readonly port: number;
  /** How the request came in; deny groups and denial stages are named after it. Decides nothing. */
  readonly via: 'connect' | 'forward' | 'socks' | 'transparent';
}

/** The process behind an intent, as the kernel describes it. */
export interface CallerIdentity {
  readonly pid: number;
  /** Target of /proc/<pid>/exe. */
  readonly binary: string;
  /** Executables of the parent chain, nearest first, at most 64. */
  readonly ancestors: readonly string[];
  /** For logs only; never grants anything. */
  readonly cmdline: readonly string[];
  /** Of the executable, in hexadecimal; for reports only. */
  readonly sha256?: string;
}

/** An IPv4 or IPv6 network; `bits` counts within the family's own width. */
export interface IpRange {
  readonly family: 4 | 6;
  readonly base: bigint;
  readonly bits: number;
}

/** Which addresses a granted endpoint may be dialled at (contract.md, 7.6). */
export type DestinationRule =
  /** The machine that runs the sandbox, by one of its alias names: this address, although link-local. */
  | { readonly kind: 'host-gateway'; readonly address: string }
  /** `fault` tells of an entry that can never be allowed; then nothing is. */
  | { readonly kind: 'allowed-ips'; readonly ranges: readonly IpRange[]; readonly fault?: string }
  | { readonly kind: 'literal'; readonly address: string }
  | { readonly kind: 'exact-host' }
  | { readonly kind: 'public-only' };

/**
 * The outcome of policy for one connection; addresses are judged later, by `judgeAddress`, and the
 * requests in it, where `inspect` says so, by `decideRequest`.
 */
export type Decision = Grant | Denial;

export interface Grant {
  readonly kind: 'allow';
  /** Key of the matched rule: of several the smallest. */
  readonly policy: string;
  /** Place of the endpoint that grants it, such as `network_policies.github.endpoints[0]`. */
  readonly rule: string;
  /** Counter of the compiled policy this decision came from. */
  readonly generation: number;
  readonly destination: DestinationRule;
  readonly tls: 'auto' | 'skip';
  /** True when requests or messages in the connection must be seen before they pass. */
  readonly inspect: boolean;
  /** Every endpoint of every matched rule that covers the host and port, by rule key; never empty. */
  readonly endpoints: readonly CompiledEndpoint[];
  /** What requests to this host pass through, in order; often empty. */
  readonly middlewares: readonly CompiledMiddleware[];
  readonly credentials: CredentialGuard;
}

/** What holds for credentials where nobody can look for them (contract.md, 7.4, steps 6 and 8). */
export type CredentialGuard =
  /** Nothing to guard. */
  | 'free'
  /** Credentials travel here: bytes that turn out not to be inspectable are refused. */
  | 'inspect-only'
  /** Credentials travel here and no inspection is possible: refuse the connection. */
  | 'refuse';

export interface Denial {
  readonly kind: 'deny';
  readonly generation: number;
  readonly reason: string;
  /** Key of a rule that names the endpoint but not the caller, when there is one. */
  readonly policy: string | undefined;
  /** Place of the endpoint of that rule. */
  readonly rule?: string | undefined;
}
