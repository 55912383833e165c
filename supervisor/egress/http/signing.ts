import type { Endpoint } from '../../policy/document.ts';
import { err, ok, type Result } from '../../result.ts';
import type { CredentialFault, RequestPlace } from '../credentials/credential-store.ts';
import type { AllowedHead } from '../credentials/inject-head.ts';
import { type AwsKeys, regionOf, sha256, signRequest, UNSIGNED_PAYLOAD } from '../credentials/sigv4.ts';
import type { ConnectionContext } from './connection-context.ts';
import { type Field, fieldValue } from './fields.ts';

/** Of a body that is hashed (contract.md, 8.3). */
export const MAX_SIGNED_BYTES = 10 << 20;
/** What an SDK sends when it signs no part of the body but lets a checksum follow. */
const UNSIGNED_TRAILER = 'STREAMING-UNSIGNED-PAYLOAD-TRAILER';

/** How the body of a request counts in its signature. */
export type Payload =
  | { readonly kind: 'hashed' }
  | { readonly kind: 'word'; readonly word: string }
  | { readonly kind: 'refused'; readonly reason: string };

/** Undefined for endpoints whose requests are not signed. */
export function payloadOf(options: Endpoint | undefined, fields: readonly Field[]): Payload | undefined {
  switch (options?.credentialSigning) {
    case 'sigv4:body':
      return { kind: 'hashed' };
    case 'sigv4:no_body':
      return { kind: 'word', word: UNSIGNED_PAYLOAD };
    case 'sigv4': {
      const said = fieldValue(fields, 'x-amz-content-sha256') ?? '';
      if (said === UNSIGNED_PAYLOAD || said === UNSIGNED_TRAILER) return { kind: 'word', word: said };
      if (said.startsWith('STREAMING-'))
        return {
          kind: 'refused',
          reason: `a body that is signed chunk by chunk (${said.slice(0, 60)}) cannot be signed anew`,
        };
      return { kind: 'hashed' };
    }
    default:
      return undefined;
  }
}

/** The head with a signature by the sandbox's AWS keys; `body` is what is hashed. */
export function signedHead(
  { credentials, intent }: ConnectionContext,
  options: Endpoint,
  request: AllowedHead & { readonly method: string; readonly authority: string },
  /** Of the request as it was decided on. */
  path: string,
  payload: Extract<Payload, { readonly kind: 'hashed' | 'word' }>,
  body: Buffer | undefined,
  atMs: number,
): Result<AllowedHead, CredentialFault> {
  const place: RequestPlace = { host: intent.host, port: intent.port, path };
  const unavailable = (key: string, reason: string) => err({ kind: 'unavailable', key, reason } as const);
  if (credentials === undefined) return unavailable('AWS_ACCESS_KEY_ID', 'there are no credentials here');
  const region = options.signingRegion === '' ? regionOf(intent.host) : options.signingRegion;
  if (region === undefined) return unavailable('AWS_REGION', 'the host names no region; set signing_region');
  const accessKeyId = credentials.current('AWS_ACCESS_KEY_ID', place);
  if (!accessKeyId.ok) return accessKeyId;
  const secretAccessKey = credentials.current('AWS_SECRET_ACCESS_KEY', place);
  if (!secretAccessKey.ok) return secretAccessKey;
  const sessionToken = credentials.current('AWS_SESSION_TOKEN', place);
  const keys: AwsKeys = {
    accessKeyId: accessKeyId.value,
    secretAccessKey: secretAccessKey.value,
    sessionToken: sessionToken.ok ? sessionToken.value : undefined,
  };
  const hash = payload.kind === 'word' ? payload.word : sha256(body ?? '');
  const fields = signRequest(
    { ...request, payload: hash },
    keys,
    { region, service: options.signingService },
    atMs,
  );
  return ok({ path: request.path, rawQuery: request.rawQuery, fields });
}
