import { crc32 } from 'node:zlib';
import { SubmitPolicyAnalysisRequest } from '../../proto/generated/openshell/v1/openshell.ts';
import type { BufferRecord } from './record.ts';

/** A record as text, for a database. */
export function encodeRecord(record: BufferRecord): string {
  switch (record.kind) {
    case 'log':
      return JSON.stringify(['log', record.at, record.level, record.target, record.message, record.fields]);
    case 'event':
      return JSON.stringify(['event', record.at, record.message]);
    case 'policy-status':
      return JSON.stringify(['policy-status', record.at, record.version, record.loaded, record.error]);
    case 'exit':
      return JSON.stringify(['exit', record.at, record.instanceId, record.exitCode]);
    case 'denials': {
      const request = Buffer.from(SubmitPolicyAnalysisRequest.encode(record.request).finish());
      return JSON.stringify(['denials', record.at, request.toString('base64')]);
    }
    case 'sample':
      return JSON.stringify(['sample', record.at, record.name, record.values]);
  }
}

/**
 * What {@link encodeRecord} made a text of; undefined for anything else, a newer version's kinds included.
 * An instant that JSON cannot hold (NaN) comes back as 0.
 */
export function decodeRecord(text: string): BufferRecord | undefined {
  let parts: unknown;
  try {
    parts = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (!Array.isArray(parts)) return undefined;
  const [kind, when, a, b, c, d] = parts as readonly unknown[];
  const at = typeof when === 'number' ? when : 0;
  const isText = (value: unknown): value is string => typeof value === 'string';
  switch (kind) {
    case 'log':
      return isText(a) && isText(b) && isText(c) && isFields(d)
        ? { kind, at, level: a, target: b, message: c, fields: d }
        : undefined;
    case 'event':
      return isText(a) ? { kind, at, message: a } : undefined;
    case 'policy-status':
      return typeof a === 'number' && typeof b === 'boolean' && isText(c)
        ? { kind, at, version: a, loaded: b, error: c }
        : undefined;
    case 'exit':
      return isText(a) && typeof b === 'number' ? { kind, at, instanceId: a, exitCode: b } : undefined;
    case 'denials':
      return isText(a) ? denials(at, a) : undefined;
    case 'sample':
      return isText(a) && isFields(b) ? { kind, at, name: a, values: b } : undefined;
    default:
      return undefined;
  }
}

/** Over the whole row, its name included: one that has strayed is no more believed than a damaged one. */
export function checksum(name: readonly (string | number)[], text: string): number {
  return crc32(text, crc32(name.join(' ')));
}

function denials(at: number, base64: string): BufferRecord | undefined {
  try {
    const request = SubmitPolicyAnalysisRequest.decode(Buffer.from(base64, 'base64'));
    return { kind: 'denials', at, request };
  } catch {
    return undefined;
  }
}

function isFields(value: unknown): value is Readonly<Record<string, string>> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false;
  return Object.values(value).every((one) => typeof one === 'string');
}
