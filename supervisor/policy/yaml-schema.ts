import * as v from 'valibot';
import { CREDENTIAL_SIGNINGS, INSPECTED_PROTOCOLS } from './document.ts';

const text = v.string();
const texts = v.array(text);
const flag = v.boolean();
const count = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(0xffffffff));
const port = v.pipe(v.number(), v.integer());

/** `query: {key: "glob"}` or `query: {key: {any: [...]}}`. */
const matcher = v.union([text, v.strictObject({ any: v.pipe(texts, v.minLength(1)) })]);
export type MatcherShape = v.InferOutput<typeof matcher>;

const operation = v.strictObject({
  method: v.optional(text, ''),
  path: v.optional(text, ''),
  command: v.optional(text, ''),
  query: v.optional(v.record(text, matcher), {}),
  operation_type: v.optional(text, ''),
  operation_name: v.optional(text, ''),
  fields: v.optional(v.pipe(texts, v.minLength(1))),
  params: v.optional(v.record(text, v.unknown()), {}),
  tool: v.optional(matcher),
});
export type OperationShape = v.InferOutput<typeof operation>;

const registered = v.strictObject({
  operation_type: v.optional(text, ''),
  operation_name: v.optional(text, ''),
  fields: v.optional(texts, []),
});

const endpoint = v.strictObject({
  host: v.optional(text, ''),
  port: v.optional(port),
  ports: v.optional(v.array(port)),
  protocol: v.optional(v.picklist(['', 'tcp', ...INSPECTED_PROTOCOLS]), ''),
  tls: v.optional(v.picklist(['', 'skip', 'terminate', 'passthrough']), ''),
  enforcement: v.optional(v.picklist(['', 'enforce', 'audit']), ''),
  access: v.optional(v.picklist(['', 'read-only', 'read-write', 'full']), ''),
  rules: v.optional(v.pipe(v.array(v.strictObject({ allow: operation })), v.minLength(1))),
  deny_rules: v.optional(v.pipe(v.array(operation), v.minLength(1))),
  allowed_ips: v.optional(texts, []),
  allow_encoded_slash: v.optional(flag, false),
  persisted_queries: v.optional(v.picklist(['', 'deny', 'allow_registered']), ''),
  graphql_persisted_queries: v.optional(v.record(text, registered), {}),
  graphql_max_body_bytes: v.optional(count, 0),
  path: v.optional(text, ''),
  websocket_credential_rewrite: v.optional(flag, false),
  request_body_credential_rewrite: v.optional(flag, false),
  credential_signing: v.optional(v.picklist(['', ...CREDENTIAL_SIGNINGS]), ''),
  signing_service: v.optional(text, ''),
  signing_region: v.optional(text, ''),
  json_rpc: v.optional(v.strictObject({ max_body_bytes: v.optional(count, 0) })),
  mcp: v.optional(
    v.strictObject({
      max_body_bytes: v.optional(count, 0),
      strict_tool_names: v.optional(flag),
      allow_all_known_mcp_methods: v.optional(flag),
    }),
  ),
  credential_binding: v.optional(v.strictObject({ provider: v.pipe(text, v.minLength(1)) })),
  allow_uninspected_credentials: v.optional(flag, false),
});
export type EndpointShape = v.InferOutput<typeof endpoint>;

const rule = v.strictObject({
  name: v.optional(text, ''),
  endpoints: v.optional(v.array(endpoint), []),
  binaries: v.optional(v.array(v.strictObject({ path: text, harness: v.optional(flag) })), []),
});

const middleware = v.strictObject({
  name: v.optional(text, ''),
  middleware: v.pipe(text, v.minLength(1)),
  config: v.optional(v.record(text, v.unknown()), {}),
  on_error: v.optional(v.picklist(['', 'fail_closed', 'fail_open']), ''),
  endpoints: v.strictObject({ include: v.optional(texts, []), exclude: v.optional(texts, []) }),
  order: v.optional(v.pipe(v.number(), v.integer(), v.minValue(-0x80000000), v.maxValue(0x7fffffff)), 0),
});
export type MiddlewareShape = v.InferOutput<typeof middleware>;

const identity = v.optional(v.union([text, v.number()]));

/** The shape of a policy in YAML (contract.md, 7.1). Unknown keys are errors everywhere. */
export const POLICY_SCHEMA = v.strictObject({
  version: v.pipe(v.number(), v.integer(), v.minValue(1)),
  filesystem_policy: v.optional(
    v.strictObject({
      include_workdir: v.optional(flag, false),
      read_only: v.optional(texts, []),
      read_write: v.optional(texts, []),
    }),
  ),
  landlock: v.optional(
    v.strictObject({
      compatibility: v.optional(v.picklist(['', 'best_effort', 'hard_requirement']), ''),
    }),
  ),
  process: v.optional(v.strictObject({ run_as_user: identity, run_as_group: identity })),
  network_policies: v.optional(v.record(text, rule), {}),
  network_middlewares: v.optional(v.record(text, middleware), {}),
});
export type PolicyShape = v.InferOutput<typeof POLICY_SCHEMA>;
