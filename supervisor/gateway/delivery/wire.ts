import {
  PolicyStatus,
  type PushSandboxLogsRequest,
  type RecordKey,
  type ReportMainProcessExitRequest,
  type ReportPolicyStatusRequest,
  type SandboxLogLine,
  type SubmitPolicyAnalysisRequest,
} from '../../../proto/generated/openshell/v1/openshell.ts';
import type { Entry, RecordEntry } from '../../buffer/record.ts';

/** One call to the gateway. */
export type Call =
  | { readonly kind: 'lines'; readonly request: PushSandboxLogsRequest }
  | { readonly kind: 'policy-status'; readonly request: ReportPolicyStatusRequest }
  | { readonly kind: 'exit'; readonly request: ReportMainProcessExitRequest }
  | { readonly kind: 'analysis'; readonly request: SubmitPolicyAnalysisRequest };

/** Names a record in the fields of a log line: whoever meets it twice may drop the second. */
export const BOOT_FIELD = 'openshell.boot';
export const CLASS_FIELD = 'openshell.class';
export const SEQUENCE_FIELD = 'openshell.sequence';

/** How many entries from the first on go in one call: lines together, anything else alone. */
export function runLength(entries: readonly Entry[]): number {
  const other = entries.findIndex((entry) => !isLine(entry));
  if (other === 0) return 1;
  return other < 0 ? entries.length : other;
}

/** The call for a run of entries, of which there is at least one. */
export function callFor(run: readonly Entry[], sandboxId: string, nowMs: number): Call {
  const [first] = run;
  if (first?.type === 'record') {
    const { record } = first;
    switch (record.kind) {
      case 'policy-status': {
        const { version, loaded, error: loadError } = record;
        const status = loaded ? PolicyStatus.POLICY_STATUS_LOADED : PolicyStatus.POLICY_STATUS_FAILED;
        return {
          kind: 'policy-status',
          request: { sandboxId, version, status, loadError, record: keyOf(first) },
        };
      }
      case 'exit': {
        const { instanceId, exitCode } = record;
        return { kind: 'exit', request: { sandboxId, instanceId, exitCode, record: keyOf(first) } };
      }
      case 'denials':
        return { kind: 'analysis', request: { ...record.request, record: keyOf(first) } };
      case 'log':
      case 'event':
      case 'sample':
    }
  }
  return { kind: 'lines', request: { sandboxId, logs: run.map((entry) => lineOf(entry, sandboxId, nowMs)) } };
}

function isLine(entry: Entry): boolean {
  return entry.type === 'gap' || ['log', 'event', 'sample'].includes(entry.record.kind);
}

const keyOf = ({ boot, class: name, sequence }: RecordEntry): RecordKey => ({
  boot,
  class: name,
  sequence: BigInt(sequence),
});

function lineOf(entry: Entry, sandboxId: string, nowMs: number): SandboxLogLine {
  const base = { sandboxId, source: 'sandbox' } as const;
  if (entry.type === 'gap') {
    const { boot, class: name, first, last, count, lostBytes, reason } = entry;
    return {
      ...base,
      timestampMs: instant(nowMs),
      level: 'WARN',
      target: 'buffer',
      message: `${count} records of class ${name} were lost: ${reason}`,
      fields: {
        [BOOT_FIELD]: boot,
        [CLASS_FIELD]: name,
        first: `${first}`,
        last: `${last}`,
        count: `${count}`,
        bytes: `${lostBytes}`,
        reason,
      },
    };
  }
  const { record } = entry;
  const key = { [BOOT_FIELD]: entry.boot, [CLASS_FIELD]: entry.class, [SEQUENCE_FIELD]: `${entry.sequence}` };
  const stamped = { ...base, timestampMs: instant(record.at) };
  switch (record.kind) {
    case 'log': {
      const { level, target, message, fields } = record;
      return { ...stamped, level, target, message, fields: { ...fields, ...key } };
    }
    case 'event':
      return { ...stamped, level: 'OCSF', target: 'ocsf', message: record.message, fields: key };
    case 'sample': {
      const fields = { ...record.values, ...key };
      return { ...stamped, level: 'DEBUG', target: 'sample', message: record.name, fields };
    }
    case 'policy-status':
    case 'exit':
    case 'denials':
      throw new Error(`a record of kind ${record.kind} is no line`);
  }
}

/** A clock can be wrong by any amount; the wire takes an integer. */
const instant = (ms: number): bigint => BigInt(Number.isFinite(ms) ? Math.trunc(ms) : 0);
