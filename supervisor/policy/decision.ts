import { parseIp } from './addresses.ts';
import type { CompiledEndpoint, PolicyGeneration } from './compilation.ts';
import type { CallerIdentity, Decision, Intent } from './intent.ts';

/**
 * What the policy says of one intent of one caller (contract.md, 7.4). Pure: the same generation, intent
 * and identity always give the same answer. Costs one map look-up and a walk over the policy's globs.
 */
export function decide(policy: PolicyGeneration, intent: Intent, identity: CallerIdentity): Decision {
  const { generation } = policy;
  const deny = (reason: string, rule?: string): Decision => ({
    kind: 'deny',
    generation,
    reason,
    policy: rule,
  });
  if (policy.kind === 'quarantine') return deny(policy.reason);
  if (policy.empty) return deny('the policy has no network rule');
  if (isDisguisedAddress(intent.host))
    return deny(`${intent.host} is a number in disguise: write the address in dotted-decimal form`);

  let known: CompiledEndpoint | undefined;
  let best: CompiledEndpoint | undefined;
  for (const endpoints of [policy.exact.get(intent.host) ?? [], policy.patterns])
    for (const endpoint of endpoints) {
      if (!endpoint.ports.has(intent.port) || !endpoint.matches(intent.host)) continue;
      known ??= endpoint;
      if (mayUse(endpoint, identity) && (best === undefined || endpoint.rule.name < best.rule.name))
        best = endpoint;
    }
  if (best !== undefined)
    return {
      kind: 'allow',
      policy: best.rule.name,
      generation,
      destination: best.destination,
      // Where overlapping rules differ, the one that inspects wins: never the weaker of the two.
      inspect: best.inspect || anyInspects(policy, intent),
    };
  if (known === undefined) return deny(`no rule names ${intent.host}:${intent.port}`);
  const parents =
    identity.ancestors.length === 0 ? '' : ` (started by ${identity.ancestors.slice(0, 4).join(', ')})`;
  return deny(
    `rule ${known.rule.name} names ${intent.host}:${intent.port}, but not the binary ${identity.binary}${parents}`,
    known.rule.name,
  );
}

function mayUse(endpoint: CompiledEndpoint, identity: CallerIdentity): boolean {
  return endpoint.rule.binaries.some(
    (matches) => matches(identity.binary) || identity.ancestors.some((ancestor) => matches(ancestor)),
  );
}

function anyInspects(policy: PolicyGeneration & { readonly kind: 'active' }, intent: Intent): boolean {
  const covers = (endpoint: CompiledEndpoint): boolean =>
    endpoint.inspect && endpoint.ports.has(intent.port) && endpoint.matches(intent.host);
  return (policy.exact.get(intent.host) ?? []).some(covers) || policy.patterns.some(covers);
}

/** Spellings that inet_aton(3) takes for an address and we do not: octal, hexadecimal, short, dotless. */
function isDisguisedAddress(host: string): boolean {
  if (parseIp(host) !== undefined) return false;
  const last = host.split('.').at(-1) ?? '';
  return /^(\d+|0x[0-9a-f]*)$/i.test(last);
}
