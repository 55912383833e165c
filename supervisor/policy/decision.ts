import { disguisedAddress, parseIp } from './addresses.ts';
import { namesCaller } from './binary-pattern.ts';
import type { CompiledEndpoint, CompiledMiddleware, PolicyGeneration } from './compilation.ts';
import type { EndpointGroup } from './endpoint-index.ts';
import type { CallerIdentity, CredentialGuard, Decision, Denial, DestinationRule, Intent } from './intent.ts';

type Active = PolicyGeneration & { readonly kind: 'active' };

/**
 * What the policy says of one connection of one caller (contract.md, 7.4). Pure: the same generation,
 * intent and identity always give the same answer. Costs one look-up for each label of the host.
 */
export function decide(policy: PolicyGeneration, intent: Intent, identity: CallerIdentity): Decision {
  if (policy.kind === 'quarantine') return denial(policy, policy.reason);
  if (policy.empty) return denial(policy, 'the policy has no network rule');
  const disguised = disguisedAddress(intent.host);
  if (disguised !== undefined)
    return denial(
      policy,
      `${intent.host} is a number in disguise (${disguised}): write the address in dotted-decimal form`,
    );

  const granted: CompiledEndpoint[] = [];
  forEachGroup(policy, intent, (group, covers) => {
    const from = granted.length;
    if (policy.relaxedIdentity) granted.push(...group.all);
    else group.collect(identity, granted);
    if (covers !== undefined) keepFrom(granted, from, covers);
  });
  if (granted.length === 0) return refuse(policy, intent, identity);
  if (granted.length > 1) granted.sort(byPolicy);
  return grant(policy, intent, identity, granted);
}

type Covers = (endpoint: CompiledEndpoint) => boolean;

/** Calls back with the groups that may cover an intent, and what tells which of their endpoints do. */
function forEachGroup(
  policy: Active,
  { host, port }: Intent,
  visit: (group: EndpointGroup, covers: Covers | undefined) => void,
): void {
  const exact = policy.endpoints.exact(host, port);
  if (exact !== undefined) visit(exact, undefined);
  if (isAddress(host)) {
    // Wildcards stand for labels of names, never for parts of an address.
    const hostless = policy.endpoints.hostless(port);
    if (hostless !== undefined) visit(hostless, (endpoint) => endpoint.options.host === '');
  } else
    policy.endpoints.forEachWild(host, port, (group) => visit(group, (endpoint) => endpoint.matches(host)));
}

/** Drops, in place, what does not pass from an index on. */
function keepFrom(list: CompiledEndpoint[], from: number, keep: Covers): void {
  let kept = from;
  for (let at = from; at < list.length; at++) {
    const endpoint = list[at];
    if (endpoint !== undefined && keep(endpoint)) list[kept++] = endpoint;
  }
  list.length = kept;
}

const byPolicy = (a: CompiledEndpoint, b: CompiledEndpoint): number =>
  a.policy < b.policy ? -1 : a.policy > b.policy ? 1 : 0;

/** Told by the last character first: most names end in a letter. */
function isAddress(host: string): boolean {
  const last = host.charCodeAt(host.length - 1);
  return ((last >= 48 && last <= 57) || host.includes(':')) && parseIp(host) !== undefined;
}

const NO_MIDDLEWARES: readonly CompiledMiddleware[] = [];

function grant(
  policy: Active,
  intent: Intent,
  identity: CallerIdentity,
  endpoints: readonly CompiledEndpoint[],
): Decision {
  const [first] = endpoints;
  if (first === undefined) return denial(policy, 'no endpoint');
  const middlewares =
    policy.middlewares.length === 0
      ? NO_MIDDLEWARES
      : policy.middlewares.filter(({ matches }) => matches(intent.host));
  return {
    kind: 'allow',
    policy: first.policy,
    rule: first.place,
    generation: policy.generation,
    destination: destinationOf(policy, intent, identity, endpoints),
    tls: first.options.tls,
    inspect: middlewares.length > 0 || endpoints.some(({ inspected }) => inspected),
    endpoints,
    middlewares,
    credentials: guardOf(endpoints),
  };
}

/** The first mode of contract.md, 7.6 that applies. */
function destinationOf(
  policy: Active,
  intent: Intent,
  identity: CallerIdentity,
  endpoints: readonly CompiledEndpoint[],
): DestinationRule {
  const gateway = policy.hostGateways.get(intent.host);
  if (gateway !== undefined) return { kind: 'host-gateway', address: gateway };
  let exact: DestinationRule | undefined;
  for (const endpoint of endpoints) {
    const { destination, rule } = endpoint;
    if (destination.kind === 'allowed-ips') return destination;
    if (destination.kind === 'literal') exact = destination;
    else if (destination.kind === 'exact-host' && exact === undefined)
      if (policy.relaxedIdentity || namesCaller(rule.declaredBinaries, identity)) exact = destination;
  }
  return exact ?? PUBLIC_ONLY;
}

const PUBLIC_ONLY: DestinationRule = { kind: 'public-only' };

function guardOf(endpoints: readonly CompiledEndpoint[]): CredentialGuard {
  let guard: CredentialGuard = 'free';
  for (const { options, inspected } of endpoints) {
    if (!options.providerCredentialed || options.allowUninspectedCredentials) continue;
    if (!inspected || options.tls === 'skip') return 'refuse';
    guard = 'inspect-only';
  }
  return guard;
}

const denial = (policy: PolicyGeneration, reason: string, endpoint?: CompiledEndpoint): Denial => ({
  kind: 'deny',
  generation: policy.generation,
  reason,
  policy: endpoint?.policy,
  rule: endpoint?.place,
});

/** How many things of a kind a reason lists: it is for a person to read. */
const SHOWN = 4;

function refuse(policy: Active, intent: Intent, identity: CallerIdentity): Denial {
  const named: CompiledEndpoint[] = [];
  forEachGroup(policy, intent, (group, covers) => {
    for (const endpoint of group.all) if (covers?.(endpoint) ?? true) named.push(endpoint);
  });
  const where = `${intent.host}:${intent.port}`;
  const [first] = named.sort(byPolicy);
  if (first === undefined) return denial(policy, `no rule names ${where}`);
  const rules = [...new Set(named.map((endpoint) => endpoint.policy))].sort();
  const which = rules.length === 1 ? `rule ${first.policy} names` : `rules ${listed(rules)} name`;
  const parents = identity.ancestors.length === 0 ? '' : ` (started by ${listed(identity.ancestors)})`;
  // Arguments may be secrets; the paths among them tell what an interpreter runs.
  const paths = identity.cmdline.filter((word) => word.startsWith('/') && word !== identity.binary);
  const command = paths.length === 0 ? '' : `, which runs ${listed(paths)}`;
  return denial(
    policy,
    `${which} ${where}, but not the binary ${identity.binary}${parents}${command}; a rule must name the file itself, not a symbolic link to it`,
    first,
  );
}

const listed = (words: readonly string[]): string =>
  words.slice(0, SHOWN).join(', ') + (words.length > SHOWN ? ', …' : '');
