/**
 * What the buffer keeps: one line of log, audit or status, and the trace of lines it had to give up.
 * Sizes are bytes as accounted, which is what the bounds are stated in.
 */

/** Ordered by worth: what comes later is given up first; audit and status are worth the same. */
export const RECORD_CLASSES = ['audit', 'status', 'logs', 'samples'] as const;
export type RecordClass = (typeof RECORD_CLASSES)[number];

/** The higher the rank, the sooner a record goes when the buffer is full. */
export const RANK: Readonly<Record<RecordClass, number>> = { audit: 0, status: 0, logs: 1, samples: 2 };

/** A larger record is cut to this size. */
export const MAX_RECORD_BYTES = 64 * 1024;

/** Accounted for each entry on top of its text: object headers, the map of fields, the queue slot. */
export const ENTRY_OVERHEAD_BYTES = 128;

const MAX_LEVEL_BYTES = 32;
const MAX_TARGET_BYTES = 256;
const MAX_FIELDS_BYTES = 16 * 1024;

/** Names the field that counts the fields that a cut removed. */
export const CUT_FIELDS_KEY = 'openshell.cut_fields';

export interface LogRecord {
  /** Wall clock, milliseconds since the Unix epoch. */
  readonly at: number;
  readonly level: string;
  readonly target: string;
  readonly message: string;
  readonly fields: Readonly<Record<string, string>>;
}

/** (boot, class, sequence) names a record once and for all; sequences rise by one within a class. */
export interface RecordEntry {
  readonly type: 'record';
  readonly boot: string;
  readonly class: RecordClass;
  readonly sequence: number;
  readonly record: LogRecord;
  readonly bytes: number;
}

/** Stands where records were lost: sequences `first` to `last` of its class, `count` of them. */
export interface GapEntry {
  readonly type: 'gap';
  readonly boot: string;
  readonly class: RecordClass;
  readonly first: number;
  readonly last: number;
  readonly count: number;
  /** Accounted bytes of the lost records. */
  readonly lostBytes: number;
  readonly reason: 'buffer full';
}

export type Entry = RecordEntry | GapEntry;

/** The accounted size of a record in bytes, its overhead included. */
export function recordBytes(record: LogRecord): number {
  let bytes = ENTRY_OVERHEAD_BYTES + Buffer.byteLength(record.level) + Buffer.byteLength(record.target);
  bytes += Buffer.byteLength(record.message);
  for (const [key, value] of Object.entries(record.fields)) bytes += fieldBytes(key, value);
  return bytes;
}

/** The accounted size of any entry in bytes. A gap never costs more than a record did. */
export function entryBytes(entry: Entry): number {
  return entry.type === 'record' ? entry.bytes : ENTRY_OVERHEAD_BYTES;
}

/**
 * The record itself when it fits {@link MAX_RECORD_BYTES}; else a copy that does, whose message ends in
 * `…[cut N bytes]` and whose fields say under {@link CUT_FIELDS_KEY} how many of them are missing.
 */
export function cutToLimit(record: LogRecord): LogRecord {
  if (recordBytes(record) <= MAX_RECORD_BYTES) return record;
  const level = cutText(record.level, MAX_LEVEL_BYTES);
  const target = cutText(record.target, MAX_TARGET_BYTES);
  const fields = cutFields(record.fields);
  const rest = MAX_RECORD_BYTES - recordBytes({ at: record.at, level, target, message: '', fields });
  return { at: record.at, level, target, message: cutText(record.message, rest), fields };
}

function cutFields(fields: LogRecord['fields']): LogRecord['fields'] {
  const kept: [string, string][] = [];
  let bytes = 0;
  let cut = 0;
  for (const [key, value] of Object.entries(fields)) {
    const size = fieldBytes(key, value);
    if (bytes + size > MAX_FIELDS_BYTES) {
      cut += 1;
      continue;
    }
    bytes += size;
    kept.push([key, value]);
  }
  if (cut > 0) kept.push([CUT_FIELDS_KEY, String(cut)]);
  return Object.fromEntries(kept);
}

function fieldBytes(key: string, value: string): number {
  return Buffer.byteLength(key) + Buffer.byteLength(value) + 16;
}

function cutText(text: string, maxBytes: number): string {
  const encoded = Buffer.from(text);
  if (encoded.length <= maxBytes) return text;
  // The count's width depends on where the cut falls, so room is kept for the widest.
  const room = maxBytes - Buffer.byteLength(marker(encoded.length));
  let end = Math.max(0, room);
  // A byte 10xxxxxx continues a character (RFC 3629, section 3): step back to where one begins.
  while (end > 0 && ((encoded[end] ?? 0) & 0xc0) === 0x80) end -= 1;
  return encoded.toString('utf8', 0, end) + marker(encoded.length - end);
}

function marker(cutBytes: number): string {
  return `…[cut ${cutBytes} bytes]`;
}
