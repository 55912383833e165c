import { Transform, type TransformCallback } from 'node:stream';

export interface AnswerStreamOptions {
  /** What of the answer is passed on, in bytes. */
  readonly maxBytes: number;
  /** The longest pause between two pieces, in milliseconds, while the client reads. */
  readonly idleMs: number;
  /** Whether the client reads events, so that it can be told of a break in their form. */
  readonly events: boolean;
  readonly onBroken: (reason: string) => void;
}

/** The event that says that no more comes although it is not the end (contract.md, 9). */
export const brokenEvent = (message: string): string =>
  `data: ${JSON.stringify({ error: { message, type: 'proxy_stream_error' } })}\n\n`;

/**
 * Passes an answer on, piece by piece. A break, a pause that is too long, or an answer that is too large ends a stream of
 * events with an event that says so, and anything else as broken off.
 */
export class AnswerStream extends Transform {
  readonly #options: AnswerStreamOptions;
  #bytes = 0;
  #over = false;
  #timer: NodeJS.Timeout;

  constructor(options: AnswerStreamOptions) {
    super();
    this.#options = options;
    this.#timer = this.#watch();
    this.once('close', () => clearTimeout(this.#timer));
  }

  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
    this.#bytes += chunk.length;
    if (this.#bytes > this.#options.maxBytes) this.break('the response is larger than may be passed on');
    else this.#timer.refresh();
    if (this.#over) done();
    else done(null, chunk);
  }

  /** The provider broke off. */
  break(reason: string): void {
    if (this.#over || this.writableFinished || this.destroyed) return;
    this.#over = true;
    clearTimeout(this.#timer);
    this.#options.onBroken(reason);
    if (!this.#options.events) return void this.destroy();
    this.push(`\n${brokenEvent(`response truncated: ${reason}`)}`);
    this.push(null);
  }

  #watch(): NodeJS.Timeout {
    const { idleMs } = this.#options;
    return setTimeout(() => {
      // While the client does not read, the pause is the client's.
      if (this.readableLength > 0 || this.writableNeedDrain) this.#timer = this.#watch();
      else this.break(`nothing came for ${idleMs / 1000} s`);
    }, idleMs);
  }
}
