import { Duplex, type Readable } from 'node:stream';
import { type ClientDuplexStream, type ServerDuplexStream, type StatusObject, status } from '@grpc/grpc-js';

/** A message that carries bytes: those of relays and those of forwarded ports. */
export interface DataFrame {
  readonly payload?:
    | { readonly $case: 'data'; readonly value: Uint8Array }
    | { readonly $case: string; readonly value: unknown }
    | undefined;
}

/** Pieces as the contract has them (contract.md, 2.2). */
const PIECE = 16 * 1024;

/** The bytes of a bidirectional call as a stream, with back-pressure both ways and an end for each direction. */
export class FrameStream<T extends DataFrame> extends Duplex {
  readonly #call: ServerDuplexStream<T, T> | ClientDuplexStream<T, T>;

  /** The call has been read up to its first message and is paused. */
  constructor(call: ServerDuplexStream<T, T> | ClientDuplexStream<T, T>) {
    super({ allowHalfOpen: true });
    this.#call = call;
    const events: Readable = call;
    events.on('data', ({ payload }: T) => {
      if (payload?.$case !== 'data' || !(payload.value instanceof Uint8Array) || payload.value.length === 0)
        return;
      if (!this.push(payload.value)) call.pause();
    });
    // A client's call ends its reading before it tells that it has failed.
    if ('cancel' in call)
      events.on('status', ({ code }: StatusObject) => code === status.OK && this.push(null));
    else events.on('end', () => this.push(null));
    events.on('error', (error) => this.destroy(error));
    events.on('cancelled', () => this.destroy(new Error('the call was cancelled')));
    this.on('error', () => undefined);
  }

  override _read(): void {
    this.#call.resume();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    let room = true;
    for (let at = 0; at < chunk.length; at += PIECE) {
      const value = chunk.subarray(at, at + PIECE);
      room = this.#call.write({ payload: { $case: 'data', value } } as unknown as T);
    }
    if (room) done();
    else this.#call.once('drain', () => done());
  }

  override _final(done: () => void): void {
    this.#call.end();
    done();
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    if ('cancel' in this.#call) this.#call.cancel();
    else if (error !== null) this.#call.emit('error', { code: status.UNAVAILABLE, details: error.message });
    else this.#call.end();
    done(error);
  }
}
