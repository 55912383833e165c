import { randomUUID } from 'node:crypto';
import { WebSocketSessionEndReason as End } from '../../../proto/generated/openshell/middleware/v1/middleware.ts';
import type { Clock } from '../../clock.ts';
import type { Result } from '../../result.ts';
import type { Release } from './admission.ts';
import type { Evaluation } from './evaluation.ts';
import { CHAIN_MS, MAX_PAYLOAD_BYTES } from './limits.ts';
import { openStage, type SessionStage } from './session-stage.ts';
import type { Stage } from './stage.ts';
import type { Subject } from './subject.ts';

export type EndReason = (typeof End)[keyof typeof End];

/** A handshake in front of its middlewares. */
export interface SessionRequest {
  readonly subject: Result<Subject, string>;
  readonly subprotocols: readonly string[];
  readonly tell: (evaluation: Omit<Evaluation, 'method' | 'path'>) => void;
}

export type SessionOutcome =
  /** Without a session nobody wants to see the messages. */
  | { readonly kind: 'passed'; readonly session: MiddlewareSession | undefined }
  | { readonly kind: 'denied'; readonly middleware: string; readonly code: string | undefined }
  | { readonly kind: 'failed'; readonly middleware: string; readonly code: string };

/** What becomes of a text message. */
export type TextVerdict =
  | { readonly kind: 'pass'; readonly data: Buffer }
  /** The policy's own judgement of a changed text, in its words. */
  | { readonly kind: 'refused'; readonly why: 'denied' | 'failed' | 'policy'; readonly middleware: string }
  | { readonly kind: 'busy' }
  /** The session was over meanwhile: nobody has seen the message, so it must not pass. */
  | { readonly kind: 'over' };

/** One WebSocket at its middlewares: each has a stream of its own, and sees the client's text messages in turn. */
export class MiddlewareSession {
  readonly #clock: Clock;
  readonly #stages: readonly SessionStage[];
  readonly #tell: SessionRequest['tell'];
  readonly #enter: () => Promise<Release | undefined>;
  readonly #leave: Release;
  #sequence = 0n;
  #ended = false;

  private constructor(
    clock: Clock,
    stages: readonly SessionStage[],
    tell: SessionRequest['tell'],
    enter: () => Promise<Release | undefined>,
    leave: Release,
  ) {
    this.#clock = clock;
    this.#stages = stages;
    this.#tell = tell;
    this.#enter = enter;
    this.#leave = leave;
  }

  /** Asks all stages at once. `place` is undefined when no further session may be had: then each of them has failed. */
  static async open(
    clock: Clock,
    stages: readonly Stage[],
    request: SessionRequest,
    place: Release | undefined,
    enter: () => Promise<Release | undefined>,
  ): Promise<SessionOutcome> {
    const sessionId = randomUUID();
    const opened = await Promise.all(
      stages.map((stage) => openStage(clock, stage, request, sessionId, place !== undefined)),
    );
    const wanted = opened.flatMap((one) => (one.kind === 'inspect' ? [one.stage] : []));
    const give = (outcome: Exclude<SessionOutcome, { kind: 'passed' }>, end: EndReason): SessionOutcome => {
      for (const stage of wanted) stage.end(end);
      place?.();
      return outcome;
    };
    const denied = opened.find((one) => one.kind === 'denied');
    if (denied !== undefined) return give(denied, End.WEB_SOCKET_SESSION_END_REASON_MIDDLEWARE_DENIAL);
    const failed = opened.find((one) => one.kind === 'failed');
    if (failed !== undefined) return give(failed, End.WEB_SOCKET_SESSION_END_REASON_MIDDLEWARE_FAILURE);
    if (wanted.length === 0 || place === undefined) {
      place?.();
      return { kind: 'passed', session: undefined };
    }
    return {
      kind: 'passed',
      session: new MiddlewareSession(clock, wanted, request.tell, enter, place),
    };
  }

  /** The server has agreed. */
  start(subprotocol: string): void {
    for (const stage of this.#stages) stage.start(subprotocol);
  }

  /** A binary message passes: middlewares are shown texts alone (contract.md, 1.9). */
  passBinary(): void {
    this.#sequence += 1n;
    for (const stage of this.#stages)
      if (stage.active)
        this.#tell({ ...stage.told('not-covered', 'unsupported_message_type'), findings: [] });
  }

  /**
   * Shows a text message to one stage after the other. `recheck` says whether policy allows a changed text; its word is
   * final.
   */
  async judge(data: Buffer, recheck: (text: Buffer) => boolean): Promise<TextVerdict> {
    if (this.#ended) return { kind: 'over' };
    if (!this.#stages.some(({ active }) => active)) return { kind: 'pass', data };
    const release = await this.#enter();
    if (release === undefined) return { kind: 'busy' };
    try {
      return this.#ended ? { kind: 'over' } : await this.#judge(data, recheck);
    } finally {
      release();
    }
  }

  /** Tells the stages that are left why nothing more comes; only the first time. */
  end(reason: EndReason): void {
    if (this.#ended) return;
    this.#ended = true;
    for (const stage of this.#stages) stage.end(reason);
    this.#leave();
  }

  async #judge(data: Buffer, recheck: (text: Buffer) => boolean): Promise<TextVerdict> {
    this.#sequence += 1n;
    const deadline = this.#clock.monotonic() + CHAIN_MS;
    let text = data;
    for (const stage of this.#stages) {
      if (!stage.active) continue;
      const { name } = stage;
      const answer = await stage.ask(this.#sequence, text, deadline - this.#clock.monotonic());
      if (this.#ended) return { kind: 'over' };
      if (!answer.ok) {
        const { failsOpen } = stage;
        this.#tell({ ...stage.told(failsOpen ? 'passed-over' : 'failed', answer.error), findings: [] });
        if (failsOpen) continue;
        return { kind: 'refused', why: 'failed', middleware: name };
      }
      const { said, replacement } = answer.value;
      const outcome = said.decision === 'deny' ? 'denied' : replacement === undefined ? 'allowed' : 'changed';
      this.#tell({ ...stage.told(outcome, said.code), findings: said.findings });
      if (said.decision === 'deny') return { kind: 'refused', why: 'denied', middleware: name };
      if (replacement === undefined) continue;
      text = replacement;
      if (text.length > MAX_PAYLOAD_BYTES || !recheck(text))
        return { kind: 'refused', why: 'policy', middleware: name };
    }
    return { kind: 'pass', data: text };
  }
}
