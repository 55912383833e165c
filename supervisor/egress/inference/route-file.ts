import * as v from 'valibot';
import { parse } from 'yaml';
import { err, ok, type Result } from '../../result.ts';
import { type InferenceRoute, readRoute, WORKLOAD_ROUTE } from './route.ts';

const MAX_BYTES = 256 * 1024;

const ROUTE = v.strictObject({
  name: v.optional(v.string(), WORKLOAD_ROUTE),
  endpoint: v.string(),
  model: v.string(),
  provider_type: v.optional(v.string(), ''),
  protocols: v.pipe(v.array(v.string()), v.minLength(1)),
  api_key: v.optional(v.string()),
  api_key_env: v.optional(v.string()),
  timeout_secs: v.optional(v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(3_600)), 60),
  model_in_path: v.optional(v.boolean(), false),
  request_path_override: v.optional(v.string()),
});
const FILE = v.strictObject({ routes: v.pipe(v.array(ROUTE), v.maxLength(64)) });

/**
 * Reads the routes of a file (contract.md, 9), for a sandbox without a gateway. `variable` looks up what `api_key_env` names.
 * Errors say where the fault is, and hold no key.
 */
export function readRouteFile(
  text: string,
  variable: (name: string) => string | undefined,
): Result<readonly InferenceRoute[], string> {
  if (Buffer.byteLength(text) > MAX_BYTES) return err(`it is larger than ${MAX_BYTES} bytes`);
  let parsed: unknown;
  try {
    parsed = parse(text, { maxAliasCount: 0 });
  } catch {
    // The parser's words quote the text, and the text holds keys.
    return err('it is not YAML');
  }
  const read = v.safeParse(FILE, parsed);
  if (!read.success) {
    const [issue] = read.issues;
    const place = v.getDotPath(issue) ?? 'the document';
    if (issue.expected === 'never') return err(`${place} is no key of a route file`);
    return err(
      `${place} ${issue.received === 'undefined' ? 'is needed' : `must be ${issue.expected ?? 'valid'}`}`,
    );
  }
  const routes: InferenceRoute[] = [];
  for (const [index, given] of read.output.routes.entries()) {
    const { api_key: inline, api_key_env: named } = given;
    if (inline !== undefined && named !== undefined)
      return err(`routes.${index} has both api_key and api_key_env; keep one`);
    const key = named === undefined ? (inline ?? '') : variable(named);
    if (key === undefined) return err(`routes.${index}.api_key_env names ${named}, which is not set`);
    const route = readRoute({
      name: given.name,
      baseUrl: given.endpoint,
      protocols: given.protocols,
      apiKey: key,
      modelId: given.model,
      providerType: given.provider_type,
      timeoutSecs: BigInt(given.timeout_secs),
      modelInPath: given.model_in_path,
      requestPathOverride: given.request_path_override,
    });
    if (!route.ok) return err(`routes.${index}: ${route.error}`);
    // The supervisor's own route is never offered to the workload (contract.md, 9).
    if (given.name === 'sandbox-system') continue;
    routes.push(route.value);
  }
  return ok(routes);
}
