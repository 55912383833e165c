import type { NetworkEndpoint, SandboxPolicy } from '../../proto/generated/openshell/sandbox/v1/sandbox.ts';
import { err, ok, type Result } from '../result.ts';
import {
  type Endpoint,
  INSPECTED_PROTOCOLS,
  type NetworkRule,
  type PolicyDocument,
  type PolicyFault,
} from './document.ts';
import { validatePolicy } from './validation.ts';

/**
 * Reads a policy from the wire. What the schema leaves to strings is checked here: an unknown protocol
 * or compatibility is a fault, never silently the weaker choice.
 */
export function policyFromWire(policy: SandboxPolicy): Result<PolicyDocument, readonly PolicyFault[]> {
  const faults: PolicyFault[] = [];
  const networkPolicies: Record<string, NetworkRule> = Object.create(null);
  for (const [key, rule] of Object.entries(policy.networkPolicies))
    networkPolicies[key] = {
      name: rule.name || key,
      endpoints: rule.endpoints.map((endpoint, index) =>
        endpointFrom(endpoint, `network_policies.${key}.endpoints[${index}]`, faults),
      ),
      binaries: rule.binaries.map((binary) => binary.path),
    };
  const compatibility = policy.landlock?.compatibility ?? '';
  if (!['', 'best_effort', 'hard_requirement'].includes(compatibility))
    faults.push({ path: 'landlock.compatibility', message: 'must be best_effort or hard_requirement' });
  const document: PolicyDocument = {
    version: policy.version,
    filesystem: policy.filesystem && {
      includeWorkdir: policy.filesystem.includeWorkdir,
      readOnly: policy.filesystem.readOnly,
      readWrite: policy.filesystem.readWrite,
    },
    landlock: compatibility === 'hard_requirement' ? 'hard_requirement' : 'best_effort',
    process: policy.process && {
      runAsUser: policy.process.runAsUser || undefined,
      runAsGroup: policy.process.runAsGroup || undefined,
    },
    networkPolicies,
    networkMiddlewares: Object.keys(policy.networkMiddlewares),
  };
  faults.push(...validatePolicy(document));
  return faults.length > 0 ? err(faults) : ok(document);
}

function endpointFrom(wire: NetworkEndpoint, path: string, faults: PolicyFault[]): Endpoint {
  const protocol = (['opaque', 'tcp', ...INSPECTED_PROTOCOLS] as const).find(
    (known) => known === (wire.protocol || 'opaque'),
  );
  if (protocol === undefined || wire.protocol === 'opaque')
    faults.push({
      path: `${path}.protocol`,
      message: `is ${JSON.stringify(wire.protocol)}, which this version does not know`,
    });
  if (!['', 'skip', 'terminate', 'passthrough'].includes(wire.tls))
    faults.push({
      path: `${path}.tls`,
      message: `is ${JSON.stringify(wire.tls)}, which this version does not know`,
    });
  const access = (['read-only', 'read-write', 'full'] as const).find((known) => known === wire.access);
  if (wire.access !== '' && access === undefined)
    faults.push({ path: `${path}.access`, message: 'must be read-only, read-write or full' });
  return {
    host: wire.host,
    ports: wire.ports.length > 0 ? wire.ports : wire.port === 0 ? [] : [wire.port],
    protocol: protocol ?? 'rest', // never reached by a decision: the fault refuses the whole policy
    tls: wire.tls === 'skip' ? 'skip' : 'auto',
    enforcement: wire.enforcement === 'enforce' ? 'enforce' : 'audit',
    access,
    hasRules: wire.rules.length > 0,
    hasDenyRules: wire.denyRules.length > 0,
    allowedIps: wire.allowedIps,
    path: wire.path,
    advisorProposed: wire.advisorProposed,
  };
}
