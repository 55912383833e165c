import { type NetworkPolicyRule, SandboxPolicy } from '../proto/generated/openshell/sandbox/v1/sandbox.ts';
import { type PolicyChunk, SubmitPolicyAnalysisRequest } from '../proto/generated/openshell/v1/openshell.ts';
import type { Clock } from './clock.ts';
import type { DenialLines } from './egress/policy-local/denial-lines.ts';
import { type GatewayFailure, PolicyLocal } from './egress/policy-local/policy-local.ts';
import { SKILL } from './egress/policy-local/skill.ts';
import type { GatewayLink } from './gateway/link.ts';
import type { Logging } from './observability/log.ts';
import { coversRule } from './policy/coverage.ts';
import { policyFromWire } from './policy/wire.ts';
import { policyToYaml } from './policy/yaml-writer.ts';
import type { PolicyInForce } from './policy-in-force.ts';
import { err, ok, type Result } from './result.ts';

export interface ProposalsOptions {
  readonly clock: Clock;
  readonly logging: Logging;
  readonly policy: PolicyInForce;
  readonly denials: DenialLines;
  /** Undefined without a gateway: then there is nobody to propose to. */
  readonly link: GatewayLink | undefined;
  readonly sandboxName: string;
  /** As the gateway's configuration says; empty while it has not. */
  readonly workspace: () => string;
  readonly enabled: () => boolean;
}

/** Makes policy.local of the gateway's calls and the policy in force. */
export function createPolicyLocal(options: ProposalsOptions): PolicyLocal {
  const { clock, logging, policy, denials, link, sandboxName: name, workspace, enabled } = options;
  /** What a call about this sandbox takes, or why it cannot be made. */
  const addressed = (): Result<
    { readonly link: GatewayLink; readonly name: string; readonly workspace: string },
    GatewayFailure
  > => {
    if (link === undefined) return failure('gateway_unavailable', 'this sandbox has no gateway');
    if (name === '') return failure('sandbox_name_unavailable', 'the name of this sandbox is not known');
    const known = workspace();
    if (known === '')
      return failure('workspace_unavailable', 'the gateway has not said yet where this sandbox belongs');
    return ok({ link, name, workspace: known });
  };
  return new PolicyLocal({
    clock,
    enabled,
    policyYaml: () => policyToYaml(policy.document),
    denials,
    skill: SKILL,
    covers: ({ proposedRule }) => proposedRule !== undefined && isInForce(policy, proposedRule),
    async submit(proposedChunks: PolicyChunk[]) {
      const to = addressed();
      if (!to.ok) return to;
      const sent = await to.value.link.submitProposals(
        SubmitPolicyAnalysisRequest.fromPartial({
          name: to.value.name,
          workspace: to.value.workspace,
          analysisMode: 'agent_authored',
          proposedChunks,
        }),
      );
      return sent.ok ? sent : failure(codeOf(sent.error, 'proposal_submit_failed'), sent.error.message);
    },
    async chunks() {
      const to = addressed();
      if (!to.ok) return to;
      const drafts = await to.value.link.draftPolicy(to.value.name, to.value.workspace);
      return drafts.ok
        ? ok(drafts.value.chunks)
        : failure(codeOf(drafts.error, 'gateway_lookup_failed'), drafts.error.message);
    },
    observe: ({ state, message }) =>
      logging.ocsf({
        class: 'config',
        state,
        severity: 'info',
        message,
        version: undefined,
        hash: undefined,
      }),
  });
}

const failure = (code: GatewayFailure['code'], detail: string): Result<never, GatewayFailure> =>
  err({ code, detail });

const codeOf = (
  { away }: { readonly away: boolean },
  otherwise: GatewayFailure['code'],
): GatewayFailure['code'] => (away ? 'gateway_connect_failed' : otherwise);

/** Whether the policy that decides now holds the rule. */
function isInForce(policy: PolicyInForce, rule: NetworkPolicyRule): boolean {
  if (policy.closed !== undefined) return false;
  const read = policyFromWire(SandboxPolicy.fromPartial({ version: 1, networkPolicies: { rule } }));
  const wanted = read.ok ? read.value.networkPolicies['rule'] : undefined;
  return wanted !== undefined && coversRule(policy.document, wanted);
}
