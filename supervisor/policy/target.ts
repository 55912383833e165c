import { err, ok, type Result } from '../result.ts';
import type { CompiledEndpoint } from './compilation.ts';
import type { Grant } from './intent.ts';
import type { QueryParameters } from './request.ts';
import { routeRequest } from './request-decision.ts';

/** In bytes, of the path alone. */
export const MAX_PATH_BYTES = 4096;

/** A request target as policy sees it and as it is forwarded. */
export interface CanonicalTarget {
  /** Begins with a slash; holds no `.` or `..` segment, no empty one but the last, no `;parameters`. */
  readonly path: string;
  /** What follows the first `?`, as it came; undefined without one. */
  readonly query: string | undefined;
  /** Whether the path differs from what came. */
  readonly rewritten: boolean;
}

/** Visible ASCII but `#`. */
const VISIBLE = /^[!"$-~]*$/;

/** Most paths: slashes, and between them what needs no escape and is no dot segment. */
const CANONICAL = /^(?:\/(?!\.{1,2}(?:\/|$))[A-Za-z0-9\-._~!$&'()*+,=:@]+)+\/?$/;

/**
 * Brings a request target in origin form or absolute form into the one spelling that is decided on and
 * forwarded (contract.md, 7.7). The error says why it has none; such a request is not answered.
 */
export function canonicalizeTarget(
  target: string,
  options: { readonly allowEncodedSlash: boolean },
): Result<CanonicalTarget, string> {
  if (!VISIBLE.test(target))
    return err('holds a control character, a blank, a character outside ASCII or a fragment');
  const mark = target.indexOf('?');
  const before = mark < 0 ? target : target.slice(0, mark);
  const query = mark < 0 ? undefined : target.slice(mark + 1);
  if (before.length <= MAX_PATH_BYTES && CANONICAL.test(before))
    return ok({ path: before, query, rewritten: false });
  const raw = pathOf(before);
  if (raw === undefined) return err('is neither a path nor a URL');
  if (raw.length > MAX_PATH_BYTES) return err(`has a path of more than ${MAX_PATH_BYTES} bytes`);
  const segments: string[] = [];
  const parts = raw.slice(1).split('/');
  for (const [index, part] of parts.entries()) {
    const isLast = index === parts.length - 1;
    const decoded = canonicalSegment(part, options.allowEncodedSlash);
    if (!decoded.ok) return decoded;
    const segment = decoded.value;
    if (segment === '..' && segments.pop() === undefined) return err('climbs above the root');
    if (segment === '..' || segment === '.' || segment === '') {
      if (isLast) segments.push('');
    } else if (segment.split('%2F').some((piece) => piece === '.' || piece === '..'))
      return err('hides a dot segment behind an encoded slash');
    else segments.push(segment);
  }
  const path = `/${segments.join('/')}`;
  return ok({ path, query, rewritten: path !== before });
}

/** The path of an origin-form or absolute-form target; `*` and authorities are none. */
function pathOf(target: string): string | undefined {
  if (target === '') return '/';
  if (target.startsWith('/')) return target;
  const absolute = /^[a-z][a-z0-9+.-]*:\/\/[^/]+(\/.*)?$/i.exec(target);
  return absolute === null ? undefined : (absolute[1] ?? '/');
}

/** What a path segment may hold as it is (RFC 3986, pchar), beside the semicolon that begins parameters. */
const PLAIN = /[A-Za-z0-9\-._~!$&'()*+,=:@]/;

/** Decodes what needs no escape, encodes what does, and drops parameters: an escaped semicolon begins them too. */
function canonicalSegment(segment: string, allowEncodedSlash: boolean): Result<string, string> {
  let out = '';
  for (let at = 0; at < segment.length; at++) {
    let code = segment.charCodeAt(at);
    if (segment.charAt(at) === '%') {
      const hex = segment.slice(at + 1, at + 3);
      if (!/^[0-9a-f]{2}$/i.test(hex)) return err('holds a percent sign that escapes nothing');
      code = Number.parseInt(hex, 16);
      at += 2;
      if (code < 0x20 || code === 0x7f) return err('holds an encoded control character');
      if (code === 0x2f) {
        if (!allowEncodedSlash) return err('holds an encoded slash (%2F), which its endpoint does not allow');
        out += '%2F';
        continue;
      }
    }
    const character = String.fromCharCode(code);
    // Everything behind it goes, but it is still looked at: what is malformed stays so.
    if (character === ';') return checkRest(segment, at + 1, out, allowEncodedSlash);
    out += PLAIN.test(character) ? character : `%${code.toString(16).toUpperCase().padStart(2, '0')}`;
  }
  return ok(out);
}

function checkRest(
  segment: string,
  from: number,
  out: string,
  allowEncodedSlash: boolean,
): Result<string, string> {
  const rest = canonicalSegment(segment.slice(from), allowEncodedSlash);
  return rest.ok ? ok(out) : rest;
}

/** Most keys and values that are looked at: more is refused rather than decided upon in part. */
const MAX_PARAMETERS = 1000;

/**
 * Decodes a query as servers do: `&` between pairs, the first `=` in a pair, `+` for a blank, UTF-8. The
 * error says why it cannot be.
 */
export function parseQuery(raw: string | undefined): Result<QueryParameters, string> {
  const parameters = new Map<string, string[]>();
  if (raw === undefined || raw === '') return ok(parameters);
  const pairs = raw.split('&');
  if (pairs.length > MAX_PARAMETERS) return err(`has more than ${MAX_PARAMETERS} query parameters`);
  for (const pair of pairs) {
    if (pair === '') continue;
    const equals = pair.indexOf('=');
    const key = decodeComponent(equals < 0 ? pair : pair.slice(0, equals));
    const value = decodeComponent(equals < 0 ? '' : pair.slice(equals + 1));
    if (key === undefined || value === undefined) return err('has a query that cannot be decoded');
    const values = parameters.get(key);
    if (values === undefined) parameters.set(key, [value]);
    else values.push(value);
  }
  return ok(parameters);
}

function decodeComponent(text: string): string | undefined {
  if (!text.includes('%') && !text.includes('+')) return text;
  try {
    return decodeURIComponent(text.replaceAll('+', ' '));
  } catch {
    return undefined;
  }
}

/** A target that an endpoint covers. */
export interface AdmittedTarget {
  readonly path: string;
  /** As it came; undefined without a question mark. */
  readonly rawQuery: string | undefined;
  readonly query: QueryParameters;
  /** Undefined only where no endpoint of the grant is inspected: then requests are not decided on. */
  readonly endpoint: CompiledEndpoint | undefined;
}

export interface TargetFailure {
  /** `malformed` is not answered at all; `uncovered` is denied. */
  readonly kind: 'malformed' | 'uncovered';
  readonly reason: string;
}

/**
 * Canonicalises a request's target and finds the endpoint that it belongs to. An encoded slash is let
 * through by the endpoint that the whole path leads to, not by another one of the same host.
 */
export function admitTarget(grant: Grant, target: string): Result<AdmittedTarget, TargetFailure> {
  const malformed = (reason: string) => err({ kind: 'malformed', reason: `the target ${reason}` } as const);
  const allowEncodedSlash = grant.endpoints.some(({ options }) => options.allowEncodedSlash);
  const canonical = canonicalizeTarget(target, { allowEncodedSlash });
  if (!canonical.ok) return malformed(canonical.error);
  const { path, query: rawQuery } = canonical.value;
  const query = parseQuery(rawQuery);
  if (!query.ok) return malformed(query.error);
  const endpoint = routeRequest(grant, path);
  if (endpoint === undefined && grant.endpoints.some(({ inspected }) => inspected))
    return err({ kind: 'uncovered', reason: `no endpoint of the policy covers the path ${path}` });
  if (path.includes('%2F') && endpoint?.options.allowEncodedSlash === false)
    return malformed('holds an encoded slash (%2F), which its endpoint does not allow');
  return ok({ path, rawQuery, query: query.value, endpoint });
}
