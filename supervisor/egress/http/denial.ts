import type { CallerIdentity, Intent } from '../../policy/intent.ts';
import type { RequestDecision } from '../../policy/request.ts';
import type { LocalAnswer } from './connection-context.ts';

/** The answer to a request that policy denies (contract.md, 7.8). */
export function denialAnswer(
  decision: Pick<RequestDecision, 'policy' | 'reason'>,
  request: { readonly method: string; readonly path: string },
  intent: Intent,
  identity: CallerIdentity,
): LocalAnswer {
  const { method, path } = request;
  const place = { host: intent.host, port: intent.port, binary: identity.binary };
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
      next_steps: [],
    },
  };
}

/** The answer when Host or :authority names another place than the connection goes to. */
export const authorityMismatch = (authority: string | undefined, intent: Intent): LocalAnswer => ({
  status: 403,
  body: {
    error: 'request_authority_mismatch',
    message: `the request names ${authority?.slice(0, 300) ?? 'no host'}, but the connection goes to ${intent.host}:${intent.port}`,
  },
});

/** What may stand in a field value: names of policies are the author's. */
const fieldText = (text: string): string => text.replace(/[^\x20-\x7e]/g, '?').slice(0, 256);
