import type { RequestDecision } from '../../policy/request.ts';
import type { ConnectionContext, LocalAnswer, ProposalGuide } from './connection-context.ts';

/** The answer to a request that policy denies (contract.md, 7.8). */
export function denialAnswer(
  decision: Pick<RequestDecision, 'policy' | 'reason'>,
  request: { readonly method: string; readonly path: string },
  { intent, identity, proposals }: Pick<ConnectionContext, 'intent' | 'identity' | 'proposals'>,
): LocalAnswer {
  const { method, path } = request;
  const place = { host: intent.host, port: intent.port, binary: identity.binary };
  const guide = proposals?.();
  return {
    status: 403,
    headers: [['X-OpenShell-Policy', fieldText(decision.policy)]],
    body: {
      error: 'policy_denied',
      policy: decision.policy,
      rule: `${method} ${path}`,
      detail: decision.reason,
      layer: 'l7',
      protocol: 'rest',
      method,
      path,
      ...place,
      rule_missing: { type: 'rest_allow', layer: 'l7', method, path, ...place },
      next_steps: guide === undefined ? [] : nextSteps(guide),
      ...(guide === undefined
        ? {}
        : {
            agent_guidance:
              'The policy denies this request, and a retry changes nothing. Propose the narrowest rule that the task needs at http://policy.local/v1/proposals, then wait for the decision.',
          }),
    },
  };
}

const nextSteps = ({ skillPath }: ProposalGuide) => [
  skillPath === undefined
    ? { action: 'read_skill', method: 'GET', url: 'http://policy.local/v1/skill' }
    : { action: 'read_skill', path: skillPath },
  { action: 'inspect_policy', method: 'GET', url: 'http://policy.local/v1/policy/current' },
  { action: 'inspect_recent_denials', method: 'GET', url: 'http://policy.local/v1/denials?last=10' },
  {
    action: 'submit_proposal',
    method: 'POST',
    url: 'http://policy.local/v1/proposals',
    body_type: 'PolicyMergeOperation',
  },
];

/** The answer when Host or :authority names another place than the connection goes to. */
export const authorityMismatch = (
  authority: string | undefined,
  intent: ConnectionContext['intent'],
): LocalAnswer => ({
  status: 403,
  body: {
    error: 'request_authority_mismatch',
    message: `the request names ${authority?.slice(0, 300) ?? 'no host'}, but the connection goes to ${intent.host}:${intent.port}`,
  },
});

/** What may stand in a field value: names of policies are the author's. */
const fieldText = (text: string): string => text.replace(/[^\x20-\x7e]/g, '?').slice(0, 256);
