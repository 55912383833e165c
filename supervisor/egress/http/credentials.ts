import type { Readable } from 'node:stream';
import type { Endpoint } from '../../policy/document.ts';
import type { AdmittedTarget } from '../../policy/target.ts';
import { err, ok, type Result } from '../../result.ts';
import type { CredentialFault, CredentialStore, RequestPlace } from '../credentials/credential-store.ts';
import { type AllowedHead, injectHead } from '../credentials/inject-head.ts';
import { guardBody } from '../credentials/marker-guard.ts';
import { holdsMarker, replacePlaceholders } from '../credentials/placeholder.ts';
import type { ConnectionContext, LocalAnswer } from './connection-context.ts';
import { type Field, fieldValue } from './fields.ts';

/** Of a body whose placeholders are replaced (contract.md, 8.2). */
export const MAX_REWRITTEN_BYTES = 256 * 1024;

/** Why a request cannot go out with its credentials: also a token that could not be had. */
export type HeadFault =
  | CredentialFault
  | { readonly kind: 'no-token'; readonly key: string; readonly reason: string };

/** The head with its credentials in it; where there are none it is the same. May wait for a token. */
export async function headWithCredentials(
  { credentials, grants, intent }: ConnectionContext,
  target: AdmittedTarget,
  fields: readonly Field[],
): Promise<Result<AllowedHead, HeadFault>> {
  const plain: AllowedHead = { path: target.path, rawQuery: target.rawQuery, fields };
  const head = credentials === undefined ? ok(plain) : injectHead(plain, credentials, intent);
  if (!head.ok || grants === undefined) return head;
  const { host, port } = intent;
  const granted = await grants.inject(head.value.fields, { host, port, path: target.path });
  return granted.ok
    ? ok({ ...head.value, fields: granted.value })
    : err({ kind: 'no-token', key: 'token', reason: granted.error });
}

/** Whether a body must be read whole because its placeholders are to be replaced. */
export const rewritesBody = (
  { credentials }: ConnectionContext,
  options: Endpoint | undefined,
  fields: readonly Field[],
): boolean =>
  credentials !== undefined &&
  options?.requestBodyCredentialRewrite === true &&
  /^(application\/(json|x-www-form-urlencoded)|text\/[\w.+-]+)\s*(;|$)/i.test(
    fieldValue(fields, 'content-type') ?? '',
  ) &&
  fieldValue(fields, 'content-encoding') === undefined;

/** A body that is known whole, with credentials where `rewrite` allows them; a placeholder that is left is a fault. */
export function bodyWithCredentials(
  { credentials, intent }: ConnectionContext,
  body: Buffer,
  path: string,
  rewrite: boolean,
): Result<Buffer, CredentialFault> {
  if (credentials === undefined) return ok(body);
  const text = body.toString('utf8');
  if (!holdsMarker(text)) return ok(body);
  const left = err({
    kind: 'unavailable',
    key: 'body',
    reason: 'its placeholder stands where none is replaced',
  } as const);
  if (!rewrite || !Buffer.from(text).equals(body)) return left;
  const place: RequestPlace = { host: intent.host, port: intent.port, path };
  const replaced = replacePlaceholders(text, (placeholder) => credentials.resolve(placeholder, place));
  if (!replaced.ok) return replaced;
  return holdsMarker(replaced.value) ? left : ok(Buffer.from(replaced.value));
}

/** A body that streams through: broken off when a placeholder shows up in it. */
export function guarded(
  credentials: CredentialStore | undefined,
  body: Readable,
  onMarker: () => void,
): Readable {
  if (credentials === undefined || credentials.empty) return body;
  const guard = guardBody(onMarker);
  body.once('error', (error) => guard.destroy(error));
  body.once('aborted', () => guard.destroy(new Error('the client gave the body up')));
  guard.on('error', () => undefined);
  return body.pipe(guard);
}

/** What a workload is told when a credential cannot be used (contract.md, 7.8). Never holds a value. */
export function credentialAnswer(fault: HeadFault, { intent }: ConnectionContext): LocalAnswer {
  if (fault.kind === 'no-token')
    return {
      status: 502,
      body: { error: 'token_grant_failed', message: `there is no token for this request: ${fault.reason}` },
    };
  return fault.kind === 'mismatch'
    ? {
        status: 403,
        body: {
          error: 'credential_endpoint_mismatch',
          message: `the credential ${fault.key} is not bound to ${intent.host}:${intent.port} and this path`,
        },
      }
    : {
        status: 500,
        body: {
          error: 'credential_unavailable',
          message: `the credential ${fault.key} cannot be used: ${fault.reason}`,
        },
      };
}
