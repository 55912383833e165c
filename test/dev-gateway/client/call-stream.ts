import { Duplex } from 'node:stream';
import type { CallError } from '../../../supervisor/rpc/status.ts';
import type { Call, CallEvents } from '../../../supervisor/rpc/stream.ts';

/** A message of the contract is 1 MiB at most (contract.md, 2.2). */
const PIECE = 256 * 1024;

/** The bytes of a bidirectional call as a stream, with back-pressure both ways and an end for each direction. */
export class CallStream extends Duplex {
  readonly #call: Call;
  #drained: (() => void) | undefined;
  #finished: (() => void) | undefined;
  #ended = false;
  #over = false;

  /** `first` goes before all bytes. */
  constructor(begin: (events: CallEvents) => Call, first: Uint8Array) {
    super({ allowHalfOpen: true, highWaterMark: PIECE });
    this.#call = begin({
      message: () => undefined,
      data: (bytes) => {
        if (!this.push(bytes)) this.#call.pause();
      },
      drained: () => this.#goOn(),
      ended: () => this.#end(),
      closed: (error) => this.#closed(error),
    });
    this.#call.send(first);
    this.on('error', () => undefined);
  }

  override _read(): void {
    this.#call.resume();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    const room = this.#call.sendData(chunk.subarray(0, PIECE));
    const rest = chunk.subarray(PIECE);
    const next = rest.length === 0 ? done : (): void => this._write(rest, 'buffer' as BufferEncoding, done);
    if (room) next();
    else this.#drained = next;
  }

  /** It has finished, and so closes, when the other side has said its last too: who waits for that may drop the connection. */
  override _final(done: () => void): void {
    this.#call.end();
    if (this.#over) done();
    else this.#finished = done;
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    if (!this.#ended || !this.writableFinished) this.#call.cancel();
    done(error);
  }

  #goOn(): void {
    const done = this.#drained;
    this.#drained = undefined;
    done?.();
  }

  #end(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.push(null);
  }

  #closed(error: CallError | undefined): void {
    this.#over = true;
    this.#goOn();
    if (error !== undefined) return void this.destroy(error);
    this.#end();
    this.#finished?.();
  }
}
