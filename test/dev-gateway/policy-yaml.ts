import { parse } from 'yaml';
import { SandboxPolicy } from '../../proto/generated/openshell/sandbox/v1/sandbox.ts';
import { describeFault } from '../../supervisor/policy/fault.ts';
import { parsePolicyYaml } from '../../supervisor/policy/yaml.ts';
import { err, ok, type Result } from '../../supervisor/result.ts';

type Fields = Readonly<Record<string, unknown>>;

/**
 * A policy in YAML (or JSON, which YAML contains) as the wire carries it, with every field of contract.md,
 * 1.4 but a middleware's `config`. What does not validate is refused, with one line a fault.
 */
export function policyFromYaml(source: string): Result<SandboxPolicy, string> {
  const checked = parsePolicyYaml(source);
  if (!checked.ok) return err(checked.error.map(describeFault).join('\n'));
  // The checked document is what a decision needs; the wire needs all that was written.
  const written = fieldsOf(parse(source, { maxAliasCount: 100 }));
  return ok(
    SandboxPolicy.fromPartial({
      ...camel({
        ...written,
        filesystem_policy: undefined,
        network_policies: undefined,
        network_middlewares: undefined,
      }),
      filesystem:
        written.filesystem_policy === undefined ? undefined : camel(fieldsOf(written.filesystem_policy)),
      process: written.process === undefined ? undefined : camel(textValues(fieldsOf(written.process))),
      networkPolicies: mapValues(fieldsOf(written.network_policies), (rule, key) => ({
        name: key,
        ...rule,
        endpoints: listOf(rule.endpoints).map(endpointOf),
      })),
      networkMiddlewares: mapValues(fieldsOf(written.network_middlewares), (middleware) => ({
        ...camel(middleware),
        config: undefined,
      })),
    }),
  );
}

/** The differences between the YAML and the wire are those of contract.md, 7.1. */
function endpointOf(written: Fields): Fields {
  const { json_rpc, mcp, rules, deny_rules, ...rest } = written;
  const limit = fieldsOf(mcp).max_body_bytes ?? fieldsOf(json_rpc).max_body_bytes;
  return {
    ...camel(rest),
    rules: listOf(rules).map((rule) => ({ allow: operationOf(fieldsOf(rule.allow)) })),
    denyRules: listOf(deny_rules).map(operationOf),
    ...(limit === undefined ? {} : { jsonRpcMaxBodyBytes: limit }),
    ...(mcp === undefined ? {} : { mcp: camel(fieldsOf(mcp)) }),
    graphqlPersistedQueries: mapValues(fieldsOf(written.graphql_persisted_queries), camel),
  };
}

function operationOf(written: Fields): Fields {
  const { query, params, tool, ...rest } = written;
  const flat = { ...flatten(fieldsOf(params)), ...(tool === undefined ? {} : { name: tool }) };
  return { ...camel(rest), query: matchers(fieldsOf(query)), params: matchers(flat) };
}

const matchers = (written: Fields): Fields =>
  Object.fromEntries(
    Object.entries(written).map(([key, value]) => [key, typeof value === 'string' ? { glob: value } : value]),
  );

function flatten(params: Fields, prefix = ''): Fields {
  return Object.fromEntries(
    Object.entries(params).flatMap(([key, value]): [string, unknown][] => {
      const nested = fieldsOf(value);
      const isMatcher = typeof value === 'string' || Array.isArray(nested.any);
      return isMatcher ? [[prefix + key, value]] : Object.entries(flatten(nested, `${prefix}${key}.`));
    }),
  );
}

const fieldsOf = (value: unknown): Fields =>
  typeof value === 'object' && value !== null && !Array.isArray(value) ? { ...value } : {};

const listOf = (value: unknown): readonly Fields[] => (Array.isArray(value) ? value.map(fieldsOf) : []);

const mapValues = (map: Fields, change: (value: Fields, key: string) => Fields): Record<string, Fields> =>
  Object.fromEntries(Object.entries(map).map(([key, value]) => [key, change(fieldsOf(value), key)]));

const textValues = (fields: Fields): Fields =>
  Object.fromEntries(Object.entries(fields).map(([key, value]) => [key, String(value)]));

/** snake_case to camelCase, this level only. */
const camel = (fields: Fields): Fields =>
  Object.fromEntries(
    Object.entries(fields).map(([key, value]) => [
      key.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase()),
      value,
    ]),
  );
