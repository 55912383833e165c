import type { Connection } from './connection.ts';
import { CallError, STATUS } from './status.ts';
import type { Call, CallEvents } from './stream.ts';

/** As the generated code describes a method. */
export interface Method<Req, Res> {
  readonly name: string;
  readonly requestType: { encode(message: Req): { finish(): Uint8Array } };
  readonly responseType: { decode(bytes: Uint8Array): Res };
}

export interface UnaryOptions {
  /** Service and method, as in `/openshell.v1.OpenShell/Health`. */
  readonly path: string;
  /** Sent as bearer; none when empty. */
  readonly token: string;
  /** Milliseconds. */
  readonly timeoutMs: number;
}

/** One call on a connection: all requests out, exactly one answer back. Rejects with a CallError. */
export function callOnce<Req, Res>(
  connection: Connection,
  method: Method<Req, Res>,
  requests: readonly Req[],
  { path, token, timeoutMs }: UnaryOptions,
): Promise<Res> {
  return new Promise((resolve, reject) => {
    let answer: { readonly value: Res } | undefined;
    const events: CallEvents = {
      message(bytes) {
        if (answer !== undefined) throw new CallError(STATUS.INTERNAL, 'more than one answer');
        answer = { value: decode(method, bytes) };
      },
      closed(error) {
        if (error !== undefined) reject(error);
        else if (answer === undefined) reject(new CallError(STATUS.INTERNAL, 'OK without an answer'));
        else resolve(answer.value);
      },
    };
    const call: Call = connection.call(path, token, events, timeoutMs);
    for (const request of requests) call.send(method.requestType.encode(request).finish());
    call.end();
  });
}

/** Throws a CallError for bytes that are no such message. */
export function decode<Res>(
  method: Pick<Method<unknown, Res>, 'responseType' | 'name'>,
  bytes: Uint8Array,
): Res {
  try {
    return method.responseType.decode(bytes);
  } catch {
    throw new CallError(STATUS.INTERNAL, `the answer to ${method.name} cannot be read`);
  }
}
