import type { IncomingHttpHeaders } from 'node:http';

/** Field lines as they came: name, value, name, value. */
export type RawFields = readonly string[];
export type Field = readonly [name: string, value: string];

/** Fields of one hop, which are not passed on (RFC 9110, 7.6.1), and those that frame a message, which are made anew. */
const HOP_BY_HOP: ReadonlySet<string> = new Set([
  'connection',
  'proxy-connection',
  'keep-alive',
  'proxy-authenticate',
  'proxy-authorization',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
  'content-length',
  'host',
  'http2-settings',
]);

/** The field lines that travel on, in their order and spelling; pseudo-header fields of HTTP/2 are none. */
export function endToEnd(raw: RawFields, connection: string | undefined): readonly Field[] {
  const named =
    connection === undefined ? [] : connection.split(',').map((name) => name.trim().toLowerCase());
  const fields: Field[] = [];
  for (let at = 0; at + 1 < raw.length; at += 2) {
    const name = raw[at] ?? '';
    const key = name.toLowerCase();
    if (key.startsWith(':') || HOP_BY_HOP.has(key) || named.includes(key)) continue;
    fields.push([name, raw[at + 1] ?? '']);
  }
  return fields;
}

/** How many field lines have this name, in lower case. */
export function countOf(raw: RawFields, name: string): number {
  let count = 0;
  for (let at = 0; at < raw.length; at += 2) if (raw[at]?.toLowerCase() === name) count += 1;
  return count;
}

/** The first value of a field, by its name in lower case. */
export const fieldValue = (fields: readonly Field[], name: string): string | undefined =>
  fields.find(([key]) => key.toLowerCase() === name)?.[1];

/** What was said of a request's body. */
export type Framing =
  | { readonly kind: 'none' }
  | { readonly kind: 'length'; readonly bytes: number }
  | { readonly kind: 'chunked' };

/**
 * How the body of an HTTP/1.1 request is framed, or why that is not clear (RFC 9112, 6.1 and 6.3). Node's parser has
 * decided already; this refuses whatever another parser could read in another way.
 */
export function requestFraming(
  headers: IncomingHttpHeaders,
  raw: RawFields,
  version: string,
): Framing | { readonly kind: 'ambiguous'; readonly why: string } {
  if (version !== '1.1' && version !== '1.0')
    return { kind: 'ambiguous', why: `it says to be of HTTP/${version.slice(0, 8)}` };
  const codings = countOf(raw, 'transfer-encoding');
  const lengths = countOf(raw, 'content-length');
  if (codings > 0 && lengths > 0)
    return { kind: 'ambiguous', why: 'it has both a length and a transfer coding' };
  if (codings > 1 || lengths > 1) return { kind: 'ambiguous', why: 'it says its length twice' };
  if (codings === 1) {
    const coding = headers['transfer-encoding']?.trim().toLowerCase();
    if (version !== '1.1' || coding !== 'chunked')
      return { kind: 'ambiguous', why: `its transfer coding is ${coding ?? 'empty'}` };
    return { kind: 'chunked' };
  }
  if (lengths === 0) return { kind: 'none' };
  const text = headers['content-length'] ?? '';
  if (!/^\d{1,15}$/.test(text)) return { kind: 'ambiguous', why: 'its length is no number' };
  return { kind: 'length', bytes: Number(text) };
}
