import { createHash } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { extension, PerMessageDeflate } from 'ws';
import { countOf, type Field, fieldValue } from '../http/fields.ts';

/** RFC 6455, 1.3. */
const GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';
const DEFLATE = 'permessage-deflate';

/** Why a request is no WebSocket handshake (RFC 6455, 4.2.1); undefined when it is one. */
export function handshakeFault(request: IncomingMessage): string | undefined {
  const { method, headers, rawHeaders, httpVersion } = request;
  if (method !== 'GET' || httpVersion !== '1.1') return 'a WebSocket begins with GET and HTTP/1.1';
  if (headers['sec-websocket-version'] !== '13') return 'the WebSocket version is not 13';
  for (const name of ['sec-websocket-key', 'sec-websocket-version', 'upgrade'])
    if (countOf(rawHeaders, name) !== 1) return `the handshake must have one ${name}`;
  const key = headers['sec-websocket-key'] ?? '';
  if (!/^[A-Za-z0-9+/]{22}==$/.test(key)) return 'the WebSocket key is no 16 bytes in base64';
  return undefined;
}

/** Whether the server has understood the handshake with this key. */
export function isAccepted(key: string, fields: readonly Field[]): boolean {
  const expected = createHash('sha1').update(`${key}${GUID}`).digest('base64');
  return fieldValue(fields, 'sec-websocket-accept')?.trim() === expected;
}

const EXTENSIONS = 'sec-websocket-extensions';
const extensionsOf = (fields: readonly Field[]): string =>
  fields
    .filter(([name]) => name.toLowerCase() === EXTENSIONS)
    .map(([, value]) => value)
    .join(',');

/** The fields with no extension offered but the one that messages can be read through. */
export function readableOffer(fields: readonly Field[]): readonly Field[] {
  const offers = extensionsOf(fields)
    .split(',')
    .map((offer) => offer.trim())
    .filter((offer) => offer.split(';', 1)[0]?.trim() === DEFLATE);
  const others = fields.filter(([name]) => name.toLowerCase() !== EXTENSIONS);
  return offers.length === 0 ? others : [...others, ['Sec-WebSocket-Extensions', offers.join(', ')]];
}

/** Both ends of the compression that was agreed upon, or undefined without one. */
export interface Deflate {
  /** Reads what the client compressed. */
  readonly reader: PerMessageDeflate;
  /** Compresses as the client would have. */
  readonly writer: PerMessageDeflate;
}

/** Throws when the server agreed to something that was not `offered` (RFC 6455, 9.1; RFC 7692, 5.1). */
export function agreedDeflate(
  offered: readonly Field[],
  fields: readonly Field[],
  maxPayload: number,
): Deflate | undefined {
  const text = extensionsOf(fields);
  if (text.trim() === '') return undefined;
  const agreed = extension.parse(text);
  const names = Object.keys(agreed);
  const parameters = agreed[DEFLATE];
  if (names.length !== 1 || parameters?.length !== 1 || extensionsOf(offered) === '')
    throw new Error('the server agreed to an extension that was not offered');
  const writer = new PerMessageDeflate({ isServer: false, maxPayload });
  writer.accept(parameters);
  const reader = new PerMessageDeflate({ isServer: true, maxPayload });
  reader.params = writer.params;
  return { reader, writer };
}
