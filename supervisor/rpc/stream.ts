import { type ClientHttp2Stream, constants } from 'node:http2';
import type { Writable } from 'node:stream';
import type { Clock } from '../clock.ts';
import { DataFrameReader, dataHead } from './data-frames.ts';
import { FrameReader, frameOf } from './frames.ts';
import { statusOf, statusOfHttp, statusOfReset } from './outcome.ts';
import { CallError, STATUS } from './status.ts';

/** What a call tells its caller. `closed` comes exactly once, and nothing after it; undefined is OK. */
export interface CallEvents {
  message(bytes: Buffer): void;
  /** Where it is given, data frames come here, piece by piece and uncopied, and only other messages to `message`. */
  data?(bytes: Buffer): void;
  /** What `send` found no room for is on its way: there is room again. */
  drained?(): void;
  /**
   * The other side has said its last with OK while ours may go on. Without this, an end of theirs is the end of the call.
   */
  ended?(): void;
  closed(error: CallError | undefined): void;
}

/** One call on its way. Nothing here throws. */
export interface Call {
  /** False when too much waits to be sent: the other side does not read. */
  send(message: Uint8Array): boolean;
  /**
   * Sends bytes as a data frame; they must not change any more. False when they have to wait: `drained` is told when there is
   * room again.
   */
  sendData(data: Buffer): boolean;
  /** Takes nothing more for now, so that the other side has to wait (RFC 9113, 5.2); what was taken is still told. */
  pause(): void;
  resume(): void;
  /** Says that nothing more comes from us. */
  end(): void;
  /** Gives the call up; `closed` is told. */
  cancel(): void;
}

/** What the gateway may leave unread before we call it stuck, in bytes. */
const MAX_UNSENT = 1 << 20;

export interface CallOptions {
  readonly clock: Clock;
  readonly maxMessageBytes: number;
  /** Resets the stream with CANCEL. */
  readonly abort: () => void;
  /** Why the connection is gone; undefined while it stands. */
  readonly lost: () => CallError | undefined;
  /** Milliseconds until the call is given up; for ever when absent. */
  readonly timeoutMs?: number;
}

/** Speaks gRPC on an HTTP/2 stream whose request headers have been sent. */
export function callOn(stream: ClientHttp2Stream, events: CallEvents, options: CallOptions): Call {
  const push = pusher(events, options.maxMessageBytes, () => over);
  let outcome: { readonly error: CallError | undefined } | undefined;
  let over = false;
  const finish = (error: CallError | undefined): void => {
    if (over) return;
    over = true;
    cancelTimer?.();
    // To close a stream ends what we send before it resets it; what was given up must not look like an end.
    if (error !== undefined) options.abort();
    else if (!stream.closed) stream.close(constants.NGHTTP2_NO_ERROR);
    events.closed(error);
  };
  const cancelTimer =
    options.timeoutMs === undefined
      ? undefined
      : options.clock.after(options.timeoutMs, () =>
          finish(new CallError(STATUS.DEADLINE_EXCEEDED, `no answer within ${options.timeoutMs} ms`)),
        );
  stream.on('response', (headers) => {
    const httpStatus = headers[':status'] ?? 0;
    if (headers['grpc-status'] !== undefined) outcome = { error: statusOf(headers) };
    else if (httpStatus !== 200) finish(statusOfHttp(httpStatus, headers));
    else if (!headers['content-type']?.startsWith('application/grpc'))
      finish(new CallError(STATUS.UNKNOWN, 'the answer is not gRPC'));
  });
  stream.on('trailers', (trailers) => {
    outcome ??=
      trailers['grpc-status'] === undefined
        ? { error: new CallError(STATUS.UNKNOWN, 'the answer has no status') }
        : { error: statusOf(trailers) };
  });
  stream.on('data', (chunk: Buffer) => {
    if (over) return;
    try {
      push(chunk);
    } catch (error) {
      finish(error instanceof CallError ? error : new CallError(STATUS.INTERNAL, String(error)));
    }
  });
  stream.on('drain', () => {
    if (!over) events.drained?.();
  });
  stream.on('end', () => {
    if (outcome === undefined) return; // the reset that follows tells why
    if (outcome.error === undefined && events.ended !== undefined && !stream.writableEnded && push.complete())
      return events.ended(); // the close that follows our own end tells the outcome
    if (outcome.error === undefined && !push.complete())
      finish(new CallError(STATUS.INTERNAL, 'the answer ends within a message'));
    else finish(outcome.error);
  });
  stream.on('error', () => undefined); // its close tells more
  stream.on('close', () => {
    if (outcome !== undefined) finish(outcome.error);
    else finish(options.lost() ?? statusOfReset(stream.rstCode ?? 0));
  });
  return {
    send(message) {
      if (over || stream.destroyed || stream.writableEnded) return true;
      stream.write(frameOf(message));
      return stream.writableLength <= MAX_UNSENT;
    },
    sendData: (data) =>
      over ||
      stream.destroyed ||
      stream.writableEnded ||
      writeData(stream, data) ||
      stream.writableLength <= MAX_DATA,
    pause: () => void stream.pause(),
    resume: () => void stream.resume(),
    end() {
      if (!over && !stream.destroyed && !stream.writableEnded) stream.end();
    },
    cancel: () => finish(new CallError(STATUS.CANCELLED, 'given up')),
  };
}

/** What may wait to be sent of a call's data: with one piece alone, reading and sending would take turns. */
const MAX_DATA = 192 << 10;

/** Up to here a copy costs less than a write of its own. */
const COPY_BYTES = 4 << 10;

/** Writes bytes as a data frame (data-frames.ts), large ones without a copy. False when they have to wait for `drain`. */
export function writeData(stream: Writable, data: Buffer): boolean {
  const head = dataHead(data.length);
  if (data.length <= COPY_BYTES) return stream.write(Buffer.concat([head, data]));
  stream.cork();
  stream.write(head);
  const room = stream.write(data);
  stream.uncork();
  return room;
}

interface Push {
  (chunk: Buffer): void;
  /** Whether the stream stands between two messages. */
  complete(): boolean;
}

/** What takes the bytes of an answer apart; nothing is told once the call is over. */
function pusher(events: CallEvents, maxBytes: number, over: () => boolean): Push {
  const message = (bytes: Buffer): void => {
    if (!over()) events.message(bytes);
  };
  if (events.data !== undefined) {
    const data = (bytes: Buffer): void => {
      if (!over()) events.data?.(bytes);
    };
    const reader = new DataFrameReader(maxBytes, { data, message });
    return Object.assign((chunk: Buffer) => reader.push(chunk), { complete: () => reader.complete });
  }
  const reader = new FrameReader(maxBytes);
  const push = (chunk: Buffer): void => {
    for (const one of reader.push(chunk)) message(one);
  };
  return Object.assign(push, { complete: () => reader.complete });
}
