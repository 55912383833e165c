import { err, ok, type Result } from '../../result.ts';
import type { Field } from '../http/fields.ts';
import { JsonObject } from './json-object.ts';
import { providerOf } from './provider.ts';
import type { RequestShape } from './request-shape.ts';
import { type InferenceRoute, isVertexAnthropic, upstreamTarget } from './route.ts';

/** A call as the workload made it. */
export interface InferenceCall {
  readonly method: string;
  /** Canonical. */
  readonly path: string;
  readonly query: string | undefined;
  readonly fields: readonly Field[];
  readonly body: Buffer | undefined;
}

/** The same as its provider is asked. */
export interface ProviderCall {
  readonly target: string;
  readonly fields: readonly Field[];
  readonly body: Buffer | undefined;
}

const COMMON_FIELDS: ReadonlySet<string> = new Set([
  'content-type',
  'accept',
  'accept-encoding',
  'user-agent',
]);
/** What Vertex AI's own API for Anthropic's models is called. */
const VERTEX_VERSION = 'vertex-2023-10-16';

/**
 * Makes a provider's request of a call: the route's address, model and key, of the client's fields those that the provider
 * takes, and no credentials of the client's. Fails with what is wrong with the body.
 */
export function providerCall(
  route: InferenceRoute,
  shape: RequestShape,
  call: InferenceCall,
): Result<ProviderCall, string> {
  const body = call.body === undefined ? ok(undefined) : rewrittenBody(route, call.body);
  if (!body.ok) return body;
  return ok({
    target: upstreamTarget(route, call.path, call.query, shape.streams),
    fields: providerFields(route, call.fields),
    body: body.value,
  });
}

function providerFields(route: InferenceRoute, fields: readonly Field[]): readonly Field[] {
  const { keyField, passes, defaults } = providerOf(route.providerType);
  // Vertex AI refuses what it has no switch for, and clients send it whoever answers.
  const allowed = new Set([
    ...COMMON_FIELDS,
    ...passes.filter((name) => !isVertexAnthropic(route) || name !== 'anthropic-beta'),
  ]);
  const kept = fields.filter(([name]) => allowed.has(name.toLowerCase()));
  const said = new Set(kept.map(([name]) => name.toLowerCase()));
  const added = Object.entries(defaults).filter(([name]) => !said.has(name));
  const key = route.apiKey.reveal();
  if (keyField === undefined || key === '') return [...kept, ...added];
  return [...kept, ...added, [keyField, keyField === 'authorization' ? `Bearer ${key}` : key]];
}

/** The model is the route's, whatever the client asks for. */
function rewrittenBody(route: InferenceRoute, body: Buffer): Result<Buffer, string> {
  // Bedrock's model stands in the path, and its body is the model's own.
  if (route.protocols.has('aws_bedrock_invoke')) return ok(body);
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(body);
  } catch {
    return err('the body is not UTF-8');
  }
  const object = JsonObject.read(text);
  if (!object.ok) return object;
  if (isVertexAnthropic(route)) {
    object.value.delete('model');
    object.value.delete('context_management');
    if (!object.value.has('anthropic_version')) object.value.set('anthropic_version', VERTEX_VERSION);
  } else object.value.set('model', route.model);
  return ok(Buffer.from(object.value.toString()));
}
