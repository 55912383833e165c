import type { PolicyChunk } from '../../../proto/generated/openshell/v1/openshell.ts';

/** Of what a reviewer wrote, characters (contract.md, 10). */
const MAX_REVIEW = 200;

/** What an agent is told of its proposal (contract.md, 10). */
export function chunkState(
  chunk: PolicyChunk,
  more: { readonly policyReloaded?: boolean; readonly timedOut?: boolean },
): Readonly<Record<string, unknown>> {
  return {
    chunk_id: chunk.id,
    status: chunk.status,
    rule_name: chunk.ruleName,
    binary: chunk.binary,
    rejection_reason: chunk.rejectionReason,
    validation_result: chunk.validationResult,
    application_error: chunk.applicationError,
    review_token: chunk.reviewToken,
    current_effective_policy_hash: chunk.currentEffectivePolicyHash,
    candidate_effective_policy_hash: chunk.candidateEffectivePolicyHash,
    ...(more.timedOut === true ? { timed_out: true } : {}),
    ...(more.policyReloaded === undefined ? {} : { policy_reloaded: more.policyReloaded }),
  };
}

/** What a reviewer wrote, as it may stand in a log. */
export const reviewText = (text: string): string => text.replaceAll(/[^\P{C}]/gu, '').slice(0, MAX_REVIEW);
