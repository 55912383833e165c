import { parseIp } from './addresses.ts';
import type { PolicyGeneration } from './compilation.ts';

/**
 * The ports at which a policy's endpoints name this host, exactly or by a glob, whoever may call; none for an address.
 * Endpoints without a host are left out: they would make every name exist.
 */
export function reachablePorts(policy: PolicyGeneration, host: string): readonly number[] {
  if (policy.kind === 'quarantine' || policy.empty || parseIp(host) !== undefined) return [];
  return policy.endpoints.portsOf(host);
}
