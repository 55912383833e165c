/** What a process of the sandbox wants to reach, before any decision. */
export interface Intent {
  /** Lower case, without a trailing dot; an IPv6 literal without brackets. */
  readonly host: string;
  readonly port: number;
  /** How the request came in; deny groups and denial stages are named after it. */
  readonly via: 'connect' | 'forward';
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
}

/** An IPv4 or IPv6 network; `bits` counts within the family's own width. */
export interface IpRange {
  readonly family: 4 | 6;
  readonly base: bigint;
  readonly bits: number;
}

/** Which addresses a granted endpoint may be dialled at (contract.md, 7.6). */
export type DestinationRule =
  | { readonly kind: 'allowed-ips'; readonly ranges: readonly IpRange[] }
  | { readonly kind: 'literal'; readonly address: string }
  | { readonly kind: 'exact-host' }
  | { readonly kind: 'public-only' };

/** The outcome of policy for one intent; addresses are judged later, by `judgeAddress`. */
export type Decision =
  | {
      readonly kind: 'allow';
      /** Name of the matched rule. */
      readonly policy: string;
      /** Counter of the compiled policy this decision came from. */
      readonly generation: number;
      readonly destination: DestinationRule;
      /** True when the endpoint asks for HTTP or message inspection (protocol other than tcp). */
      readonly inspect: boolean;
    }
  | {
      readonly kind: 'deny';
      readonly generation: number;
      readonly reason: string;
      readonly policy: string | undefined;
    };
