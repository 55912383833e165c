import {
  Decision,
  type Finding,
  type HttpRequestEvaluation,
  HttpRequestResult,
  WebSocketMessageResult,
  WebSocketPreflightAction,
  WebSocketPreflightDecision,
  type WebSocketSessionEvent,
  type WebSocketSessionEventResult,
} from '../../../proto/generated/openshell/middleware/v1/middleware.ts';
import { err, ok, type Result } from '../../result.ts';
import { CallError, STATUS } from '../../rpc/status.ts';
import { DEFAULT_TIMEOUT_MS } from './limits.ts';
import type { Bindings, MiddlewareService, SessionCall, SessionEvents, StageConfig } from './service.ts';

export const REGEX_NAME = 'openshell/regex';
const binding = { maxPayloadBytes: 256 << 10, timeoutMs: DEFAULT_TIMEOUT_MS };
export const REGEX_BINDINGS: Bindings = { http: binding, webSocket: binding };

/** API keys as OpenAI writes them. One run of the text at most: there is nothing in it to go back to. */
const KEY = /sk-[A-Za-z0-9_-]{16,}/g;

/** Takes what looks like an API key out of texts: an example, no promise that nothing is left (contract.md, 1.9). */
export class RegexMiddleware implements MiddlewareService {
  readonly builtIn = true;

  async accepts({ json }: StageConfig): Promise<Result<void, string>> {
    const odd = Object.entries(json).find(([key, value]) => key !== 'mode' || value !== 'redact');
    return odd === undefined ? ok(undefined) : err(`it takes mode: redact and nothing else, not ${odd[0]}`);
  }

  async evaluate({ body }: HttpRequestEvaluation): Promise<HttpRequestResult> {
    const text = textOf(body);
    if (text === undefined) throw new CallError(STATUS.INVALID_ARGUMENT, 'it needs a body of UTF-8');
    const { redacted, findings } = redact(text);
    return HttpRequestResult.fromPartial({
      decision: Decision.DECISION_ALLOW,
      findings,
      ...(redacted === undefined ? {} : { hasBody: true, body: Buffer.from(redacted) }),
    });
  }

  open(_config: StageConfig, events: SessionEvents): SessionCall {
    let over = false;
    const tell = (result: WebSocketSessionEventResult['result']): void =>
      queueMicrotask(() => void (over || events.result({ result })));
    const close = (): void => {
      if (over) return;
      over = true;
      queueMicrotask(() => events.closed(undefined));
    };
    return {
      send({ event }: WebSocketSessionEvent) {
        if (event?.$case === 'preflight') {
          const action = WebSocketPreflightAction.WEB_SOCKET_PREFLIGHT_ACTION_INSPECT;
          tell({ $case: 'preflightDecision', value: WebSocketPreflightDecision.fromPartial({ action }) });
        }
        if (event?.$case !== 'message' || event.value.payload?.$case !== 'text') return;
        const { sequence, payload } = event.value;
        const { redacted, findings } = redact(payload.value.toString('utf8'));
        const value = WebSocketMessageResult.fromPartial({
          sequence,
          decision: Decision.DECISION_ALLOW,
          findings,
          ...(redacted === undefined ? {} : { replacement: { $case: 'text', value: Buffer.from(redacted) } }),
        });
        tell({ $case: 'messageResult', value });
      },
      end: close,
      cancel: close,
    };
  }
}

function redact(text: string): {
  readonly redacted: string | undefined;
  readonly findings: readonly Finding[];
} {
  let count = 0;
  const redacted = text.replace(KEY, () => {
    count += 1;
    return '[REDACTED]';
  });
  if (count === 0) return { redacted: undefined, findings: [] };
  const finding = { type: 'openshell.regex.openai', label: 'API key taken out', confidence: '' };
  return { redacted, findings: [{ ...finding, count, severity: 'medium' }] };
}

function textOf(body: Buffer): string | undefined {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(body);
  } catch {
    return undefined;
  }
}
