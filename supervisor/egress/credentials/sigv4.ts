import { createHash, createHmac } from 'node:crypto';
import type { Field } from '../http/fields.ts';

/** Access keys as they are; they never leave the function that signs. */
export interface AwsKeys {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken: string | undefined;
}

export interface SigningScope {
  readonly region: string;
  readonly service: string;
}

export interface SignableRequest {
  readonly method: string;
  /** What Host will say. */
  readonly authority: string;
  /** Path and query as they go out. */
  readonly path: string;
  readonly rawQuery: string | undefined;
  readonly fields: readonly Field[];
  /** Hexadecimal SHA-256 of the body, or a word of AWS such as UNSIGNED-PAYLOAD. */
  readonly payload: string;
}

/** Fields that the workload's own signature had; ours come in their place (contract.md, 8.3). */
const REPLACED: ReadonlySet<string> = new Set([
  'authorization',
  'x-amz-date',
  'x-amz-security-token',
  'x-amz-content-sha256',
  'expect',
]);
/** Passed on and not signed, because proxies may change them. */
const UNSIGNED = /^(connection|accept-encoding|transfer-encoding|user-agent|amz-sdk-.*|host|content-length)$/;
export const UNSIGNED_PAYLOAD = 'UNSIGNED-PAYLOAD';

export const sha256 = (data: string | Uint8Array): string => createHash('sha256').update(data).digest('hex');
const hmac = (key: string | Buffer, data: string): Buffer => createHmac('sha256', key).update(data).digest();

/** The fields of a request with an AWS Signature Version 4 for it; `atMs` is milliseconds since the epoch. */
export function signRequest(
  request: SignableRequest,
  keys: AwsKeys,
  { region, service }: SigningScope,
  atMs: number,
): readonly Field[] {
  const stamp = new Date(atMs).toISOString().replaceAll(/[-:]|\.\d{3}/g, '');
  const day = stamp.slice(0, 8);
  const kept = request.fields.filter(([name]) => !REPLACED.has(name.toLowerCase()));
  const added: Field[] = [['x-amz-date', stamp]];
  // Only S3 wants to be told the hash as a field; the others do not mind.
  if (service === 's3') added.push(['x-amz-content-sha256', request.payload]);
  if (keys.sessionToken !== undefined) added.push(['x-amz-security-token', keys.sessionToken]);
  const signed = new Map<string, string[]>([['host', [request.authority]]]);
  for (const [name, value] of [...kept, ...added]) {
    const key = name.toLowerCase();
    if (UNSIGNED.test(key)) continue;
    signed.set(key, [...(signed.get(key) ?? []), value.trim().replaceAll(/ +/g, ' ')]);
  }
  const names = [...signed.keys()].sort();
  const canonical = [
    request.method,
    canonicalPath(request.path, service),
    canonicalQuery(request.rawQuery ?? ''),
    ...names.map((name) => `${name}:${signed.get(name)?.join(',')}`),
    '',
    names.join(';'),
    request.payload,
  ].join('\n');
  const scope = `${day}/${region}/${service}/aws4_request`;
  const toSign = ['AWS4-HMAC-SHA256', stamp, scope, sha256(canonical)].join('\n');
  const key = hmac(hmac(hmac(hmac(`AWS4${keys.secretAccessKey}`, day), region), service), 'aws4_request');
  const signature = createHmac('sha256', key).update(toSign).digest('hex');
  const credential = `${keys.accessKeyId}/${scope}`;
  return [
    ...kept,
    ...added,
    [
      'Authorization',
      `AWS4-HMAC-SHA256 Credential=${credential}, SignedHeaders=${names.join(';')}, Signature=${signature}`,
    ],
  ];
}

/** The region in a host of AWS: the label before amazonaws.com, but for `dualstack`. */
export function regionOf(host: string): string | undefined {
  const match = /^(.+)\.amazonaws\.com(?:\.cn)?$/.exec(host);
  const labels = match?.[1]?.split('.').filter((label) => label !== 'dualstack') ?? [];
  const region = labels.at(-1);
  return region !== undefined && /^[a-z]{2}(-[a-z]+)+-\d+$/.test(region) ? region : undefined;
}

/** S3 signs the path as it is sent; every other service a second encoding of it. */
function canonicalPath(path: string, service: string): string {
  return service === 's3' ? path : path.split('/').map(encode).join('/');
}

function canonicalQuery(raw: string): string {
  if (raw === '') return '';
  const pairs = raw.split('&').map((pair): readonly [string, string] => {
    const equals = pair.indexOf('=');
    const [name, value] = equals < 0 ? [pair, ''] : [pair.slice(0, equals), pair.slice(equals + 1)];
    return [encode(decode(name)), encode(decode(value))];
  });
  const order = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);
  return pairs
    .sort(([a, x], [b, y]) => order(a, b) || order(x, y))
    .map(([name, value]) => `${name}=${value}`)
    .join('&');
}

/** RFC 3986: everything but the unreserved characters. */
const encode = (text: string): string =>
  encodeURIComponent(text).replaceAll(
    /[!'()*]/g,
    (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`,
  );

function decode(text: string): string {
  try {
    return decodeURIComponent(text.replaceAll('+', ' '));
  } catch {
    return text;
  }
}
