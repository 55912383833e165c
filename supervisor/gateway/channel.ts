import { type ChannelCredentials, credentials, Metadata, type ServiceError, status } from '@grpc/grpc-js';
import { OpenShellClient } from '../../proto/generated/openshell/v1/openshell.ts';

/** The gateway's own bound on one message (contract.md, 2.3), in bytes. */
export const MAX_MESSAGE_BYTES = 1_048_576;

/** One HTTP/2 connection that every call shares. Keepalive 10 s and 20 s, also while idle (contract.md, 3). */
export function openClient(
  target: string,
  secure: ChannelCredentials | undefined,
  authority: string,
  serverName: string | undefined,
): OpenShellClient {
  const name = serverName === undefined || serverName === '' ? authority : serverName;
  return new OpenShellClient(target, secure ?? credentials.createInsecure(), {
    'grpc.keepalive_time_ms': 10_000,
    'grpc.keepalive_timeout_ms': 20_000,
    'grpc.keepalive_permit_without_calls': 1,
    'grpc.max_send_message_length': MAX_MESSAGE_BYTES,
    'grpc.max_receive_message_length': 4 * MAX_MESSAGE_BYTES,
    'grpc.enable_retries': 0,
    'grpc.service_config_disable_resolution': 1,
    // Our own backoff paces the dials; the channel's would add to it.
    'grpc.initial_reconnect_backoff_ms': 500,
    'grpc.max_reconnect_backoff_ms': 1_000,
    'grpc.default_authority': authority,
    ...(secure === undefined ? {} : { 'grpc.ssl_target_name_override': name }),
  });
}

/** The call's metadata with the bearer token, when there is one. */
export function bearer(token: string): Metadata {
  const metadata = new Metadata();
  if (token !== '') metadata.set('authorization', `Bearer ${token}`);
  return metadata;
}

/** One unary call as a promise, bounded to `deadlineMs` from now. */
export function unary<Req, Res>(
  call: (
    request: Req,
    metadata: Metadata,
    options: { deadline: number },
    callback: (error: ServiceError | null, response: Res) => void,
  ) => unknown,
  request: Req,
  token: string,
  deadlineMs = 10_000,
): Promise<Res> {
  return new Promise((resolve, reject) => {
    call(request, bearer(token), { deadline: Date.now() + deadlineMs }, (error, response) =>
      error === null ? resolve(response) : reject(error),
    );
  });
}

const TRANSIENT: ReadonlySet<number> = new Set([
  status.UNAVAILABLE,
  status.DEADLINE_EXCEEDED,
  status.RESOURCE_EXHAUSTED,
  status.ABORTED,
  status.INTERNAL,
  status.UNKNOWN,
]);

/** The gRPC status code of a failure, or UNKNOWN. */
export function codeOf(error: unknown): number {
  return error instanceof Error && 'code' in error && typeof error.code === 'number'
    ? error.code
    : status.UNKNOWN;
}

export const isTransient = (error: unknown): boolean => TRANSIENT.has(codeOf(error));
export const isRefusal = (error: unknown): boolean => codeOf(error) === status.UNAUTHENTICATED;

/** What may be said of a failed call: the status and the gateway's words, never metadata. */
export function describeCallError(error: unknown): string {
  if (!(error instanceof Error)) return 'unknown failure';
  return 'details' in error && typeof error.details === 'string' && error.details !== ''
    ? `${status[codeOf(error)] ?? codeOf(error)}: ${error.details.slice(0, 300)}`
    : error.message.slice(0, 300);
}
