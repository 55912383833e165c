import type { SandboxPolicy } from '../../proto/generated/openshell/sandbox/v1/sandbox.ts';
import { describeFault } from '../../supervisor/policy/fault.ts';
import { policyToWire } from '../../supervisor/policy/wire.ts';
import { parsePolicyYaml } from '../../supervisor/policy/yaml.ts';
import { err, ok, type Result } from '../../supervisor/result.ts';

/**
 * A policy in YAML (or JSON, which YAML contains) as the wire carries it. What does not validate is
 * refused, with one line a fault.
 */
export function policyFromYaml(source: string): Result<SandboxPolicy, string> {
  const parsed = parsePolicyYaml(source);
  return parsed.ok ? ok(policyToWire(parsed.value)) : err(parsed.error.map(describeFault).join('\n'));
}
