/** What came of asking one middleware once. Holds nothing of the request but its method and path. */
export interface Evaluation {
  /** What the policy calls it. */
  readonly middleware: string;
  /** The service, or the built-in. */
  readonly service: string;
  readonly operation: 'http' | 'preflight' | 'message';
  readonly outcome: EvaluationOutcome;
  /** A code of ours for a failure, or the one that the service gave for a denial; never its words. */
  readonly code: string | undefined;
  readonly findings: readonly ObservedFinding[];
  readonly method: string;
  readonly path: string;
}

export type EvaluationOutcome =
  | 'allowed'
  /** Allowed, with another body, text or head. */
  | 'changed'
  | 'denied'
  /** It declined to look at a WebSocket. */
  | 'skipped'
  /** It failed, and on_error lets the request pass without it. */
  | 'passed-over'
  /** It failed, and on_error refuses the request. */
  | 'failed'
  /** It does not look at this kind of message, which passes. */
  | 'not-covered';

export interface ObservedFinding {
  readonly type: string;
  readonly label: string;
  readonly count: number;
  readonly severity: 'low' | 'medium' | 'high';
}
