import { usage, type Values } from '../cli/flags.ts';
import type { Environment, Get } from './given.ts';

/** Where the policy comes from. */
export type PolicySource =
  | { readonly kind: 'file'; readonly path: string }
  | { readonly kind: 'gateway' }
  | { readonly kind: 'default' };

/**
 * The image's ENV reaches us too, so a policy file named by a variable counts only without a gateway:
 * otherwise a hostile image would replace the gateway's policy. A flag comes from the pod's author.
 */
export function readPolicySource(
  get: Get,
  values: Values,
  env: Environment,
  endpoint: URL | undefined,
  warnings: string[],
): PolicySource {
  const file = get('policy') ?? get('policy-data');
  if (values['policy-rules'] !== undefined) {
    if (get('policy-data') === undefined) throw usage('--policy-rules needs --policy-data');
    warnings.push('--policy-rules is not evaluated: this supervisor has the rules built in');
  }
  if (file !== undefined) return { kind: 'file', path: file };
  const named = env['OPENSHELL_POLICY_DATA'];
  if (named && endpoint === undefined) return { kind: 'file', path: named };
  if (named)
    warnings.push(
      'OPENSHELL_POLICY_DATA is ignored because a gateway is configured; use --policy to override it',
    );
  return endpoint === undefined ? { kind: 'default' } : { kind: 'gateway' };
}

/** An image's ENV must not send prompts where the gateway does not. */
export function readInferenceRoutes(
  get: Get,
  env: Environment,
  endpoint: URL | undefined,
  warnings: string[],
): string | undefined {
  const file = get('inference-routes');
  const named = env['OPENSHELL_INFERENCE_ROUTES'];
  if (file !== undefined || !named) return file;
  if (endpoint === undefined) return named;
  warnings.push(
    'OPENSHELL_INFERENCE_ROUTES is ignored because a gateway is configured; use --inference-routes to override it',
  );
  return undefined;
}
