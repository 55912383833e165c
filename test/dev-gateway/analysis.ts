import type {
  PolicyChunk,
  SubmitPolicyAnalysisRequest,
} from '../../proto/generated/openshell/v1/openshell.ts';
import type { AnalysisView, DenialView, ProposalView } from './state.ts';

/** What the gateway keeps of a submission: a proposal without a name or a rule of its own is turned away (contract.md, 1.6). */
export function readAnalysis(sandboxId: string, request: SubmitPolicyAnalysisRequest): AnalysisView {
  const judged = request.proposedChunks.map((chunk) => ({ chunk, fault: faultOf(chunk) }));
  return {
    sandboxId,
    name: request.name,
    workspace: request.workspace,
    mode: request.analysisMode,
    summaries: request.summaries.map(
      (summary): DenialView => ({
        host: summary.host,
        port: summary.port,
        binary: summary.binary,
        binarySha256: summary.binarySha256,
        stage: summary.denialStage,
        reason: summary.denyReason,
        count: summary.count,
        suppressedCount: summary.suppressedCount,
        totalCount: summary.totalCount,
        l7InspectionActive: summary.l7InspectionActive,
        commandLines: summary.sampleCmdlines,
        requests: summary.l7RequestSamples,
      }),
    ),
    proposals: judged.flatMap(({ chunk }): ProposalView[] =>
      chunk.proposedRule === undefined || faultOf(chunk) !== undefined
        ? []
        : [
            {
              ruleName: chunk.ruleName,
              binary: chunk.binary,
              stage: chunk.stage,
              confidence: Math.min(1, Math.max(0, chunk.confidence)),
              hitCount: Math.min(100, Math.max(1, chunk.hitCount)),
              rationale: chunk.rationale,
              rule: chunk.proposedRule,
            },
          ],
    ),
    rejections: judged.flatMap(({ fault }) => (fault === undefined ? [] : [fault])),
    activity: request.networkActivitySummaries.map((summary) => ({
      connections: summary.networkActivityCount,
      denied: summary.deniedActionCount,
      groups: Object.fromEntries(
        summary.denialsByGroup.map(({ denyGroup, deniedCount }) => [denyGroup, deniedCount]),
      ),
    })),
  };
}

/** The proposals that are not turned away. */
export const acceptable = (chunks: readonly PolicyChunk[]): readonly PolicyChunk[] =>
  chunks.filter((chunk) => faultOf(chunk) === undefined);

function faultOf({ ruleName, proposedRule }: PolicyChunk): string | undefined {
  if (ruleName === '') return 'a proposal has no rule_name';
  if (ruleName.startsWith('_provider_')) return `${ruleName}: the prefix belongs to the gateway`;
  return proposedRule === undefined ? `${ruleName}: no proposed_rule` : undefined;
}
