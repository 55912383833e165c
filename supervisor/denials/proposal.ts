import { NetworkPolicyRule } from '../../proto/generated/openshell/sandbox/v1/sandbox.ts';
import { PolicyChunk } from '../../proto/generated/openshell/v1/openshell.ts';
import { classifyAddress, parseIp } from '../policy/addresses.ts';
import type { DenialGroup } from './denial-table.ts';

/** Ports whose protocol everybody knows: a denial there is hardly an accident. */
const WELL_KNOWN = new Set([22, 53, 80, 443, 3306, 5432, 6379, 8080, 8443]);
const MAX_HITS = 100;

/**
 * The rule that would have allowed what was denied, for a person to look at; undefined for a place that no rule can
 * allow. Confidence by contract.md, 11.
 */
export function proposeRule(group: DenialGroup): PolicyChunk | undefined {
  const { host, port, binary, stage, count } = group;
  if (binary === '' || isAlwaysBlocked(host)) return undefined;
  const ruleName = `allow_${host.replaceAll(/[^A-Za-z0-9]/g, '_')}_${port}`;
  const l7 = group.requests.length > 0;
  return PolicyChunk.fromPartial({
    status: 'pending',
    stage: 'mechanistic',
    ruleName,
    binary,
    proposedRule: NetworkPolicyRule.fromPartial({
      name: ruleName,
      endpoints: [
        {
          host,
          port,
          advisorProposed: true,
          ...(l7
            ? {
                protocol: 'rest',
                enforcement: 'enforce',
                rules: group.requests.map(({ method, path }) => ({ allow: { method, path } })),
              }
            : {}),
        },
      ],
      binaries: [{ path: binary }],
    }),
    rationale: `${binary} was denied ${host}:${port} ${count} times (${stage}): ${group.reason}`,
    securityNotes: stage === 'ssrf' ? 'the address of the host is not a public one' : '',
    confidence: confidence(group),
    hitCount: Math.min(count, MAX_HITS),
    firstSeenMs: BigInt(Math.trunc(group.firstSeen)),
    lastSeenMs: BigInt(Math.trunc(group.lastSeen)),
    createdAtMs: BigInt(Math.trunc(group.lastSeen)),
  });
}

export function confidence({ count, port, stage }: Pick<DenialGroup, 'count' | 'port' | 'stage'>): number {
  let value = 0.5;
  if (count >= 10) value += 0.2;
  else if (count >= 3) value += 0.1;
  if (WELL_KNOWN.has(port)) value += 0.15;
  if (stage === 'ssrf') value -= 0.2;
  return Math.min(0.95, Math.max(0.1, Math.round(value * 100) / 100));
}

function isAlwaysBlocked(host: string): boolean {
  const name = host.toLowerCase();
  const address = parseIp(name);
  return (
    name === 'localhost' ||
    name.endsWith('.localhost') ||
    (address !== undefined && classifyAddress(address) === 'blocked')
  );
}
