import * as v from 'valibot';
import { isMap, LineCounter, type Node, parseDocument } from 'yaml';
import { err, ok, type Result } from '../result.ts';
import {
  type Endpoint,
  INSPECTED_PROTOCOLS,
  type NetworkRule,
  type PolicyDocument,
  type PolicyFault,
} from './document.ts';
import { validatePolicy } from './validation.ts';

/** The gateway's own bound on a stored policy (contract.md, 2.3), in bytes. */
export const MAX_POLICY_BYTES = 262_144;

const text = v.string();
const matcher = v.union([v.string(), v.strictObject({ any: v.array(text) })]);
const flag = v.boolean();
const port = v.pipe(v.number(), v.integer());

const operation = {
  method: v.optional(text),
  path: v.optional(text),
  command: v.optional(text),
  query: v.optional(v.record(text, matcher)),
  operation_type: v.optional(text),
  operation_name: v.optional(text),
  fields: v.optional(v.array(text)),
  params: v.optional(v.record(text, v.unknown())),
  tool: v.optional(matcher),
};

const endpoint = v.strictObject({
  host: v.optional(text, ''),
  port: v.optional(port),
  ports: v.optional(v.array(port)),
  protocol: v.optional(v.picklist(['', 'tcp', ...INSPECTED_PROTOCOLS]), ''),
  tls: v.optional(v.picklist(['', 'skip', 'terminate', 'passthrough']), ''),
  enforcement: v.optional(v.picklist(['', 'enforce', 'audit']), ''),
  access: v.optional(v.picklist(['', 'read-only', 'read-write', 'full']), ''),
  rules: v.optional(v.array(v.strictObject({ allow: v.strictObject(operation) }))),
  deny_rules: v.optional(v.array(v.strictObject(operation))),
  allowed_ips: v.optional(v.array(text)),
  allow_encoded_slash: v.optional(flag),
  persisted_queries: v.optional(v.picklist(['', 'deny', 'allow_registered'])),
  graphql_persisted_queries: v.optional(
    v.record(
      text,
      v.strictObject({
        operation_type: v.optional(text),
        operation_name: v.optional(text),
        fields: v.optional(v.array(text)),
      }),
    ),
  ),
  graphql_max_body_bytes: v.optional(v.number()),
  path: v.optional(text, ''),
  websocket_credential_rewrite: v.optional(flag),
  request_body_credential_rewrite: v.optional(flag),
  credential_signing: v.optional(text),
  signing_service: v.optional(text),
  signing_region: v.optional(text),
  json_rpc: v.optional(v.strictObject({ max_body_bytes: v.optional(v.number()) })),
  mcp: v.optional(
    v.strictObject({
      max_body_bytes: v.optional(v.number()),
      strict_tool_names: v.optional(flag),
      allow_all_known_mcp_methods: v.optional(flag),
    }),
  ),
  credential_binding: v.optional(v.strictObject({ provider: text })),
  allow_uninspected_credentials: v.optional(flag),
});

const rule = v.strictObject({
  name: v.optional(text),
  endpoints: v.optional(v.array(endpoint), []),
  binaries: v.optional(v.array(v.strictObject({ path: text, harness: v.optional(flag) })), []),
});

const schema = v.strictObject({
  version: v.pipe(v.number(), v.integer(), v.minValue(1)),
  filesystem_policy: v.optional(
    v.strictObject({
      include_workdir: v.optional(flag, false),
      read_only: v.optional(v.array(text), []),
      read_write: v.optional(v.array(text), []),
    }),
  ),
  landlock: v.optional(
    v.strictObject({
      compatibility: v.optional(v.picklist(['best_effort', 'hard_requirement']), 'best_effort'),
    }),
  ),
  process: v.optional(
    v.strictObject({
      run_as_user: v.optional(v.union([text, v.number()])),
      run_as_group: v.optional(v.union([text, v.number()])),
    }),
  ),
  network_policies: v.optional(v.record(text, rule), {}),
  network_middlewares: v.optional(
    v.record(
      text,
      v.strictObject({
        name: v.optional(text),
        middleware: text,
        config: v.optional(v.record(text, v.unknown())),
        on_error: v.optional(v.picklist(['', 'fail_closed', 'fail_open'])),
        endpoints: v.optional(
          v.strictObject({ include: v.optional(v.array(text)), exclude: v.optional(v.array(text)) }),
        ),
        order: v.optional(v.number()),
      }),
    ),
    {},
  ),
});

type Shape = v.InferOutput<typeof schema>;

/**
 * Reads a policy from YAML 1.2 text: at most MAX_POLICY_BYTES, no duplicate keys, no unknown keys, aliases
 * expanded at most 100 times. Reports every fault of the first stage that has any: syntax, shape, meaning.
 */
export function parsePolicyYaml(source: string): Result<PolicyDocument, readonly PolicyFault[]> {
  if (Buffer.byteLength(source) > MAX_POLICY_BYTES)
    return err([{ path: '', message: `is larger than ${MAX_POLICY_BYTES} bytes` }]);
  const lines = new LineCounter();
  const parsed = parseDocument(source, { lineCounter: lines, prettyErrors: false, uniqueKeys: true });
  if (parsed.errors.length > 0)
    return err(
      parsed.errors.map((error) => {
        const place = lines.linePos(error.pos[0]);
        return { path: '', message: error.message, line: place.line, column: place.col };
      }),
    );
  let value: unknown;
  try {
    value = parsed.toJS({ maxAliasCount: 100 });
  } catch (error) {
    return err([{ path: '', message: error instanceof Error ? error.message : 'cannot be expanded' }]);
  }
  const shaped = v.safeParse(schema, value);
  const placed = (fault: PolicyFault, path: readonly unknown[]): PolicyFault => {
    const node = nodeAt(parsed.contents, path);
    const place = node?.range ? lines.linePos(node.range[0]) : undefined;
    return place === undefined ? fault : { ...fault, line: place.line, column: place.col };
  };
  if (!shaped.success)
    return err(
      shaped.issues.map((issue) => {
        const keys = (issue.path ?? []).map((item) => item.key);
        return placed({ path: dotted(keys), message: sentence(issue) }, keys);
      }),
    );
  const document = fromShape(shaped.output);
  const faults = validatePolicy(document);
  if (faults.length > 0) return err(faults.map((fault) => placed(fault, keysOf(fault.path))));
  return ok(document);
}

/** The node that a path names, or the nearest one above it that exists. */
function nodeAt(root: unknown, path: readonly unknown[]): Node | undefined {
  let node: unknown = root;
  for (const key of path) {
    const next: unknown =
      node !== null && typeof node === 'object' && 'get' in node && typeof node.get === 'function'
        ? isMap(node)
          ? (node.items.find((pair) => String(pair.key) === String(key))?.value ?? undefined)
          : node.get(key, true)
        : undefined;
    if (next === undefined || next === null) break;
    node = next;
  }
  return node !== null && typeof node === 'object' && 'range' in node ? (node as Node) : undefined;
}

function dotted(keys: readonly unknown[]): string {
  let path = '';
  for (const key of keys)
    path += typeof key === 'number' ? `[${key}]` : `${path === '' ? '' : '.'}${String(key)}`;
  return path;
}

function keysOf(path: string): readonly (string | number)[] {
  return path
    .replaceAll(/\[(\d+)\]/g, '.$1')
    .split('.')
    .filter((part) => part !== '')
    .map((part) => (/^\d+$/.test(part) ? Number(part) : part));
}

function sentence(issue: v.BaseIssue<unknown>): string {
  if (issue.type === 'strict_object' && issue.expected === 'never')
    return 'is not a key of the policy schema';
  return `must be ${issue.expected ?? 'valid'}, is ${issue.received}`;
}

function fromShape(shape: Shape): PolicyDocument {
  const networkPolicies: Record<string, NetworkRule> = Object.create(null);
  for (const [key, value] of Object.entries(shape.network_policies))
    networkPolicies[key] = {
      name: value.name || key,
      endpoints: value.endpoints.map(endpointFrom),
      binaries: value.binaries.map((binary) => binary.path),
    };
  const text = (id: string | number | undefined): string | undefined =>
    id === undefined ? undefined : String(id);
  return {
    version: shape.version,
    filesystem: shape.filesystem_policy && {
      includeWorkdir: shape.filesystem_policy.include_workdir,
      readOnly: shape.filesystem_policy.read_only,
      readWrite: shape.filesystem_policy.read_write,
    },
    landlock: shape.landlock?.compatibility ?? 'best_effort',
    process: shape.process && {
      runAsUser: text(shape.process.run_as_user),
      runAsGroup: text(shape.process.run_as_group),
    },
    networkPolicies,
    networkMiddlewares: Object.keys(shape.network_middlewares),
  };
}

function endpointFrom(shape: v.InferOutput<typeof endpoint>): Endpoint {
  return {
    host: shape.host,
    ports: shape.ports && shape.ports.length > 0 ? shape.ports : shape.port === undefined ? [] : [shape.port],
    protocol: shape.protocol === '' ? 'opaque' : shape.protocol,
    tls: shape.tls === 'skip' ? 'skip' : 'auto',
    enforcement: shape.enforcement === 'enforce' ? 'enforce' : 'audit',
    access: shape.access === '' ? undefined : shape.access,
    hasRules: (shape.rules?.length ?? 0) > 0,
    hasDenyRules: (shape.deny_rules?.length ?? 0) > 0,
    allowedIps: shape.allowed_ips ?? [],
    path: shape.path,
    advisorProposed: false,
  };
}
