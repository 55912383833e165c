import { SubmitPolicyAnalysisRequest } from '../../proto/generated/openshell/v1/openshell.ts';

/**
 * What the buffer keeps, and the trace of what it had to give up. Sizes are bytes as accounted, which is what the bounds are stated in.
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

/** A line of the supervisor's own log. */
export interface LogRecord {
  readonly kind: 'log';
  /** Wall clock, milliseconds since the Unix epoch; it may jump, and nothing here goes by it. */
  readonly at: number;
  readonly level: string;
  readonly target: string;
  readonly message: string;
  readonly fields: Readonly<Record<string, string>>;
}

/** An OCSF event, as its shorthand. */
export interface EventRecord {
  readonly kind: 'event';
  readonly at: number;
  readonly message: string;
}

/** What became of a revision of the policy. */
export interface PolicyStatusRecord {
  readonly kind: 'policy-status';
  readonly at: number;
  readonly version: number;
  readonly loaded: boolean;
  /** Why it was not loaded; empty when it was. */
  readonly error: string;
}

/** How the main process ended. */
export interface ExitRecord {
  readonly kind: 'exit';
  readonly at: number;
  readonly instanceId: string;
  readonly exitCode: number;
}

/** Denial summaries, proposals and activity counters of one flush. */
export interface DenialsRecord {
  readonly kind: 'denials';
  readonly at: number;
  readonly request: SubmitPolicyAnalysisRequest;
}

/** A measurement of passing interest: the first to go. */
export interface SampleRecord {
  readonly kind: 'sample';
  readonly at: number;
  readonly name: string;
  readonly values: Readonly<Record<string, string>>;
}

/** All that is buffered. Records come redacted: no secret is ever part of one. */
export type BufferRecord =
  | LogRecord
  | EventRecord
  | PolicyStatusRecord
  | ExitRecord
  | DenialsRecord
  | SampleRecord;

/** (boot, class, sequence) names a record once and for all; sequences rise by one within a class. */
export interface RecordEntry {
  readonly type: 'record';
  readonly boot: string;
  readonly class: RecordClass;
  readonly sequence: number;
  readonly record: BufferRecord;
  readonly bytes: number;
}

/**
 * Why records were lost: the bound forced them out, the gateway will not take them, or what the disk gave
 * back was not what had been written.
 */
export const LOSS_REASONS = ['buffer full', 'refused', 'corrupt'] as const;
export type LossReason = (typeof LOSS_REASONS)[number];

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
  readonly reason: LossReason;
}

export type Entry = RecordEntry | GapEntry;

/** The accounted size of a record in bytes, its overhead included. */
export function recordBytes(record: BufferRecord): number {
  return ENTRY_OVERHEAD_BYTES + contentBytes(record);
}

function contentBytes(record: BufferRecord): number {
  switch (record.kind) {
    case 'log': {
      const { level, target, message, fields } = record;
      return (
        Buffer.byteLength(level) + Buffer.byteLength(target) + Buffer.byteLength(message) + sizeOf(fields)
      );
    }
    case 'event':
      return Buffer.byteLength(record.message);
    case 'policy-status':
      return Buffer.byteLength(record.error);
    case 'exit':
      return Buffer.byteLength(record.instanceId);
    case 'denials':
      return SubmitPolicyAnalysisRequest.encode(record.request).finish().length;
    case 'sample':
      return Buffer.byteLength(record.name) + sizeOf(record.values);
  }
}

function sizeOf(fields: Readonly<Record<string, string>>): number {
  let bytes = 0;
  for (const key in fields) bytes += fieldBytes(key, fields[key] ?? '');
  return bytes;
}

/** The accounted size of any entry in bytes. A gap never costs more than a record did. */
export function entryBytes(entry: Entry): number {
  return entry.type === 'record' ? entry.bytes : ENTRY_OVERHEAD_BYTES;
}

/**
 * The record itself when it fits {@link MAX_RECORD_BYTES}; else a copy that does and says so: a text ends in
 * `…[cut N bytes]`, fields say under {@link CUT_FIELDS_KEY} how many of them are missing, and an analysis
 * says in `cutItems`. Of an analysis the proposals go first, for the summaries can be analysed again.
 */
export function cutToLimit<R extends BufferRecord>(record: R, bytes?: number): R;
export function cutToLimit(record: BufferRecord, bytes = recordBytes(record)): BufferRecord {
  if (bytes <= MAX_RECORD_BYTES) return record;
  const room = (rest: BufferRecord): number => MAX_RECORD_BYTES - recordBytes(rest);
  switch (record.kind) {
    case 'log': {
      const level = cutText(record.level, MAX_LEVEL_BYTES);
      const target = cutText(record.target, MAX_TARGET_BYTES);
      const rest = { ...record, level, target, message: '', fields: cutFields(record.fields) };
      return { ...rest, message: cutText(record.message, room(rest)) };
    }
    case 'event':
      return { ...record, message: cutText(record.message, room({ ...record, message: '' })) };
    case 'policy-status':
      return { ...record, error: cutText(record.error, room({ ...record, error: '' })) };
    case 'exit':
      return { ...record, instanceId: cutText(record.instanceId, room({ ...record, instanceId: '' })) };
    case 'denials':
      return { ...record, request: cutAnalysis(record.request) };
    case 'sample':
      return { ...record, name: cutText(record.name, MAX_TARGET_BYTES), values: cutFields(record.values) };
  }
}

/** Halves the lists until the rest fits; one item that alone is too large goes as well. */
function cutAnalysis(request: SubmitPolicyAnalysisRequest): SubmitPolicyAnalysisRequest {
  const items = (one: SubmitPolicyAnalysisRequest): number =>
    one.proposedChunks.length + one.summaries.length + one.networkActivitySummaries.length;
  const half = <T>(list: readonly T[]): T[] => list.slice(0, Math.floor(list.length / 2));
  const name = cutText(request.name, MAX_TARGET_BYTES);
  const workspace = cutText(request.workspace, MAX_TARGET_BYTES);
  const analysisMode = cutText(request.analysisMode, MAX_TARGET_BYTES);
  let kept: SubmitPolicyAnalysisRequest = { ...request, name, workspace, analysisMode };
  const limit = MAX_RECORD_BYTES - ENTRY_OVERHEAD_BYTES;
  while (SubmitPolicyAnalysisRequest.encode(kept).finish().length > limit && items(kept) > 0) {
    if (kept.proposedChunks.length > 0) kept = { ...kept, proposedChunks: half(kept.proposedChunks) };
    else if (kept.summaries.length > 0) kept = { ...kept, summaries: half(kept.summaries) };
    else kept = { ...kept, networkActivitySummaries: half(kept.networkActivitySummaries) };
    kept = { ...kept, cutItems: request.cutItems + items(request) - items(kept) };
  }
  return kept;
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
