/** Types of resource records that are answered for, by their numbers (IANA, "Resource Record (RR) TYPEs"). */
export const TYPE = {
  A: 1,
  PTR: 12,
  AAAA: 28,
  OPT: 41,
  SVCB: 64,
  HTTPS: 65,
  IXFR: 251,
  AXFR: 252,
  ANY: 255,
} as const;

/** Response codes (RFC 1035, 4.1.1; RFC 6891, 9). */
export const RCODE = {
  NOERROR: 0,
  FORMERR: 1,
  SERVFAIL: 2,
  NXDOMAIN: 3,
  NOTIMP: 4,
  REFUSED: 5,
  BADVERS: 16,
} as const;
export type Rcode = (typeof RCODE)[keyof typeof RCODE];

/** Extended DNS errors (RFC 8914) that this server gives. */
export const EXTENDED_ERROR = { other: 0, blocked: 15 } as const;

export const CLASS_IN = 1;
export const HEADER_BYTES = 12;
/** What a sender of EDNS may be sent without fragments on any path; loopback would take more. */
export const MAX_UDP_BYTES = 1232;
export const PLAIN_UDP_BYTES = 512;

export interface Question {
  /** As the wire has it, its last byte the root's; sent back unchanged, in the case that it came in. */
  readonly wire: Buffer;
  /** Lower case, without the root's dot. Undefined when a label holds what no host name does. */
  readonly name: string | undefined;
  readonly type: number;
  readonly class: number;
}

/** A query that is well-formed and one that this server can answer. */
export interface Query {
  readonly id: number;
  readonly recursionDesired: boolean;
  readonly checkingDisabled: boolean;
  readonly question: Question;
  /** What the sender's EDNS says; undefined without EDNS. */
  readonly edns: { readonly udpBytes: number } | undefined;
}

/** What the sender of a message that is not such a query is to be told. */
export type Rejected =
  /** Nothing: it is no query at all, and an answer could start a loop. */
  | { readonly kind: 'silence'; readonly why: string }
  /** A header with this code and, where it could be read, the question. */
  | {
      readonly kind: 'refusal';
      readonly rcode: Rcode;
      readonly why: string;
      readonly id: number;
      readonly opcode: number;
      readonly recursionDesired: boolean;
      readonly question: Question | undefined;
      readonly edns: boolean;
    };

/** One record of an answer. `A` is dotted decimal, `PTR` a name without the root's dot. */
export type AnswerRecord =
  | { readonly type: 'A'; readonly address: string; readonly ttl: number }
  | { readonly type: 'PTR'; readonly name: string; readonly ttl: number };

export interface Answer {
  readonly rcode: Rcode;
  readonly records: readonly AnswerRecord[];
  /** Sent only to those who speak EDNS. */
  readonly extended?: { readonly code: number; readonly text: string };
}
