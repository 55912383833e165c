import { NetworkPolicyRule } from '../../proto/generated/openshell/sandbox/v1/sandbox.ts';
import { PolicyChunk } from '../../proto/generated/openshell/v1/openshell.ts';
import { ruleNameOf } from '../policy/rule-name.ts';
import type { DenialGroup } from './denial-table.ts';
import { isAlwaysBlocked, isInternal } from './destination.ts';

/** Ports whose service everybody knows, as upstream counts them: a denial there is hardly an accident. */
const WELL_KNOWN: ReadonlySet<number> = new Set([
  53, 80, 443, 587, 993, 995, 2181, 3306, 5432, 5672, 6379, 6443, 8080, 8443, 9092, 9200, 11211, 27017,
]);
const DATA_STORES: ReadonlySet<number> = new Set([3306, 5432, 5672, 6379, 9200, 11211, 27017]);
const EPHEMERAL = 49_152;
/** The gateway takes no more (contract.md, 1.6). */
const MAX_HITS = 100;

/**
 * The rules that would have allowed what was denied, one for each host, port and binary, the surest first, for a person to
 * look at. None for a place that no rule opens, nor for a caller that nobody knows. Confidence by contract.md, 11.
 */
export function proposeRules(groups: readonly DenialGroup[]): PolicyChunk[] {
  const places = new Map<string, DenialGroup[]>();
  for (const group of groups) {
    if (group.binary === '' || isAlwaysBlocked(group.host)) continue;
    const key = `${group.host}\0${group.port}\0${group.binary}`;
    const same = places.get(key);
    if (same === undefined) places.set(key, [group]);
    else same.push(group);
  }
  return [...places.values()]
    .flatMap((same) => proposeRule(same) ?? [])
    .sort((a, b) => b.confidence - a.confidence);
}

function proposeRule(groups: readonly DenialGroup[]): PolicyChunk | undefined {
  const [first] = groups;
  if (first === undefined) return undefined;
  const { host, port, binary } = first;
  const name = ruleNameOf(host, port);
  const hits = groups.reduce((sum, { count }) => sum + count, 0);
  const ssrf = groups.some(({ stage }) => stage === 'ssrf');
  const requests = requestRules(groups);
  const inspected =
    requests.length === 0 ? {} : { protocol: 'rest', enforcement: 'enforce', rules: requests };
  const at = BigInt(Math.trunc(Math.min(...groups.map(({ firstSeen }) => firstSeen))));
  const last = BigInt(Math.trunc(Math.max(...groups.map(({ lastSeen }) => lastSeen))));
  return PolicyChunk.fromPartial({
    status: 'pending',
    stage: first.stage,
    ruleName: name,
    binary,
    proposedRule: NetworkPolicyRule.fromPartial({
      name,
      endpoints: [{ host, port, ports: [port], advisorProposed: true, ...inspected }],
      binaries: [{ path: binary }],
    }),
    rationale: `${binary} was denied ${host}:${port}: ${first.reason}`,
    securityNotes: notes(host, port, ssrf),
    confidence: confidence(hits, port, ssrf),
    hitCount: Math.min(hits, MAX_HITS),
    firstSeenMs: at,
    lastSeenMs: last,
  });
}

/** How sure it is that somebody wants this place allowed, from 0.1 to 0.95. */
export function confidence(hits: number, port: number, ssrf: boolean): number {
  const repeated = hits >= 10 ? 20 : hits >= 3 ? 10 : 0;
  const percent = 50 + repeated + (WELL_KNOWN.has(port) ? 15 : 0) - (ssrf ? 20 : 0);
  return Math.min(95, Math.max(10, percent)) / 100;
}

function notes(host: string, port: number, ssrf: boolean): string {
  return [
    ssrf ? 'The host has an internal address: the rule works only with that address in allowed_ips.' : '',
    isInternal(host) ? 'The host is an internal address.' : '',
    port > EPHEMERAL ? 'The port is one of those that come and go.' : '',
    DATA_STORES.has(port) ? 'The port is a data store’s: think of what it may be asked.' : '',
  ]
    .filter((note) => note !== '')
    .join(' ');
}

/** Every method and path that was seen, an identifier at the end as a wildcard. */
function requestRules(groups: readonly DenialGroup[]) {
  const seen = new Map<string, { readonly allow: { readonly method: string; readonly path: string } }>();
  for (const { method, path } of groups.flatMap(({ requests }) => requests)) {
    const general = path.replace(/\/([^/]+)$/, (whole, last: string) => (isIdentifier(last) ? '/*' : whole));
    seen.set(`${method} ${general}`, { allow: { method, path: general } });
  }
  return [...seen].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, rule]) => rule);
}

/** A number, a UUID or a long hash. */
const isIdentifier = (word: string): boolean =>
  /^\d{2,}$/.test(word) ||
  /^[0-9a-f]{16,}$/i.test(word) ||
  /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(word);
