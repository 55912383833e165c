import { err, ok, type Result } from '../../result.ts';
import type { Field } from '../http/fields.ts';
import type { CredentialFault, CredentialStore, RequestPlace } from './credential-store.ts';
import { holdsMarker, MARKER, replacePlaceholders } from './placeholder.ts';

/** The head of a request that policy has allowed. */
export interface AllowedHead {
  /** Canonical. */
  readonly path: string;
  readonly rawQuery: string | undefined;
  readonly fields: readonly Field[];
}

/**
 * Puts credentials in the place of their placeholders: in field values, also inside Basic, in path segments and in
 * query values (contract.md, 8.2). What looks like a placeholder and was not replaced is a fault: none may leave.
 */
export function injectHead(
  head: AllowedHead,
  store: CredentialStore,
  place: Omit<RequestPlace, 'path'>,
): Result<AllowedHead, CredentialFault> {
  const where: RequestPlace = { ...place, path: head.path };
  const resolve = (text: string): Resolved => {
    const replaced = replacePlaceholders(text, (placeholder) => store.resolve(placeholder, where));
    return replaced.ok && holdsMarker(replaced.value) ? left('placeholder') : replaced;
  };
  const fields: Field[] = [];
  for (const [name, value] of head.fields) {
    const replaced = injectField(name, value, resolve);
    if (!replaced.ok) return replaced;
    fields.push([name, replaced.value]);
  }
  const path = injectPath(head.path, resolve);
  if (!path.ok) return path;
  const rawQuery = head.rawQuery === undefined ? ok(undefined) : injectQuery(head.rawQuery, resolve);
  if (!rawQuery.ok) return rawQuery;
  return ok({ path: path.value, rawQuery: rawQuery.value, fields });
}

type Resolved = Result<string, CredentialFault>;
const left = (key: string): Result<never, CredentialFault> =>
  err({ kind: 'unavailable', key, reason: 'its placeholder stands where none is replaced' });

function injectField(name: string, value: string, resolve: (text: string) => Resolved): Resolved {
  const basic = /^(basic) +([A-Za-z0-9+/]+=*)$/i.exec(value);
  if (basic !== null) {
    const decoded = Buffer.from(basic[2] ?? '', 'base64').toString('utf8');
    if (!decoded.includes(MARKER)) return holdsMarker(decoded) ? left(name) : ok(value);
    const replaced = resolve(decoded);
    return replaced.ok ? ok(`${basic[1]} ${Buffer.from(replaced.value).toString('base64')}`) : replaced;
  }
  if (!value.includes(MARKER)) return holdsMarker(value) ? left(name) : ok(value);
  return resolve(value);
}

function injectPath(path: string, resolve: (text: string) => Resolved): Resolved {
  if (!holdsMarker(path)) return ok(path);
  const segments: string[] = [];
  for (const segment of path.split('/')) {
    const decoded = decode(segment);
    if (decoded === undefined || !decoded.includes(MARKER)) {
      if (holdsMarker(segment)) return left('path');
      segments.push(segment);
      continue;
    }
    const replaced = resolve(decoded);
    if (!replaced.ok) return replaced;
    // A value that changes which path this is would go where nobody decided.
    if (/[/\\?#]|^\.$|\.\./.test(replaced.value) || hasControl(replaced.value)) return left('path');
    segments.push(encodeURIComponent(replaced.value));
  }
  return ok(segments.join('/'));
}

function hasControl(text: string): boolean {
  for (let at = 0; at < text.length; at += 1) {
    const code = text.charCodeAt(at);
    if (code < 0x20 || code === 0x7f) return true;
  }
  return false;
}

function injectQuery(query: string, resolve: (text: string) => Resolved): Resolved {
  if (!holdsMarker(query)) return ok(query);
  const pairs: string[] = [];
  for (const pair of query.split('&')) {
    const equals = pair.indexOf('=');
    const name = equals < 0 ? pair : pair.slice(0, equals);
    const value = equals < 0 ? '' : pair.slice(equals + 1);
    if (holdsMarker(name)) return left('query');
    const decoded = decode(value.replaceAll('+', ' '));
    if (decoded === undefined || !decoded.includes(MARKER)) {
      if (holdsMarker(pair)) return left('query');
      pairs.push(pair);
      continue;
    }
    const replaced = resolve(decoded);
    if (!replaced.ok) return replaced;
    pairs.push(`${name}=${encodeURIComponent(replaced.value)}`);
  }
  const out = pairs.join('&');
  return ok(out);
}

function decode(text: string): string | undefined {
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
}
