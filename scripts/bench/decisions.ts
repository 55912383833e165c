import { compilePolicy, type PolicyGeneration } from '../../supervisor/policy/compilation.ts';
import { decide } from '../../supervisor/policy/decision.ts';
import {
  BLANK_ENDPOINT,
  type Endpoint,
  type NetworkRule,
  type OperationPattern,
  type PolicyDocument,
} from '../../supervisor/policy/document.ts';
import type { Decision, Grant } from '../../supervisor/policy/intent.ts';
import { decideRequest } from '../../supervisor/policy/request-decision.ts';
import { RESTRICTIVE_DEFAULT } from '../../supervisor/policy/restrictive-default.ts';
import { admitTarget } from '../../supervisor/policy/target.ts';
import { validatePolicy } from '../../supervisor/policy/validation.ts';
import { figure, heading, median, row } from './report.ts';

const SIZES = [10, 1000, 10_000] as const;
const ROUNDS = 15;
/** A round lasts about this long, so that the clock's own steps do not count. */
const ROUND_MS = 20;

/** Decisions per second by the number of rules: connections that are granted and refused, and requests. */
export async function decisions(): Promise<void> {
  heading('Policy decisions: µs each, by the number of rules (million a second)');
  row('', ...SIZES.map((size) => `${size} rules`));
  const documents = SIZES.map(spread);
  const policies = documents.map((document) => compilePolicy(document, { generation: 1 }));
  const shared = SIZES.map((size) => compilePolicy(crowded(size), { generation: 1 }));
  const each = (what: string, of: (policy: PolicyGeneration, size: number) => () => unknown): void =>
    row(what, ...policies.map((policy, index) => timed(of(policy, SIZES[index] ?? 1))));

  each('connection: host named exactly', (policy, size) =>
    connection(policy, size, (n) => `h${n}.exact.test`),
  );
  each('connection: host under a wildcard', (policy, size) =>
    connection(policy, size, (n) => `a.w${n}.wild.test`, 1),
  );
  each('connection: no rule names the host', (policy, size) =>
    connection(policy, size, (n) => `h${n}.unknown.test`),
  );
  each('connection: another binary, three ancestors', (policy, size) =>
    connection(policy, size, (n) => `h${n}.exact.test`, 0, '/usr/bin/other'),
  );
  row(
    'connection: every rule names the same host',
    ...shared.map((policy, index) => {
      const size = SIZES[index] ?? 1;
      const last = `/usr/bin/tool${size - 1}`;
      return timed(() => expectKind(decide(policy, to('one.test'), caller(last)), 'allow'));
    }),
  );
  each('request: rest, the last of ten rules', (policy) => request(policy));
  each('request, with its path made canonical', (policy) => request(policy, true));

  heading('Policy, once per change: ms');
  row('', ...SIZES.map((size) => `${size} rules`));
  row('validated', ...documents.map((document) => figure(once(() => validatePolicy(document)))));
  row(
    'compiled',
    ...documents.map((document) => figure(once(() => compilePolicy(document, { generation: 1 })))),
  );
}

const to = (host: string) => ({ host, port: 443, via: 'connect' as const });
const caller = (binary: string) => ({
  pid: 1,
  binary,
  ancestors: ['/usr/bin/node', '/usr/bin/bash', '/usr/bin/init'],
  cmdline: [],
});

/** Asks for hosts all over the policy in turn. `kind` counts rules as `spread` makes them. */
function connection(
  policy: PolicyGeneration,
  size: number,
  host: (rule: number) => string,
  kind = 0,
  binary = '/usr/bin/curl',
): () => unknown {
  const expected = binary === '/usr/bin/curl' && !host(0).includes('unknown') ? 'allow' : 'deny';
  const identity = caller(binary);
  const rules = Array.from({ length: size }, (_, index) => index).filter((index) => index % 4 === kind);
  const intents = rules.map((rule) => to(host(rule)));
  let next = 0;
  return () => {
    const intent = intents[next++ % intents.length];
    if (intent !== undefined) expectKind(decide(policy, intent, identity), expected);
  };
}

function request(policy: PolicyGeneration, whole = false): () => unknown {
  const decision = decide(policy, to('r2.rest.test'), caller('/usr/bin/curl'));
  if (decision.kind !== 'allow') throw new Error(decision.reason);
  const grant: Grant = decision;
  const [path, query] = ['/v9/projects/some-name/items', new Map<string, readonly string[]>()];
  return () => {
    if (whole && !admitTarget(grant, `${path}?page=2`).ok) throw new Error('not admitted');
    const { kind, reason } = decideRequest(grant, { method: 'GET', path, query, body: { kind: 'none' } });
    if (kind !== 'allow') throw new Error(reason);
  };
}

function expectKind(decision: Decision, kind: Decision['kind']): void {
  if (decision.kind !== kind) throw new Error(`expected ${kind}, but it is ${JSON.stringify(decision)}`);
}

/** The median of some rounds: µs a call, and million calls a second. */
function timed(call: () => unknown): string {
  let calls = 1000;
  const round = (): number => {
    const begun = performance.now();
    for (let index = 0; index < calls; index++) call();
    return performance.now() - begun;
  };
  for (let warm = 0; warm < 5; warm++) {
    const took = round();
    calls = Math.max(100, Math.min(1_000_000, Math.round((calls * ROUND_MS) / Math.max(took, 0.01))));
  }
  const micros = (median(Array.from({ length: ROUNDS }, round)) * 1000) / calls;
  return `${figure(micros)} (${figure(1 / micros)})`;
}

function once(action: () => unknown): number {
  return median(
    Array.from({ length: 5 }, () => {
      const begun = performance.now();
      action();
      return performance.now() - begun;
    }),
  );
}

const endpoint = (fields: Partial<Endpoint>): Endpoint => ({ ...BLANK_ENDPOINT, ports: [443], ...fields });

const documentOf = (rules: readonly NetworkRule[]): PolicyDocument => ({
  ...RESTRICTIVE_DEFAULT,
  networkPolicies: Object.fromEntries(rules.map((rule) => [rule.name, rule])),
});

const binary = (path: string) => ({ path, advisorProposed: false });

/** Exact hosts, wildcards, inspected hosts and ranges in turn. */
function spread(size: number): PolicyDocument {
  const operation = (index: number): OperationPattern => ({
    method: 'GET',
    path: `/v${index}/projects/*/items`,
    command: '',
    query: {},
    operationType: '',
    operationName: '',
    fields: [],
    params: {},
  });
  const rules = Array.from({ length: 10 }, (_, index) => operation(index));
  const kinds: readonly ((index: number) => Endpoint)[] = [
    (index) => endpoint({ host: `h${index}.exact.test` }),
    (index) => endpoint({ host: `*.w${index}.wild.test` }),
    (index) => endpoint({ host: `r${index}.rest.test`, protocol: 'rest', enforcement: 'enforce', rules }),
    (index) => endpoint({ host: `d${index}.range.test`, allowedIps: ['10.0.0.0/8'], ports: [5432] }),
  ];
  return documentOf(
    Array.from({ length: size }, (_, index) => ({
      name: `rule-${String(index).padStart(5, '0')}`,
      endpoints: [kinds[index % 4]?.(index) ?? endpoint({})],
      binaries: [binary('/usr/bin/curl'), binary('/opt/tools/*/bin/*')],
    })),
  );
}

/** The worst case for an index: one host, and a rule for each of many binaries. */
const crowded = (size: number): PolicyDocument =>
  documentOf(
    Array.from({ length: size }, (_, index) => ({
      name: `rule-${String(index).padStart(5, '0')}`,
      endpoints: [endpoint({ host: 'one.test' })],
      binaries: [binary(`/usr/bin/tool${index}`)],
    })),
  );
