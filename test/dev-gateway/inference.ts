import { createHash } from 'node:crypto';
import * as v from 'valibot';
import { GetInferenceBundleResponse } from '../../proto/generated/openshell/inference/v1/inference.ts';

const Route = v.strictObject({
  name: v.optional(v.string(), 'inference.local'),
  baseUrl: v.string(),
  protocols: v.array(v.string()),
  apiKey: v.optional(v.string(), ''),
  modelId: v.string(),
  providerType: v.optional(v.string(), ''),
  timeoutSecs: v.optional(v.number(), 0),
});

/** A list of routes in JSON as the gateway answers it. Throws what is wrong with the text. */
export function readInferenceRoutes(text: string): GetInferenceBundleResponse {
  const routes = v.parse(v.array(Route), JSON.parse(text));
  return GetInferenceBundleResponse.fromPartial({
    routes: routes.map((route) => ({ ...route, timeoutSecs: BigInt(route.timeoutSecs) })),
    revision: createHash('sha256').update(text).digest('hex').slice(0, 16),
    generatedAtMs: BigInt(Date.now()),
  });
}
