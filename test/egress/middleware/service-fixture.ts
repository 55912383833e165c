import {
  type Server as GrpcServer,
  Server,
  ServerCredentials,
  type ServerDuplexStream,
  status,
} from '@grpc/grpc-js';
import {
  Decision,
  type HttpRequestEvaluation,
  HttpRequestResult,
  MiddlewareManifest,
  SupervisorMiddlewareDefinition,
  SupervisorMiddlewareOperation,
  SupervisorMiddlewarePhase,
  ValidateConfigResponse,
  WebSocketPreflightAction,
  WebSocketPreflightDecision,
  type WebSocketSessionEvent,
  type WebSocketSessionEventResult,
} from '../../../proto/generated/openshell/middleware/v1/middleware.ts';
import { SupervisorMiddlewareService } from '../../../proto/generated/openshell/sandbox/v1/sandbox.ts';
import { type Implementation, serviceDefinition } from '../../dev-gateway/grpc.ts';

export type Stream = ServerDuplexStream<WebSocketSessionEvent, WebSocketSessionEventResult>;
type Partially<T> = Parameters<typeof HttpRequestResult.fromPartial>[0] & T;

export const ALLOW = { decision: Decision.DECISION_ALLOW } as const;
export const DENY = { decision: Decision.DECISION_DENY } as const;
const PRE = SupervisorMiddlewarePhase.SUPERVISOR_MIDDLEWARE_PHASE_PRE_CREDENTIALS;
const HTTP = SupervisorMiddlewareOperation.SUPERVISOR_MIDDLEWARE_OPERATION_HTTP_REQUEST;
const MESSAGES = SupervisorMiddlewareOperation.SUPERVISOR_MIDDLEWARE_OPERATION_WEBSOCKET_MESSAGE;
const binding = (operation: SupervisorMiddlewareOperation) => ({
  operation,
  phase: PRE,
  maxPayloadBytes: 1n << 20n,
  timeout: '',
});
export const BOTH = [binding(HTTP), binding(MESSAGES)];
export const HTTP_ONLY = [binding(HTTP)] as const;

export interface ServiceOptions {
  readonly manifest?: Parameters<typeof MiddlewareManifest.fromPartial>[0];
  /** Undefined accepts every configuration. */
  readonly validate?: (config: Buffer) => string | undefined;
  /** Undefined never answers; an Error is the status of the call. */
  readonly evaluate?: (
    request: HttpRequestEvaluation,
  ) => Partially<object> | undefined | Error | Promise<Partially<object>>;
  /** Handles each event of a session; the default inspects and answers nothing. */
  readonly session?: (event: WebSocketSessionEvent, stream: Stream) => void;
  readonly credentials?: ServerCredentials;
  /** Answers with fields that nobody knows. */
  readonly newer?: boolean;
  /** 127.0.0.1 by default. */
  readonly host?: string;
  readonly port?: number;
  /** The bearer that every call must carry. */
  readonly bearer?: string;
}

export const preflightAnswer = (
  action: WebSocketPreflightAction,
  more: Parameters<typeof WebSocketPreflightDecision.fromPartial>[0] = {},
): WebSocketSessionEventResult => ({
  result: { $case: 'preflightDecision', value: WebSocketPreflightDecision.fromPartial({ action, ...more }) },
});
export const INSPECT = WebSocketPreflightAction.WEB_SOCKET_PREFLIGHT_ACTION_INSPECT;

/** A middleware as an operator would run one, on real gRPC. */
export async function startService(options: ServiceOptions = {}) {
  const requests: HttpRequestEvaluation[] = [];
  const events: WebSocketSessionEvent[] = [];
  const described: (string | undefined)[] = [];
  const validated: Buffer[] = [];
  const server: GrpcServer = new Server({ 'grpc.max_receive_message_length': 8 << 20 });
  const unauthenticated = { code: status.UNAUTHENTICATED, details: 'who are you?' };
  const implementation: Implementation<SupervisorMiddlewareDefinition> = {
    describe(call, callback) {
      const bearer = call.metadata.get('authorization')[0]?.toString();
      described.push(bearer);
      if (options.bearer !== undefined && bearer !== `Bearer ${options.bearer}`)
        return callback(unauthenticated);
      callback(
        null,
        MiddlewareManifest.fromPartial({ name: 'stand-in', bindings: BOTH, ...options.manifest }),
      );
    },
    validateConfig(call, callback) {
      validated.push(call.request.config);
      const reason = options.validate?.(call.request.config);
      callback(
        null,
        ValidateConfigResponse.fromPartial({ valid: reason === undefined, reason: reason ?? '' }),
      );
    },
    evaluateHttpRequest(call, callback) {
      requests.push(call.request);
      const answer = options.evaluate === undefined ? ALLOW : options.evaluate(call.request);
      if (answer === undefined) return;
      if (answer instanceof Error) return callback({ code: status.INTERNAL, details: answer.message });
      void Promise.resolve(answer).then((result) => callback(null, HttpRequestResult.fromPartial(result)));
    },
    evaluateWebSocketSession(stream) {
      stream.on('error', () => undefined);
      stream.on('end', () => stream.end());
      stream.on('data', (event: WebSocketSessionEvent) => {
        events.push(event);
        if (options.session !== undefined) options.session(event, stream);
        else if (event.event?.$case === 'preflight') stream.write(preflightAnswer(INSPECT));
      });
    },
  };
  server.addService(serviceDefinition(SupervisorMiddlewareDefinition, options.newer), implementation);
  const port = await new Promise<number>((resolve, reject) => {
    const credentials = options.credentials ?? ServerCredentials.createInsecure();
    server.bindAsync(`${options.host ?? '127.0.0.1'}:${options.port ?? 0}`, credentials, (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    );
  });
  return {
    port,
    requests,
    events,
    described,
    validated,
    /** What ends the sessions, in the order in which they were told. */
    ends: () => events.flatMap(({ event }) => (event?.$case === 'sessionEnd' ? [event.value.reason] : [])),
    stop: () => server.forceShutdown(),
  };
}

/** What the gateway says of such a service. */
export const registration = (
  name: string,
  port: number,
  more: Parameters<typeof SupervisorMiddlewareService.fromPartial>[0] = {},
): SupervisorMiddlewareService =>
  SupervisorMiddlewareService.fromPartial({
    name,
    grpcEndpoint: `http://127.0.0.1:${port}`,
    maxPayloadBytes: 1n << 20n,
    timeout: '5s',
    allowInsecureTransport: true,
    ...more,
  });
