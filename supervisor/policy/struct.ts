import { BinaryReader, BinaryWriter, WireType } from '@bufbuild/protobuf/wire';
import { err, ok, type Result } from '../result.ts';
import type { JsonObject, JsonValue } from './document.ts';

/** Deeper than any configuration; what is deeper would only exhaust the stack. */
const MAX_DEPTH = 64;

/** Reads an encoded google.protobuf.Struct, which is how JSON travels on the wire. */
export function structToJson(bytes: Uint8Array): Result<JsonObject, string> {
  try {
    return ok(readStruct(new BinaryReader(bytes), bytes.length, 0));
  } catch (error) {
    return err(error instanceof Error ? error.message : 'cannot be decoded');
  }
}

/** Encodes JSON as a google.protobuf.Struct. */
export function jsonToStruct(value: JsonObject): Uint8Array {
  return writeStruct(value, new BinaryWriter()).finish();
}

function readStruct(reader: BinaryReader, end: number, depth: number): JsonObject {
  if (depth > MAX_DEPTH) throw new Error(`is nested more than ${MAX_DEPTH} deep`);
  const object: Record<string, JsonValue> = Object.create(null);
  each(reader, end, (field) => {
    if (field !== 1) return false;
    let key = '';
    let value: JsonValue = null;
    const entryEnd = reader.uint32() + reader.pos;
    each(reader, entryEnd, (part) => {
      if (part === 1) key = reader.string();
      else if (part === 2) value = readValue(reader, reader.uint32() + reader.pos, depth + 1);
      else return false;
      return true;
    });
    object[key] = value;
    return true;
  });
  return object;
}

function readValue(reader: BinaryReader, end: number, depth: number): JsonValue {
  let value: JsonValue = null;
  each(reader, end, (field) => {
    if (field === 1) reader.int32();
    else if (field === 2) value = reader.double();
    else if (field === 3) value = reader.string();
    else if (field === 4) value = reader.bool();
    else if (field === 5) value = readStruct(reader, reader.uint32() + reader.pos, depth + 1);
    else if (field === 6) value = readList(reader, reader.uint32() + reader.pos, depth + 1);
    else return false;
    return true;
  });
  return value;
}

function readList(reader: BinaryReader, end: number, depth: number): readonly JsonValue[] {
  if (depth > MAX_DEPTH) throw new Error(`is nested more than ${MAX_DEPTH} deep`);
  const list: JsonValue[] = [];
  each(reader, end, (field) => {
    if (field !== 1) return false;
    list.push(readValue(reader, reader.uint32() + reader.pos, depth + 1));
    return true;
  });
  return list;
}

/** Reads fields up to `end`; what `read` does not know is skipped. */
function each(reader: BinaryReader, end: number, read: (field: number) => boolean): void {
  if (end > reader.len) throw new Error('ends too early');
  while (reader.pos < end) {
    const [field, type] = reader.tag();
    if (!read(field)) reader.skip(type, field);
  }
  if (reader.pos !== end) throw new Error('has a field that is longer than what it is in');
}

function writeStruct(object: JsonObject, writer: BinaryWriter): BinaryWriter {
  for (const [key, value] of Object.entries(object)) {
    writer.tag(1, WireType.LengthDelimited).fork();
    writer.tag(1, WireType.LengthDelimited).string(key);
    writeValue(value, writer.tag(2, WireType.LengthDelimited).fork()).join();
    writer.join();
  }
  return writer;
}

function writeValue(value: JsonValue, writer: BinaryWriter): BinaryWriter {
  if (value === null) return writer.tag(1, WireType.Varint).int32(0);
  if (typeof value === 'number') return writer.tag(2, WireType.Bit64).double(value);
  if (typeof value === 'string') return writer.tag(3, WireType.LengthDelimited).string(value);
  if (typeof value === 'boolean') return writer.tag(4, WireType.Varint).bool(value);
  if (!isList(value)) return writeStruct(value, writer.tag(5, WireType.LengthDelimited).fork()).join();
  writer.tag(6, WireType.LengthDelimited).fork();
  for (const item of value) writeValue(item, writer.tag(1, WireType.LengthDelimited).fork()).join();
  return writer.join();
}

const isList = (value: JsonValue): value is readonly JsonValue[] => Array.isArray(value);
