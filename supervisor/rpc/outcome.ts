import type { IncomingHttpHeaders } from 'node:http2';
import { BinaryReader } from '@bufbuild/protobuf/wire';
import { CallError, STATUS } from './status.ts';

/** Nobody's wish is honoured for longer. */
const MAX_RETRY_AFTER_MS = 600_000;

/** grpc/doc/http-grpc-status-mapping.md: what an intermediary's answer means. */
const OF_HTTP: Readonly<Record<number, number>> = {
  400: STATUS.INTERNAL,
  401: STATUS.UNAUTHENTICATED,
  403: STATUS.PERMISSION_DENIED,
  404: STATUS.UNIMPLEMENTED,
  429: STATUS.UNAVAILABLE,
  502: STATUS.UNAVAILABLE,
  503: STATUS.UNAVAILABLE,
  504: STATUS.UNAVAILABLE,
};

/** HTTP/2's error codes that mean more than INTERNAL (RFC 9113, section 7; grpc/doc/PROTOCOL-HTTP2.md). */
const OF_RESET: Readonly<Record<number, number>> = {
  7: STATUS.UNAVAILABLE, // REFUSED_STREAM
  8: STATUS.CANCELLED,
  11: STATUS.RESOURCE_EXHAUSTED, // ENHANCE_YOUR_CALM
  12: STATUS.PERMISSION_DENIED, // INADEQUATE_SECURITY
};

const text = (value: string | readonly string[] | undefined): string =>
  (typeof value === 'string' ? value : value?.[0]) ?? '';

/** The status in trailers, or in headers that are all of the answer; undefined is OK. */
export function statusOf(headers: IncomingHttpHeaders): CallError | undefined {
  const code = Number(text(headers['grpc-status']));
  if (code === 0) return undefined;
  const details = unescaped(text(headers['grpc-message']));
  return new CallError(
    Number.isInteger(code) ? code : STATUS.UNKNOWN,
    details,
    retryAfter(text(headers['grpc-status-details-bin'])),
  );
}

/** The failure of an answer that is not gRPC: some proxy's or load balancer's. */
export function statusOfHttp(httpStatus: number, headers: IncomingHttpHeaders): CallError {
  const seconds = Number(text(headers['retry-after']));
  const retryAfterMs = seconds > 0 ? Math.min(MAX_RETRY_AFTER_MS, seconds * 1000) : 0;
  return new CallError(OF_HTTP[httpStatus] ?? STATUS.UNKNOWN, `HTTP status ${httpStatus}`, retryAfterMs);
}

/** The failure of a stream that was reset; code 0 is one that ended without a status. */
export function statusOfReset(code: number): CallError {
  if (code === 0) return new CallError(STATUS.UNKNOWN, 'the answer has no status');
  return new CallError(OF_RESET[code] ?? STATUS.INTERNAL, `the stream was reset with HTTP/2 code ${code}`);
}

/** `%41` to `A`; what is no valid escape stays, because the message is only for people. */
function unescaped(message: string): string {
  try {
    return decodeURIComponent(message);
  } catch {
    return message;
  }
}

/**
 * The delay of a google.rpc.RetryInfo among the details of a google.rpc.Status, in milliseconds: Status is
 * { 3 details: Any }, Any { 1 type_url, 2 value }, RetryInfo { 1 Duration { 1 seconds, 2 nanos } }.
 */
export function retryAfter(detailsBase64: string): number {
  if (detailsBase64 === '') return 0;
  try {
    for (const any of fieldsOf(Buffer.from(detailsBase64, 'base64')).filter(({ number }) => number === 3)) {
      const parts = fieldsOf(any.bytes);
      const type = parts.find(({ number }) => number === 1)?.bytes.toString('utf8') ?? '';
      const value = parts.find(({ number }) => number === 2)?.bytes;
      if (!type.endsWith('/google.rpc.RetryInfo') || value === undefined) continue;
      const duration = fieldsOf(value).find(({ number }) => number === 1)?.bytes ?? Buffer.alloc(0);
      const [seconds, nanos] = [1, 2].map((number) =>
        Number(fieldsOf(duration).find((field) => field.number === number)?.varint ?? 0n),
      );
      const ms = (seconds ?? 0) * 1000 + (nanos ?? 0) / 1e6;
      return ms > 0 ? Math.min(MAX_RETRY_AFTER_MS, ms) : 0;
    }
  } catch {
    // Details that cannot be read ask for nothing.
  }
  return 0;
}

interface Field {
  readonly number: number;
  readonly bytes: Buffer;
  readonly varint: bigint;
}

function fieldsOf(message: Uint8Array): readonly Field[] {
  const reader = new BinaryReader(message);
  const fields: Field[] = [];
  while (reader.pos < reader.len) {
    const [number, wireType] = reader.tag();
    if (wireType === 2) fields.push({ number, bytes: Buffer.from(reader.bytes()), varint: 0n });
    else if (wireType === 0) fields.push({ number, bytes: Buffer.alloc(0), varint: BigInt(reader.int64()) });
    else reader.skip(wireType, number);
  }
  return fields;
}
