import * as v from 'valibot';
import { NetworkPolicyRule } from '../../../proto/generated/openshell/sandbox/v1/sandbox.ts';
import { PolicyChunk } from '../../../proto/generated/openshell/v1/openshell.ts';
import { ruleNameOf } from '../../policy/rule-name.ts';
import { policyFromWire } from '../../policy/wire.ts';
import { err, ok, type Result } from '../../result.ts';

/** Operations of one proposal; a person has to read them. */
const MAX_OPERATIONS = 32;
const MAX_SUMMARY = 4096;

const text = v.pipe(v.string(), v.maxLength(4096));
const port = v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(65_535));
const operation = v.object({
  method: v.optional(text, ''),
  path: v.optional(text, ''),
  command: v.optional(text, ''),
});

/** Unknown keys are ignored, as upstream does: what they would ask for is not proposed (contract.md, 10). */
const ENDPOINT = v.pipe(
  v.object({
    host: v.pipe(text, v.nonEmpty()),
    port: v.optional(port),
    ports: v.optional(v.pipe(v.array(port), v.maxLength(64)), []),
    protocol: v.optional(text, ''),
    tls: v.optional(text, ''),
    enforcement: v.optional(text, ''),
    access: v.optional(text, ''),
    rules: v.optional(v.pipe(v.array(v.object({ allow: operation })), v.maxLength(256)), []),
    deny_rules: v.optional(v.pipe(v.array(operation), v.maxLength(256)), []),
    allowed_ips: v.optional(v.pipe(v.array(text), v.maxLength(64)), []),
    allow_encoded_slash: v.optional(v.boolean(), false),
  }),
  v.check(({ port, ports }) => port !== undefined || ports.length > 0, 'needs port or ports'),
  v.check(
    ({ rules }) => rules.every(({ allow }) => !allow.path.includes('?')),
    'has a path with a query: a path is all that a rule compares',
  ),
);

const RULE = v.object({
  name: v.optional(text, ''),
  endpoints: v.pipe(v.array(ENDPOINT), v.minLength(1), v.maxLength(64)),
  binaries: v.pipe(
    v.array(v.object({ path: v.pipe(text, v.startsWith('/')) })),
    v.minLength(1),
    v.maxLength(64),
  ),
});

const PROPOSAL = v.object({
  intent_summary: v.optional(v.pipe(v.string(), v.maxLength(MAX_SUMMARY)), ''),
  operations: v.pipe(
    v.array(v.strictObject({ addRule: v.object({ ruleName: v.optional(text, ''), rule: RULE }) })),
    v.minLength(1),
    v.maxLength(MAX_OPERATIONS),
  ),
});

type ProposedRule = v.InferOutput<typeof RULE>;

/**
 * Reads what an agent proposes (contract.md, 10): rules to add and nothing else, each one that a policy could hold. `at`
 * is the time in milliseconds. The error says where the fault is.
 */
export function readProposal(body: string, at: number): Result<PolicyChunk[], string> {
  let parsed: unknown;
  try {
    parsed = JSON.parse(body);
  } catch {
    return err('the body is not JSON');
  }
  const read = v.safeParse(PROPOSAL, parsed);
  if (!read.success) {
    const [issue] = read.issues;
    const place = v.getDotPath(issue) ?? 'the body';
    return err(`${place}: ${issue.message}`);
  }
  const { intent_summary: rationale, operations } = read.output;
  const chunks: PolicyChunk[] = [];
  for (const [index, { addRule }] of operations.entries()) {
    const chunk = chunkOf(addRule.ruleName || addRule.rule.name, addRule.rule, rationale, at);
    const fault = faultOf(chunk);
    if (fault !== undefined) return err(`operations.${index}.addRule.rule: ${fault}`);
    chunks.push(chunk);
  }
  return ok(chunks);
}

function chunkOf(given: string, rule: ProposedRule, rationale: string, at: number): PolicyChunk {
  const [first] = rule.endpoints;
  const name = given || ruleNameOf(first?.host ?? '', first?.port ?? first?.ports[0] ?? 0);
  return PolicyChunk.fromPartial({
    status: 'pending',
    stage: 'agent',
    ruleName: name,
    rationale,
    confidence: 0.75,
    hitCount: 1,
    firstSeenMs: BigInt(Math.trunc(at)),
    lastSeenMs: BigInt(Math.trunc(at)),
    binary: rule.binaries[0]?.path ?? '',
    proposedRule: NetworkPolicyRule.fromPartial({
      name,
      endpoints: rule.endpoints.map((endpoint) => {
        const ports = endpoint.ports.length > 0 ? endpoint.ports : [endpoint.port ?? 0];
        return {
          host: endpoint.host,
          port: ports[0] ?? 0,
          ports,
          protocol: endpoint.protocol,
          tls: endpoint.tls,
          enforcement: endpoint.enforcement,
          access: endpoint.access,
          rules: endpoint.rules,
          denyRules: endpoint.deny_rules,
          allowedIps: endpoint.allowed_ips,
          allowEncodedSlash: endpoint.allow_encoded_slash,
          advisorProposed: true,
        };
      }),
      binaries: rule.binaries.map(({ path }) => ({ path, harness: true })),
    }),
  });
}

/** Whether a policy of this rule alone would be taken: a person should not have to find that out. */
function faultOf({ ruleName, proposedRule }: PolicyChunk): string | undefined {
  if (proposedRule === undefined) return 'there is no rule';
  if (ruleName.startsWith('_provider_')) return 'the prefix _provider_ belongs to the gateway';
  const policy = policyFromWire({
    version: 1,
    filesystem: undefined,
    landlock: undefined,
    process: undefined,
    networkPolicies: { [ruleName]: proposedRule },
    networkMiddlewares: {},
  });
  if (policy.ok) return undefined;
  const [fault] = policy.error;
  return fault === undefined ? 'it is no valid rule' : `${fault.at.slice(2).join('.')} ${fault.message}`;
}
