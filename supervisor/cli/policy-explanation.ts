import { judgeAddress, parseIp } from '../policy/addresses.ts';
import type { PolicyGeneration } from '../policy/compilation.ts';
import { decide } from '../policy/decision.ts';
import type { Grant } from '../policy/intent.ts';
import type { BodyFacts } from '../policy/request.ts';
import { decideRequest } from '../policy/request-decision.ts';
import { admitTarget } from '../policy/target.ts';

/** What `explain` is asked. */
export interface Question {
  readonly host: string;
  readonly port: number;
  readonly binary: string;
  readonly ancestors: readonly string[];
  /** Undefined when only the connection is asked about. */
  readonly request: { readonly method: string; readonly target: string } | undefined;
  /** What the body says, when the question tells. */
  readonly body: BodyFacts | undefined;
}

/** What `explain` answers, in the order of its JSON. */
export interface Answer {
  readonly decision: 'allow' | 'deny' | 'audit';
  readonly policy: string | null;
  readonly rule: string | null;
  readonly reason: string;
}

/** Names that the supervisor answers for itself, whatever the policy says (contract.md, 7.4 and 10). */
const OWN_HOSTS: ReadonlyMap<string, number> = new Map([
  ['inference.local', 443],
  ['policy.local', 80],
]);

/** What would happen, and which rule says so. Looks nothing up: a host that is an address is judged as one. */
export function answerTo(question: Question, policy: PolicyGeneration): Answer {
  const { host, port, binary, ancestors, request } = question;
  if (OWN_HOSTS.get(host) === port)
    return {
      decision: 'allow',
      policy: null,
      rule: null,
      reason: `${host} is served by the supervisor itself`,
    };
  const decision = decide(policy, { host, port, via: 'connect' }, { pid: 0, binary, ancestors, cmdline: [] });
  if (decision.kind === 'deny')
    return {
      decision: 'deny',
      policy: decision.policy ?? null,
      rule: decision.rule ?? null,
      reason: decision.reason,
    };
  const by = { policy: decision.policy, rule: decision.rule };
  if (parseIp(host) !== undefined) {
    const verdict = judgeAddress(decision.destination, host, port);
    if (!verdict.ok) return { decision: 'deny', ...by, reason: verdict.error };
  }
  if (decision.credentials === 'refuse')
    return {
      decision: 'deny',
      ...by,
      reason: 'credentials travel to this endpoint, and nobody could look for them in its connections',
    };
  if (request === undefined) return { decision: 'allow', ...by, reason: sayConnection(decision, host) };
  return answerToRequest(decision, { ...question, request });
}

const WHERE_TO: Readonly<Record<Grant['destination']['kind'], string>> = {
  'host-gateway': 'at the address of the machine that runs the sandbox',
  'allowed-ips': 'at addresses that allowed_ips lists',
  literal: 'at that address',
  'exact-host': 'at public and internal addresses',
  'public-only': 'at public addresses',
};

function sayConnection(grant: Grant, host: string): string {
  const protocols = [
    ...new Set(grant.endpoints.filter(({ inspected }) => inspected).map(({ options }) => options.protocol)),
  ];
  const inspection =
    protocols.length > 0
      ? `; its requests are decided on one by one (${protocols.join(', ')}): name one with --method and --path`
      : grant.middlewares.length > 0
        ? '; its requests pass through a middleware'
        : '';
  return `${host} may be reached ${WHERE_TO[grant.destination.kind]}${inspection}`;
}

type RequestQuestion = Question & { readonly request: NonNullable<Question['request']> };

function answerToRequest(grant: Grant, { request, body }: RequestQuestion): Answer {
  const by = { policy: grant.policy, rule: grant.rule };
  const admitted = admitTarget(grant, request.target);
  if (!admitted.ok) return { decision: 'deny', ...by, rule: null, reason: admitted.error.reason };
  const { path, query, endpoint } = admitted.value;
  const facts = body ?? silentBody(endpoint?.options.protocol, request.method);
  const decided = decideRequest(grant, { method: request.method, path, query, body: facts });
  return {
    decision: decided.kind,
    policy: decided.policy,
    rule: decided.rule ?? null,
    reason: decided.reason,
  };
}

/** What a request holds of which only the head is told. */
function silentBody(protocol: string | undefined, method: string): BodyFacts {
  if (protocol === 'graphql')
    return {
      kind: 'malformed',
      error: 'a request to a graphql endpoint must hold an operation: tell it with --operation-type',
    };
  if (protocol === 'mcp' && method.toUpperCase() === 'GET') return { kind: 'receive-stream' };
  if (protocol === 'mcp' || protocol === 'json-rpc')
    return {
      kind: 'malformed',
      error: `a request to a ${protocol} endpoint must hold a call: tell it with --rpc-method`,
    };
  return { kind: 'none' };
}
