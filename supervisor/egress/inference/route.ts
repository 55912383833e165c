import type { ResolvedRoute } from '../../../proto/generated/openshell/inference/v1/inference.ts';
import { Secret } from '../../observability/secret.ts';
import { err, ok, type Result } from '../../result.ts';

/** Where calls of some inference APIs go. */
export interface InferenceRoute {
  readonly name: string;
  readonly base: URL;
  readonly protocols: ReadonlySet<string>;
  readonly apiKey: Secret;
  readonly model: string;
  readonly providerType: string;
  /** Of an answer that comes whole, milliseconds. */
  readonly timeoutMs: number;
  readonly modelInPath: boolean;
  readonly pathOverride: string | undefined;
}

/** The route of the workload; others are the supervisor's own (contract.md, 1.8). */
export const WORKLOAD_ROUTE = 'inference.local';
const DEFAULT_TIMEOUT_SECONDS = 60;
const MAX_TIMEOUT_SECONDS = 3_600;

/** What a model's name may be made of where it becomes a part of a path: nothing that ends or leaves its segment. */
const IN_PATH = /^(?!.*\.\.)[^\s\p{Cc}/\\?#%]{1,256}$/u;

/** Reads a route of the gateway or of a file. The error names the field, never its key. */
export function readRoute(wire: ResolvedRoute): Result<InferenceRoute, string> {
  const fault = (what: string) => err(`the route ${JSON.stringify(wire.name.slice(0, 100))}: ${what}`);
  if (!URL.canParse(wire.baseUrl)) return fault('its endpoint is no URL');
  const base = new URL(wire.baseUrl);
  if (base.protocol !== 'https:' && base.protocol !== 'http:')
    return fault('its endpoint is neither https nor http');
  if (base.username !== '' || base.password !== '') return fault('its endpoint holds credentials');
  if (base.search !== '' || base.hash !== '') return fault('its endpoint has a query');
  if (wire.modelId === '') return fault('it has no model');
  if (/[\r\n\0]/.test(wire.apiKey)) return fault('its key cannot be sent');
  const bedrock = wire.protocols.includes('aws_bedrock_invoke');
  if ((wire.modelInPath || bedrock) && !IN_PATH.test(wire.modelId))
    return fault('its model cannot be a part of a path');
  if (wire.modelInPath && wire.requestPathOverride?.startsWith('/') === true)
    return fault('its path override follows a model, so it must not begin with a slash');
  const seconds = wire.timeoutSecs === 0n ? DEFAULT_TIMEOUT_SECONDS : Number(wire.timeoutSecs);
  return ok({
    name: wire.name,
    base,
    protocols: new Set(wire.protocols.map((protocol) => protocol.toLowerCase())),
    apiKey: new Secret(wire.apiKey),
    model: wire.modelId,
    providerType: wire.providerType,
    timeoutMs: Math.min(seconds, MAX_TIMEOUT_SECONDS) * 1000,
    modelInPath: wire.modelInPath,
    pathOverride: wire.requestPathOverride,
  });
}

/** Vertex AI takes Anthropic's messages at its own address, in its own way. */
export const isVertexAnthropic = ({ modelInPath, protocols, pathOverride }: InferenceRoute): boolean =>
  modelInPath && protocols.has('anthropic_messages') && pathOverride === ':rawPredict';

/** The path and query of a request at its provider. */
export function upstreamTarget(
  route: InferenceRoute,
  path: string,
  query: string | undefined,
  streams: boolean,
): string {
  const base = route.base.pathname.replace(/\/+$/, '');
  const tail = query === undefined ? '' : `?${query}`;
  const { model, pathOverride } = route;
  if (route.modelInPath && pathOverride !== undefined) {
    const suffix = streams && isVertexAnthropic(route) ? ':streamRawPredict' : pathOverride;
    return `${base}/${model}${suffix}${tail}`;
  }
  if (pathOverride !== undefined) {
    const slash = pathOverride === '' || pathOverride.startsWith('/') ? '' : '/';
    return `${base}${slash}${pathOverride}${tail}` || '/';
  }
  if (route.modelInPath) return `${base}/${model}${path}${tail}`;
  if (path.startsWith('/model/')) return `${base}/model/${model}/invoke${tail}`;
  // Most providers give their address with the version in it already.
  const versioned = base.startsWith('/v1/') || base.endsWith('/v1');
  return `${base}${versioned && /^\/v1(\/|$)/.test(path) ? path.slice(3) : path}${tail}`;
}
