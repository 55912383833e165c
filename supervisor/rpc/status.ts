/** The gRPC status codes (grpc/doc/statuscodes.md); the generated wire code has none. */
export const STATUS = {
  OK: 0,
  CANCELLED: 1,
  UNKNOWN: 2,
  INVALID_ARGUMENT: 3,
  DEADLINE_EXCEEDED: 4,
  NOT_FOUND: 5,
  ALREADY_EXISTS: 6,
  PERMISSION_DENIED: 7,
  RESOURCE_EXHAUSTED: 8,
  FAILED_PRECONDITION: 9,
  ABORTED: 10,
  OUT_OF_RANGE: 11,
  UNIMPLEMENTED: 12,
  INTERNAL: 13,
  UNAVAILABLE: 14,
  DATA_LOSS: 15,
  UNAUTHENTICATED: 16,
} as const;

const NAMES: ReadonlyMap<number, string> = new Map(
  Object.entries(STATUS).map(([name, code]) => [code, name]),
);
const MAX_DETAILS = 300;

/** A call that did not end with OK. */
export class CallError extends Error {
  readonly code: number;
  /** The gateway's words, or ours where it said none. Never holds metadata. */
  readonly details: string;
  /** The least time that the gateway asks to be left alone, in milliseconds; 0 when it asks nothing. */
  readonly retryAfterMs: number;

  constructor(code: number, details: string, retryAfterMs = 0) {
    super(`${NAMES.get(code) ?? code}: ${details.slice(0, MAX_DETAILS)}`);
    this.name = 'CallError';
    this.code = code;
    this.details = details;
    this.retryAfterMs = retryAfterMs;
  }
}

const TRANSIENT: ReadonlySet<number> = new Set([
  STATUS.UNAVAILABLE,
  STATUS.DEADLINE_EXCEEDED,
  STATUS.RESOURCE_EXHAUSTED,
  STATUS.ABORTED,
  STATUS.INTERNAL,
  STATUS.UNKNOWN,
]);

/** The gRPC status code of a failure, or UNKNOWN. */
export function codeOf(error: unknown): number {
  return error instanceof Error && 'code' in error && typeof error.code === 'number'
    ? error.code
    : STATUS.UNKNOWN;
}

export const isTransient = (error: unknown): boolean => TRANSIENT.has(codeOf(error));
export const isRefusal = (error: unknown): boolean => codeOf(error) === STATUS.UNAUTHENTICATED;

/** How long the gateway asked to be left alone, in milliseconds; 0 when it asked nothing. */
export const retryAfterOf = (error: unknown): number => (error instanceof CallError ? error.retryAfterMs : 0);

/** What may be said of a failed call: the status and the gateway's words, never metadata. */
export function describeCallError(error: unknown): string {
  if (!(error instanceof Error)) return 'unknown failure';
  return 'details' in error && typeof error.details === 'string' && error.details !== ''
    ? `${NAMES.get(codeOf(error)) ?? codeOf(error)}: ${error.details.slice(0, MAX_DETAILS)}`
    : error.message.slice(0, MAX_DETAILS);
}
