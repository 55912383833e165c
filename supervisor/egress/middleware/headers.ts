import { isUtf8 } from 'node:buffer';
import {
  ExistingHeaderAction,
  type HeaderMutation,
  type HttpHeader,
} from '../../../proto/generated/openshell/middleware/v1/middleware.ts';
import { err, ok, type Result } from '../../result.ts';
import type { Field } from '../http/fields.ts';
import { MAX_MUTATION_BYTES, MAX_MUTATIONS } from './limits.ts';

/** Credentials, routing and framing: a middleware neither sees them nor changes them (contract.md, 1.9). */
const PROTECTED: ReadonlySet<string> = new Set([
  'authorization',
  'proxy-authorization',
  'proxy-authenticate',
  'cookie',
  'host',
  'content-length',
  'transfer-encoding',
  'connection',
  'proxy-connection',
  'keep-alive',
  'te',
  'trailer',
  'upgrade',
]);
const isProtected = (name: string): boolean =>
  PROTECTED.has(name) || name.startsWith('x-amz-') || name.startsWith('x-openshell-credential');

const WRITABLE = 'x-openshell-middleware-';
const NAME = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;
/** What a field value may hold, character for byte (RFC 9110, 5.5). */
const VALUE = /^[\t\x20-\x7e\x80-\xff]*$/;

/** The field lines that a middleware sees: names in lower case, values as UTF-8 where they are that, else as Latin-1. */
export const visibleHeaders = (fields: readonly Field[]): readonly HttpHeader[] =>
  fields
    .map(([name, value]) => ({ name: name.toLowerCase(), value: textOf(value.trim()) }))
    .filter(({ name }) => !isProtected(name));

/** Node gives each byte of a value as one character. */
function textOf(value: string): string {
  const bytes = Buffer.from(value, 'latin1');
  return isUtf8(bytes) ? bytes.toString('utf8') : value;
}

/** The names that a Connection field makes ones of this hop, in lower case. */
export const nominatedBy = (connection: string | undefined): readonly string[] =>
  connection === undefined ? [] : connection.split(',').map((name) => name.trim().toLowerCase());

/**
 * Field lines after what a middleware has asked for, in its order: all of it, or none and a code that says why. What
 * it does not touch keeps its order and spelling.
 */
export function mutated(
  fields: readonly Field[],
  nominated: readonly string[],
  mutations: readonly HeaderMutation[],
): Result<readonly Field[], string> {
  if (mutations.length > MAX_MUTATIONS) return err('header_mutation_count_over_capacity');
  let result = [...fields];
  let bytes = 0;
  for (const { operation } of mutations) {
    if (operation === undefined) return err('header_mutation_empty');
    const name = operation.value.name.toLowerCase();
    if (!NAME.test(name)) return err('header_mutation_invalid_name');
    if (isProtected(name)) return err('header_mutation_protected_header');
    if (nominated.includes(name)) return err('header_mutation_hop_by_hop_header');
    bytes += name.length;
    const others = (): Field[] => result.filter(([other]) => other.toLowerCase() !== name);
    if (operation.$case === 'remove') {
      if (bytes > MAX_MUTATION_BYTES) return err('header_mutation_bytes_over_capacity');
      result = others();
      continue;
    }
    const { onExisting } = operation.value;
    const value = Buffer.from(operation.value.value, 'utf8').toString('latin1');
    if (!name.startsWith(WRITABLE)) return err('header_mutation_write_namespace');
    if (!VALUE.test(value)) return err('header_mutation_unsafe_value');
    bytes += value.length;
    if (bytes > MAX_MUTATION_BYTES) return err('header_mutation_bytes_over_capacity');
    const line: Field = [name, value.trim()];
    const exists = others().length < result.length;
    switch (onExisting) {
      case ExistingHeaderAction.EXISTING_HEADER_ACTION_APPEND:
        result.push(line);
        break;
      case ExistingHeaderAction.EXISTING_HEADER_ACTION_OVERWRITE:
        result = [...others(), line];
        break;
      case ExistingHeaderAction.EXISTING_HEADER_ACTION_SKIP:
        if (!exists) result.push(line);
        break;
      default:
        return err('header_mutation_missing_existing_action');
    }
  }
  return ok(result);
}
