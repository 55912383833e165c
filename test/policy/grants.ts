import {
  type CompileOptions,
  compilePolicy,
  type PolicyGeneration,
} from '../../supervisor/policy/compilation.ts';
import { decide } from '../../supervisor/policy/decision.ts';
import type { PolicyDocument } from '../../supervisor/policy/document.ts';
import { describeFault } from '../../supervisor/policy/fault.ts';
import type { CallerIdentity, Grant } from '../../supervisor/policy/intent.ts';
import type { BodyFacts, RequestDecision } from '../../supervisor/policy/request.ts';
import { decideRequest } from '../../supervisor/policy/request-decision.ts';
import { parseQuery } from '../../supervisor/policy/target.ts';
import { parsePolicyYaml } from '../../supervisor/policy/yaml.ts';

/** The document of some lines below `network_policies:`; throws with the faults when there are any. */
export function documentOf(rules: string, rest = ''): PolicyDocument {
  const parsed = parsePolicyYaml(`version: 1\nnetwork_policies:\n${rules}\n${rest}`);
  if (!parsed.ok) throw new Error(parsed.error.map(describeFault).join('\n'));
  return parsed.value;
}

export const compile = (rules: string, options: Partial<CompileOptions> = {}): PolicyGeneration =>
  compilePolicy(documentOf(rules), { generation: 4, ...options });

export const caller = (binary: string, ...ancestors: string[]): CallerIdentity => ({
  pid: 9,
  binary,
  ancestors,
  cmdline: [],
});

export const to = (host: string, port = 443) => ({ host, port, via: 'connect' as const });

/** What a policy grants a connection; throws with the reason when it does not. */
export function granted(
  policy: PolicyGeneration,
  host = 'a.test',
  port = 443,
  who = caller('/bin/x'),
): Grant {
  const decision = decide(policy, to(host, port), who);
  if (decision.kind === 'deny') throw new Error(decision.reason);
  return decision;
}

/** A connection to endpoints that any binary may use, each given as the inside of a YAML flow mapping. */
export function grantOf(...endpoints: readonly string[]): Grant {
  const lines = endpoints.map((fields) => `      - { host: a.test, port: 443, ${fields} }`);
  return granted(compile(`  a:\n    endpoints:\n${lines.join('\n')}\n    binaries: [{ path: "/**" }]`));
}

/** Decides a request such as `GET /a?b=c`. */
export function ask(grant: Grant, line: string, body: BodyFacts = { kind: 'none' }): RequestDecision {
  const [method = '', target = '/'] = line.split(' ');
  const [path = '', rawQuery] = target.split('?');
  const query = parseQuery(rawQuery);
  if (!query.ok) throw new Error(query.error);
  return decideRequest(grant, { method, path, query: query.value, body });
}
