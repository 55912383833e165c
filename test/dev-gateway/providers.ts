import * as v from 'valibot';
import { GetSandboxProviderEnvironmentResponse } from '../../proto/generated/openshell/v1/openshell.ts';

const Credential = v.strictObject({
  value: v.string(),
  /** Where it may be sent; absent for what is no secret. */
  endpoints: v.optional(
    v.array(v.strictObject({ host: v.string(), port: v.number(), path: v.optional(v.string(), '') })),
  ),
  identity: v.optional(v.string(), 'dev'),
  handle: v.optional(v.string(), ''),
  expiresAtMs: v.optional(v.number()),
});
const Credentials = v.record(v.string(), Credential);

/** `{KEY: {value, endpoints: [{host, port, path}], …}}` as the gateway answers it. Throws what is wrong with the text. */
export function readProviders(text: string, revision: bigint): GetSandboxProviderEnvironmentResponse {
  const all = Object.entries(v.parse(Credentials, JSON.parse(text)));
  const bound = all.filter(([, { endpoints }]) => endpoints !== undefined);
  return GetSandboxProviderEnvironmentResponse.fromPartial({
    environment: Object.fromEntries(all.map(([key, { value }]) => [key, value])),
    providerEnvRevision: revision,
    credentialExpiresAtMs: Object.fromEntries(
      all.flatMap(([key, { expiresAtMs }]) =>
        expiresAtMs === undefined ? [] : [[key, BigInt(expiresAtMs)]],
      ),
    ),
    staticCredentialBindings: Object.fromEntries(
      bound.map(([key, { endpoints = [], identity, handle }]) => [
        key,
        { endpoints, credentialIdentity: identity, workloadCredentialHandle: handle },
      ]),
    ),
    nonSecretEnvironmentKeys: all.filter(([, { endpoints }]) => endpoints === undefined).map(([key]) => key),
  });
}
