import * as v from 'valibot';
import type { SupervisorMiddlewareService } from '../../proto/generated/openshell/sandbox/v1/sandbox.ts';

const Service = v.strictObject({
  name: v.string(),
  endpoint: v.string(),
  maxPayloadBytes: v.optional(v.number(), 1 << 20),
  timeout: v.optional(v.string(), ''),
  /** PEM. */
  ca: v.optional(v.string(), ''),
  audience: v.optional(v.string(), ''),
  insecure: v.optional(v.boolean(), false),
});
const Middlewares = v.strictObject({
  services: v.array(Service),
  /** Whether the gateway mints credentials for them. */
  authentication: v.optional(v.boolean(), false),
});

/** What the gateway tells of middlewares. */
export interface ToldMiddlewares {
  readonly services: readonly SupervisorMiddlewareService[];
  readonly authentication: boolean;
}

/** `{services: [{name, endpoint, …}], authentication}`. Throws what is wrong with the text. */
export function readMiddlewares(text: string): ToldMiddlewares {
  const { services, authentication } = v.parse(Middlewares, JSON.parse(text));
  return {
    authentication,
    services: services.map(({ name, endpoint, maxPayloadBytes, timeout, ca, audience, insecure }) => ({
      name,
      grpcEndpoint: endpoint,
      maxPayloadBytes: BigInt(maxPayloadBytes),
      timeout,
      tlsCaCertPem: Buffer.from(ca),
      audience,
      allowInsecureTransport: insecure,
    })),
  };
}
