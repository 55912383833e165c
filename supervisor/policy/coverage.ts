import type { Endpoint, NetworkRule, OperationPattern, PolicyDocument } from './document.ts';

/**
 * Whether a policy holds what a rule asks for: each of its endpoints, at each port, for each of its binaries, with its
 * protocol and its allow rules. The rules that hold it may have other names.
 */
export function coversRule({ networkPolicies }: PolicyDocument, rule: NetworkRule): boolean {
  const rules = Object.values(networkPolicies);
  return rule.endpoints.every((endpoint) =>
    endpoint.ports.every((port) =>
      rule.binaries.every(({ path }) =>
        rules.some(
          ({ endpoints, binaries }) =>
            binaries.some((binary) => binary.path === path) &&
            endpoints.some((held) => holds(held, endpoint, port)),
        ),
      ),
    ),
  );
}

function holds(held: Endpoint, wanted: Endpoint, port: number): boolean {
  const sameHost = held.host.toLowerCase() === wanted.host.toLowerCase();
  const sameAccess = wanted.access === undefined || held.access === wanted.access;
  return (
    sameHost &&
    held.ports.includes(port) &&
    held.protocol === wanted.protocol &&
    held.path === wanted.path &&
    sameAccess &&
    wanted.rules.every((rule) => held.rules.some((other) => keyOf(other) === keyOf(rule)))
  );
}

const keyOf = (pattern: OperationPattern): string => JSON.stringify(pattern, Object.keys(pattern).sort());
