import {
  Decision,
  Finding,
  HeaderMutation,
  type HttpRequestResult,
  type WebSocketMessageResult,
  type WebSocketPreflightDecision,
} from '../../../proto/generated/openshell/middleware/v1/middleware.ts';
import { err, ok, type Result } from '../../result.ts';
import type { Field } from '../http/fields.ts';
import type { ObservedFinding } from './evaluation.ts';
import { mutated } from './headers.ts';
import {
  MAX_FIELD_BYTES,
  MAX_FINDING_BYTES,
  MAX_FINDINGS,
  MAX_METADATA_BYTES,
  MAX_METADATA_ENTRIES,
  MAX_REASON_BYTES,
} from './limits.ts';

/** Codes that may be told to the workload. */
const REASON_CODE = /^[a-z][a-z0-9_]{0,63}$/;

/** What an answer says, once it is known to keep the bounds. */
export interface Said {
  readonly decision: 'allow' | 'deny';
  /** Only of a denial, and only when the service gave one. */
  readonly code: string | undefined;
  readonly findings: readonly ObservedFinding[];
}

type Envelope = Pick<
  HttpRequestResult | WebSocketMessageResult | WebSocketPreflightDecision,
  'reason' | 'reasonCode' | 'findings' | 'metadata'
>;

/** Checks the parts that every answer has. The error is a code of ours. */
export function checkEnvelope({ reason, reasonCode, findings, metadata }: Envelope): Result<void, string> {
  if (Buffer.byteLength(reason) > MAX_REASON_BYTES) return err('response_reason_over_capacity');
  if (reasonCode !== '' && !REASON_CODE.test(reasonCode)) return err('response_reason_code_invalid');
  if (findings.length > MAX_FINDINGS) return err('response_finding_count_over_capacity');
  if (findings.some((finding) => Finding.encode(finding).finish().length > MAX_FINDING_BYTES))
    return err('response_finding_over_capacity');
  const entries = Object.entries(metadata);
  const bytes = entries.reduce(
    (sum, [key, value]) => sum + Buffer.byteLength(key) + Buffer.byteLength(value),
    0,
  );
  if (entries.length > MAX_METADATA_ENTRIES || bytes > MAX_METADATA_BYTES)
    return err('response_metadata_over_capacity');
  return ok(undefined);
}

/** What is told of findings: of a service only how many and how grave, in words of ours (contract.md, 1.9). */
export const observedFindings = (
  findings: readonly Finding[],
  service: string,
  builtIn: boolean,
): readonly ObservedFinding[] =>
  findings.map(({ type, label, count, severity }) => ({
    type: builtIn ? type : `${service}.finding`,
    label: builtIn ? label : 'finding of a middleware',
    count,
    severity: severity === 'low' || severity === 'high' ? severity : 'medium',
  }));

/** Reads a decision; what is neither ALLOW nor DENY is a failure. */
export function readDecision(
  result: Envelope & { readonly decision: Decision },
  service: string,
  builtIn: boolean,
): Result<Said, string> {
  const envelope = checkEnvelope(result);
  if (!envelope.ok) return envelope;
  const { decision, reasonCode } = result;
  if (decision !== Decision.DECISION_ALLOW && decision !== Decision.DECISION_DENY)
    return err('invalid_response_decision');
  const denies = decision === Decision.DECISION_DENY;
  return ok({
    decision: denies ? 'deny' : 'allow',
    code: denies && reasonCode !== '' ? reasonCode : undefined,
    findings: observedFindings(result.findings, service, builtIn),
  });
}

/** What an answer makes of a request that it allows. */
export interface Changes {
  readonly fields: readonly Field[];
  /** Undefined when it leaves the body as it is. */
  readonly body: Buffer | undefined;
}

/** Reads what an answer changes: all of it, or none and a code that says why. */
export function readChanges(
  result: HttpRequestResult,
  fields: readonly Field[],
  nominated: readonly string[],
  maxPayloadBytes: number,
): Result<Changes, string> {
  const { hasBody, body, headerMutations } = result;
  if (hasBody && body.length > maxPayloadBytes) return err('response_body_over_capacity');
  const bytes = headerMutations.reduce((sum, one) => sum + HeaderMutation.encode(one).finish().length, 0);
  if (bytes > MAX_FIELD_BYTES) return err('header_mutation_bytes_over_capacity');
  if (headerMutations.length === 0) return ok({ fields, body: hasBody ? body : undefined });
  const changed = mutated(fields, nominated, headerMutations);
  return changed.ok ? ok({ fields: changed.value, body: hasBody ? body : undefined }) : changed;
}
