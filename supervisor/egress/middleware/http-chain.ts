import {
  HttpHeader,
  SupervisorMiddlewarePhase,
} from '../../../proto/generated/openshell/middleware/v1/middleware.ts';
import type { Clock } from '../../clock.ts';
import { err, ok, type Result } from '../../result.ts';
import type { Field } from '../http/fields.ts';
import type { Evaluation, EvaluationOutcome } from './evaluation.ts';
import { visibleHeaders } from './headers.ts';
import { CHAIN_MS, MAX_FIELD_BYTES, MAX_FIELDS } from './limits.ts';
import { accepted, failureCode, type ReadyStage, type Stage } from './stage.ts';
import type { Subject } from './subject.ts';
import { type Changes, readChanges, readDecision, type Said } from './verdict.ts';

/** A request in front of its middlewares. */
export interface ChainRequest {
  readonly subject: Result<Subject, string>;
  readonly fields: readonly Field[];
  /** Names that its Connection field nominates, in lower case. */
  readonly nominated: readonly string[];
  /** Empty where there is none; `too-large` for more than any of the stages takes. */
  readonly body: Buffer | 'too-large';
  /** Whether policy lets the request pass as it is now; its denial is final. */
  readonly recheck: (fields: readonly Field[], body: Buffer | undefined) => boolean;
  readonly tell: (evaluation: Omit<Evaluation, 'method' | 'path'>) => void;
}

export type ChainOutcome =
  /** `body` is undefined when it is the one that came. */
  | { readonly kind: 'passed'; readonly fields: readonly Field[]; readonly body: Buffer | undefined }
  | { readonly kind: 'denied'; readonly middleware: string; readonly code: string | undefined }
  | { readonly kind: 'failed'; readonly middleware: string; readonly code: string }
  /** Policy does not allow what a middleware has made of it. */
  | { readonly kind: 'refused' };

/**
 * Takes a request through its middlewares, one after the other, within 30 s (contract.md, 1.9). What one of them
 * changes is what the next one sees, after policy has allowed it again.
 */
export async function runHttpChain(
  clock: Clock,
  stages: readonly Stage[],
  request: ChainRequest,
): Promise<ChainOutcome> {
  const deadline = clock.monotonic() + CHAIN_MS;
  let { fields } = request;
  let replaced: Buffer | undefined;
  for (const stage of stages) {
    const { name, service } = stage;
    const tell = (outcome: EvaluationOutcome, code?: string, findings: Said['findings'] = []): void =>
      request.tell({ middleware: name, service, operation: 'http', outcome, code, findings });
    const left = deadline - clock.monotonic();
    const asked = await askStage(clock, stage, { ...request, fields, body: replaced ?? request.body }, left);
    if (!asked.ok) {
      tell(stage.failsOpen ? 'passed-over' : 'failed', asked.error);
      if (stage.failsOpen) continue;
      return { kind: 'failed', middleware: name, code: asked.error };
    }
    const { said, changes } = asked.value;
    if (said.decision === 'deny') {
      tell('denied', said.code, said.findings);
      return { kind: 'denied', middleware: name, code: said.code };
    }
    const changed = changes.fields !== fields || changes.body !== undefined;
    tell(changed ? 'changed' : 'allowed', undefined, said.findings);
    if (!changed) continue;
    fields = changes.fields;
    replaced = changes.body ?? replaced;
    if (!request.recheck(fields, replaced)) return { kind: 'refused' };
  }
  return { kind: 'passed', fields, body: replaced };
}

interface Answer {
  readonly said: Said;
  readonly changes: Changes;
}

async function askStage(
  clock: Clock,
  { ready, service }: Stage,
  { subject, fields, nominated, body }: ChainRequest,
  leftMs: number,
): Promise<Result<Answer, string>> {
  if (!ready.ok) return ready;
  if (!subject.ok) return subject;
  const { available, binding, config } = ready.value;
  if (body === 'too-large' || body.length > binding.maxPayloadBytes) return err('request_body_over_capacity');
  const headers = visibleHeaders(fields);
  if (headers.length > MAX_FIELDS) return err('request_header_count_over_capacity');
  const bytes = headers.reduce((sum, header) => sum + HttpHeader.encode(header).finish().length, 0);
  if (bytes > MAX_FIELD_BYTES) return err('request_header_bytes_over_capacity');
  const timeoutMs = Math.min(binding.timeoutMs, leftMs);
  if (timeoutMs <= 0) return err('middleware_chain_timeout');
  const startedAt = clock.monotonic();
  const takes = await accepted(ready.value);
  if (!takes.ok) return takes;
  try {
    const result = await available.service.evaluate(
      {
        phase: SupervisorMiddlewarePhase.SUPERVISOR_MIDDLEWARE_PHASE_PRE_CREDENTIALS,
        ...subject.value,
        config: config.encoded,
        headers,
        body,
        middlewareName: service,
      },
      config,
      Math.max(1, Math.min(timeoutMs, leftMs - (clock.monotonic() - startedAt))),
    );
    return readAnswer(result, ready.value, service, fields, nominated);
  } catch (error) {
    return err(failureCode(error));
  }
}

function readAnswer(
  result: Awaited<ReturnType<ReadyStage['available']['service']['evaluate']>>,
  { available, binding }: ReadyStage,
  service: string,
  fields: readonly Field[],
  nominated: readonly string[],
): Result<Answer, string> {
  const said = readDecision(result, service, available.service.builtIn);
  if (!said.ok) return said;
  if (said.value.decision === 'deny') return ok({ said: said.value, changes: { fields, body: undefined } });
  const changes = readChanges(result, fields, nominated, binding.maxPayloadBytes);
  return changes.ok ? ok({ said: said.value, changes: changes.value }) : changes;
}
