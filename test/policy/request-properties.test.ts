import * as fc from 'fast-check';
import { expect, test, vi } from 'vitest';
import { compilePolicy } from '../../supervisor/policy/compilation.ts';
import { BLANK_ENDPOINT, type Endpoint, type OperationPattern } from '../../supervisor/policy/document.ts';
import { compileValueGlob } from '../../supervisor/policy/matchers.ts';
import { decideRequest } from '../../supervisor/policy/request-decision.ts';
import { RESTRICTIVE_DEFAULT } from '../../supervisor/policy/restrictive-default.ts';
import { granted } from './grants.ts';

// Thousands of cases, on a machine that may be busy.
vi.setConfig({ testTimeout: 60_000 });

const word = fc.constantFrom('a', 'b', 'a.b', 'a/b', '');
const glob = fc.constantFrom('a', 'b', '*', '**', 'a*', '{a,b}', '?');
const key = fc.constantFrom('k', 'l');
const queries = fc.dictionary(key, fc.array(glob, { minLength: 1, maxLength: 2 }), { maxKeys: 2 });
const values = fc.dictionary(key, fc.array(word, { minLength: 1, maxLength: 3 }), { maxKeys: 2 });
const method = fc.constantFrom('GET', 'HEAD', 'POST', 'DELETE');
const path = fc.constantFrom('/', '/a', '/a/b', '/a/b/c', '/b');
const pathGlob = fc.constantFrom('**', '/a', '/a/*', '/a/**', '/*');

const rule = fc.record({ method: fc.oneof(method, fc.constant('*')), path: pathGlob, query: queries }).map(
  (fields): OperationPattern => ({
    ...fields,
    command: '',
    operationType: '',
    operationName: '',
    fields: [],
    params: {},
  }),
);
const endpoint = fc
  .record({
    path: fc.constantFrom('', '/a', '/a/**', '/b'),
    enforcement: fc.constantFrom<Endpoint['enforcement']>('enforce', 'audit'),
    rules: fc.array(rule, { maxLength: 3 }),
    denyRules: fc.array(rule, { maxLength: 2 }),
  })
  .map(
    (fields): Endpoint => ({ ...BLANK_ENDPOINT, ...fields, host: 'a.test', ports: [443], protocol: 'rest' }),
  );
const request = fc.record({ method, path, query: values });

type Request = { readonly method: string; readonly path: string; readonly query: Record<string, string[]> };

function decideWith(endpoints: readonly Endpoint[], { method, path, query }: Request) {
  const binaries = [{ path: '/**', advisorProposed: false }];
  const networkPolicies = { a: { name: 'a', endpoints, binaries } };
  const policy = compilePolicy({ ...RESTRICTIVE_DEFAULT, networkPolicies }, { generation: 1 });
  const facts = { method, path, query: new Map(Object.entries(query)), body: { kind: 'none' } as const };
  return decideRequest(granted(policy), facts);
}

/** The rules of the contract, said once more and slowly. */
function naive(endpoints: readonly Endpoint[], request: Request): string {
  const inScope = (pattern: string): boolean =>
    pattern === '' ||
    pattern === request.path ||
    (pattern.endsWith('/**') &&
      (request.path === pattern.slice(0, -3) || request.path.startsWith(pattern.slice(0, -2))));
  const covering = endpoints.filter(({ path }) => inScope(path));
  const specificity = (one: Endpoint): number =>
    [...one.path].filter((character) => character !== '*').length;
  const [route] = covering.toSorted((a, b) => specificity(b) - specificity(a));
  if (route === undefined) return 'deny';
  const onPath = (pattern: string): boolean => {
    const { path } = request;
    if (pattern === '**') return true;
    if (pattern === '/a/*') return /^\/a\/[^/]*$/.test(path);
    if (pattern === '/a/**') return path.startsWith('/a/');
    if (pattern === '/*') return /^\/[^/]*$/.test(path);
    return path === pattern;
  };
  const head = ({ method, path }: OperationPattern): boolean =>
    onPath(path) &&
    (method === '*' || method === request.method || (method === 'GET' && request.method === 'HEAD'));
  const matches = (globs: readonly string[]) => (value: string) =>
    globs.some((one) => compileValueGlob(one)(value));
  const allows = (one: OperationPattern): boolean =>
    head(one) &&
    Object.entries(one.query).every(([name, globs]) => request.query[name]?.every(matches(globs)) ?? false);
  const denies = (one: OperationPattern): boolean =>
    head(one) &&
    Object.entries(one.query).every(([name, globs]) => request.query[name]?.some(matches(globs)) ?? false);
  const denied = covering.some((one) => one.denyRules.some(denies));
  const allowed = covering.some((one) => one.rules.some(allows));
  if (allowed && !denied) return 'allow';
  return route.enforcement === 'enforce' ? 'deny' : 'audit';
}

const endpoints = fc.array(endpoint, { minLength: 1, maxLength: 3 });

test('a decision on a request agrees with the rules said slowly', () => {
  fc.assert(
    fc.property(endpoints, request, (all, asked) => {
      expect(decideWith(all, asked).kind).toBe(naive(all, asked));
    }),
    { numRuns: 5000 },
  );
});

test('a further deny rule never lets more through', () => {
  fc.assert(
    fc.property(endpoints, rule, request, (all, more, asked) => {
      const narrowed = all.map((one) => ({ ...one, denyRules: [...one.denyRules, more] }));
      if (decideWith(narrowed, asked).kind === 'allow') expect(decideWith(all, asked).kind).toBe('allow');
    }),
    { numRuns: 2000 },
  );
});

test('what enforcement denies, audit at most remarks on, and what either allows, both do', () => {
  fc.assert(
    fc.property(endpoints, request, (all, asked) => {
      const enforced = decideWith(
        all.map((one) => ({ ...one, enforcement: 'enforce' })),
        asked,
      );
      const audited = decideWith(
        all.map((one) => ({ ...one, enforcement: 'audit' })),
        asked,
      );
      expect(enforced.kind === 'allow').toBe(audited.kind === 'allow');
      expect(enforced.kind).not.toBe('audit');
      expect([enforced.rule, enforced.reason]).toEqual([audited.rule, audited.reason]);
    }),
    { numRuns: 2000 },
  );
});
