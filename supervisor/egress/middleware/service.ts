import type {
  HttpRequestEvaluation,
  HttpRequestResult,
  WebSocketSessionEvent,
  WebSocketSessionEventResult,
} from '../../../proto/generated/openshell/middleware/v1/middleware.ts';
import type { JsonObject } from '../../policy/document.ts';
import type { Result } from '../../result.ts';

/** What one operation of a service takes. */
export interface Binding {
  readonly maxPayloadBytes: number;
  /** Of one evaluation, in milliseconds; never more than the service's own. */
  readonly timeoutMs: number;
}

/** What a service can be asked about; undefined where it does not offer it. */
export interface Bindings {
  readonly http: Binding | undefined;
  readonly webSocket: Binding | undefined;
}

/** A configuration of the policy, read and encoded. */
export interface StageConfig {
  readonly json: JsonObject;
  /** As google.protobuf.Struct. */
  readonly encoded: Buffer;
}

/** What a session tells. `closed` comes exactly once, and nothing after it; undefined is a proper end. */
export interface SessionEvents {
  result(result: WebSocketSessionEventResult): void;
  closed(error: Error | undefined): void;
}

/** One WebSocket session at one service. Nothing here throws. */
export interface SessionCall {
  send(event: WebSocketSessionEvent): void;
  /** Says that nothing more comes from us. */
  end(): void;
  cancel(): void;
}

/** One thing that evaluates: a service of the operator's, or a built-in. */
export interface MiddlewareService {
  /** Whether its findings may be told in its own words: only those of built-ins hold nothing of a request. */
  readonly builtIn: boolean;
  /** Whether it takes a configuration; the error says why not. Rejects when it cannot be asked. */
  accepts(config: StageConfig): Promise<Result<void, string>>;
  /** Rejects with a CallError. */
  evaluate(
    request: HttpRequestEvaluation,
    config: StageConfig,
    timeoutMs: number,
  ): Promise<HttpRequestResult>;
  open(config: StageConfig, events: SessionEvents): SessionCall;
}
