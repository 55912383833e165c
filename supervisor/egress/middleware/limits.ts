/** What a middleware may be sent and may answer (contract.md, 13). Bytes and milliseconds. */
export const MAX_PAYLOAD_BYTES = 4 << 20;
export const MAX_CONFIG_BYTES = 64 << 10;
export const MAX_CONTEXT_BYTES = 4 << 10;
export const MAX_TARGET_BYTES = 32 << 10;
export const MAX_FIELDS = 128;
export const MAX_FIELD_BYTES = 64 << 10;
export const MAX_MUTATIONS = 64;
/** Of the names and values in them. */
export const MAX_MUTATION_BYTES = 32 << 10;
export const MAX_FINDINGS = 32;
export const MAX_FINDING_BYTES = 4 << 10;
export const MAX_METADATA_ENTRIES = 64;
export const MAX_METADATA_BYTES = 32 << 10;
export const MAX_REASON_BYTES = 4 << 10;
export const MAX_SUBPROTOCOLS = 32;
export const MAX_SUBPROTOCOL_BYTES = 4 << 10;
/** One answer: a payload, and around it what else may be in it. */
export const MAX_ANSWER_BYTES = MAX_PAYLOAD_BYTES + (512 << 10);

export const DEFAULT_TIMEOUT_MS = 500;
const MIN_TIMEOUT_MS = 10;
const MAX_TIMEOUT_MS = 30_000;
export const CHAIN_MS = 30_000;
export const PREFLIGHT_MS = 1_000;

/** Evaluations at once, and those that wait for their turn; sessions of WebSockets. */
export const MAX_ACTIVE = 32;
export const MAX_WAITING = 64;
export const MAX_SESSIONS = 32;

/** The milliseconds of `<int>ms` or `<int>s` between 10 ms and 30 s; undefined when it is something else. */
export function parseTimeout(text: string): number | undefined {
  const match = /^(\d{1,6})(ms|s)$/.exec(text.trim());
  if (match === null) return undefined;
  const ms = Number(match[1]) * (match[2] === 's' ? 1_000 : 1);
  return ms >= MIN_TIMEOUT_MS && ms <= MAX_TIMEOUT_MS ? ms : undefined;
}
