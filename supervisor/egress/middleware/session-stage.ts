import { isUtf8 } from 'node:buffer';
import {
  WebSocketPreflightAction as Action,
  WebSocketSessionEndReason as End,
  SupervisorMiddlewarePhase,
  type WebSocketMessageResult,
  type WebSocketPreflightDecision,
  type WebSocketSessionEvent,
  type WebSocketSessionEventResult,
} from '../../../proto/generated/openshell/middleware/v1/middleware.ts';
import type { Clock } from '../../clock.ts';
import { err, ok, type Result } from '../../result.ts';
import type { Evaluation, EvaluationOutcome } from './evaluation.ts';
import { MAX_SUBPROTOCOL_BYTES, MAX_SUBPROTOCOLS, PREFLIGHT_MS } from './limits.ts';
import type { SessionCall } from './service.ts';
import type { EndReason, SessionRequest } from './session.ts';
import { accepted, failureCode, type ReadyStage, type Stage } from './stage.ts';
import { checkEnvelope, observedFindings, readDecision, type Said } from './verdict.ts';

/** A selected subprotocol that is longer is told as none: it is only for information. */
const MAX_SELECTED_BYTES = 256;

export type OpenedStage =
  | { readonly kind: 'inspect'; readonly stage: SessionStage }
  /** It declined, or failed and is passed over. */
  | { readonly kind: 'out' }
  | { readonly kind: 'denied'; readonly middleware: string; readonly code: string | undefined }
  | { readonly kind: 'failed'; readonly middleware: string; readonly code: string };

/** Opens a stage's stream and asks whether it wants to see the WebSocket. */
export async function openStage(
  clock: Clock,
  stage: Stage,
  request: SessionRequest,
  sessionId: string,
  hasPlace: boolean,
): Promise<OpenedStage> {
  const { name, service, failsOpen, ready } = stage;
  const tell = (outcome: EvaluationOutcome, code?: string, findings: Said['findings'] = []): void =>
    request.tell({ middleware: name, service, operation: 'preflight', outcome, code, findings });
  const failed = (code: string): OpenedStage => {
    tell(failsOpen ? 'passed-over' : 'failed', code);
    return failsOpen ? { kind: 'out' } : { kind: 'failed', middleware: name, code };
  };
  if (!ready.ok) return failed(ready.error);
  if (!request.subject.ok) return failed(request.subject.error);
  if (!hasPlace) return failed('middleware_session_capacity_exhausted');
  const { subprotocols } = request;
  if (subprotocols.length > MAX_SUBPROTOCOLS || subprotocols.join().length > MAX_SUBPROTOCOL_BYTES)
    return failed('requested_subprotocols_over_capacity');
  const takes = await accepted(ready.value);
  if (!takes.ok) return failed(takes.error);
  const opened = new SessionStage(clock, stage, ready.value);
  const decision = await opened.preflight({
    sessionId,
    phase: SupervisorMiddlewarePhase.SUPERVISOR_MIDDLEWARE_PHASE_PRE_CREDENTIALS,
    ...request.subject.value,
    requestedSubprotocols: [...subprotocols],
    middlewareName: service,
    config: ready.value.config.encoded,
  });
  const fail = (code: string): OpenedStage => {
    opened.end(End.WEB_SOCKET_SESSION_END_REASON_MIDDLEWARE_FAILURE);
    return failed(code);
  };
  if (!decision.ok) return fail(decision.error);
  const envelope = checkEnvelope(decision.value);
  if (!envelope.ok) return fail(envelope.error);
  const findings = observedFindings(decision.value.findings, service, ready.value.available.service.builtIn);
  const code = decision.value.reasonCode === '' ? undefined : decision.value.reasonCode;
  switch (decision.value.action) {
    case Action.WEB_SOCKET_PREFLIGHT_ACTION_INSPECT:
      tell('allowed', undefined, findings);
      return { kind: 'inspect', stage: opened };
    case Action.WEB_SOCKET_PREFLIGHT_ACTION_SKIP:
      tell('skipped', undefined, findings);
      opened.end(End.WEB_SOCKET_SESSION_END_REASON_STAGE_SKIPPED);
      return { kind: 'out' };
    case Action.WEB_SOCKET_PREFLIGHT_ACTION_DENY:
      tell('denied', code, findings);
      opened.end(End.WEB_SOCKET_SESSION_END_REASON_MIDDLEWARE_DENIAL);
      return { kind: 'denied', middleware: name, code };
    default:
      return fail('invalid_preflight_action');
  }
}

/** What a stage answered to a message. */
export interface MessageAnswer {
  readonly said: Said;
  readonly replacement: Buffer | undefined;
}

type Answered = WebSocketSessionEventResult['result'];

/** One stage's stream for one WebSocket. A stream that breaks, or answers what was not asked, is used no more. */
export class SessionStage {
  readonly name: string;
  readonly failsOpen: boolean;
  readonly #clock: Clock;
  readonly #service: string;
  readonly #ready: ReadyStage;
  readonly #call: SessionCall;
  #active = true;
  #closed: string | undefined;
  #waiting: ((answer: Result<Answered, string>) => void) | undefined;

  constructor(clock: Clock, { name, service, failsOpen }: Stage, ready: ReadyStage) {
    this.#clock = clock;
    this.name = name;
    this.failsOpen = failsOpen;
    this.#service = service;
    this.#ready = ready;
    this.#call = ready.available.service.open(ready.config, {
      result: ({ result }) => {
        const waiting = this.#waiting;
        if (waiting === undefined) this.#closed ??= 'unexpected_websocket_response';
        else waiting(ok(result));
      },
      closed: (error) => {
        this.#closed ??= error === undefined ? 'websocket_stream_ended' : failureCode(error);
        this.#waiting?.(err(this.#closed));
      },
    });
  }

  /** Whether it is shown messages still. */
  get active(): boolean {
    return this.#active;
  }

  told(
    outcome: EvaluationOutcome,
    code: string | undefined,
  ): Omit<Evaluation, 'method' | 'path' | 'findings'> {
    return { middleware: this.name, service: this.#service, operation: 'message', outcome, code };
  }

  async preflight(
    value: Extract<WebSocketSessionEvent['event'], { $case: 'preflight' }>['value'],
  ): Promise<Result<WebSocketPreflightDecision, string>> {
    const timeoutMs = Math.min(PREFLIGHT_MS, this.#ready.binding.timeoutMs);
    const answer = await this.#exchange({ $case: 'preflight', value }, timeoutMs);
    if (!answer.ok) return answer;
    return answer.value?.$case === 'preflightDecision'
      ? ok(answer.value.value)
      : err('unexpected_websocket_response');
  }

  start(subprotocol: string): void {
    const selectedSubprotocol = Buffer.byteLength(subprotocol) > MAX_SELECTED_BYTES ? '' : subprotocol;
    this.#call.send({ event: { $case: 'sessionStart', value: { selectedSubprotocol } } });
  }

  /** Shows it a text message. After a failure, but for one that is only too large, it is shown nothing more. */
  async ask(sequence: bigint, text: Buffer, leftMs: number): Promise<Result<MessageAnswer, string>> {
    const { binding, available } = this.#ready;
    if (text.length > binding.maxPayloadBytes) return err('request_message_over_capacity');
    const timeoutMs = Math.min(binding.timeoutMs, leftMs);
    const answer =
      timeoutMs <= 0
        ? err('middleware_chain_timeout')
        : await this.#exchange(
            { $case: 'message', value: { sequence, payload: { $case: 'text', value: text } } },
            timeoutMs,
          );
    const read = answer.ok ? this.#read(answer.value, sequence, available.service.builtIn) : answer;
    if (!read.ok) this.end(End.WEB_SOCKET_SESSION_END_REASON_MIDDLEWARE_FAILURE);
    return read;
  }

  /** At most one such event, and then the end of the stream. */
  end(reason: EndReason): void {
    if (!this.#active) return;
    this.#active = false;
    this.#waiting?.(err('websocket_stream_ended'));
    if (this.#closed !== undefined) {
      this.#call.cancel();
      return;
    }
    this.#call.send({ event: { $case: 'sessionEnd', value: { reason } } });
    this.#call.end();
    // Whoever does not end its side is not waited for.
    this.#clock.after(PREFLIGHT_MS, () => this.#call.cancel());
  }

  #read(answer: Answered, sequence: bigint, builtIn: boolean): Result<MessageAnswer, string> {
    if (answer?.$case !== 'messageResult') return err('unexpected_websocket_response');
    const result: WebSocketMessageResult = answer.value;
    if (result.sequence !== sequence) return err('response_sequence_mismatch');
    const said = readDecision(result, this.#service, builtIn);
    if (!said.ok) return said;
    const { replacement } = result;
    if (replacement === undefined || said.value.decision === 'deny')
      return ok({ said: said.value, replacement: undefined });
    if (replacement.$case !== 'text') return err('response_payload_type_mismatch');
    if (replacement.value.length > this.#ready.binding.maxPayloadBytes)
      return err('response_message_over_capacity');
    if (!isUtf8(replacement.value)) return err('response_message_not_utf8');
    return ok({ said: said.value, replacement: replacement.value });
  }

  #exchange(
    event: NonNullable<WebSocketSessionEvent['event']>,
    timeoutMs: number,
  ): Promise<Result<Answered, string>> {
    if (this.#closed !== undefined) return Promise.resolve(err(this.#closed));
    return new Promise((resolve) => {
      const done = (answer: Result<Answered, string>): void => {
        cancel();
        this.#waiting = undefined;
        resolve(answer);
      };
      const cancel = this.#clock.after(timeoutMs, () => done(err('middleware_timeout')));
      this.#waiting = done;
      this.#call.send({ event });
    });
  }
}
