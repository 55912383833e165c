import type { Duplex, Readable } from 'node:stream';
import type { ServerChannel } from 'ssh2';

/** What ssh2 1.17 holds back of a channel until the client takes more. */
interface HeldBack {
  _chunk: unknown;
  _chunkcb: unknown;
  _chunkErr: unknown;
  _chunkcbErr: unknown;
}

/** Whether the connection is exchanging keys: what is written then waits in ssh2, in any amount. */
export interface KeyExchange {
  readonly exchanging: boolean;
  /** Calls `listener` once it is over; the function that it returns takes it back. */
  onExchanged(listener: () => void): () => void;
}

/**
 * Copies what a process prints into a channel. A client that reads slowly slows its own process and nobody else: ssh2
 * heeds the client's window but neither whether the connection below takes more nor a key exchange under way, so all three
 * are waited for here. And one
 * write at a time, forgotten when it is done: ssh2 sends what it held back of one stream a second time when the
 * other stream of the channel has to wait.
 */
export class ChannelOutput {
  readonly #channel: ServerChannel;
  readonly #connection: Duplex;
  readonly #keys: KeyExchange;
  #open = true;
  #turn: Promise<void> = Promise.resolve();
  #waiting = 0;
  #moved = 0;
  #bytes = 0;
  /** Ends the one wait that there is when the channel closes. */
  #wake: (() => void) | undefined;

  constructor(channel: ServerChannel, connection: Duplex, keys: KeyExchange) {
    this.#channel = channel;
    this.#connection = connection;
    this.#keys = keys;
  }

  /** The client's side of the channel has gone: nothing is written any more, and whoever waits goes on. */
  close(): void {
    this.#open = false;
    this.#wake?.();
  }

  /** How many writes have ended, with how many bytes, and whether one has not. */
  get progress(): { readonly moved: number; readonly bytes: number; readonly writing: boolean } {
    return { moved: this.#moved, bytes: this.#bytes, writing: this.#waiting > 0 };
  }

  /** Resolves when `source` has ended, was destroyed or the channel has closed; then `source` is destroyed. */
  async copy(source: Readable, stream: 'output' | 'errors'): Promise<void> {
    try {
      for await (const chunk of source as AsyncIterable<Buffer>) {
        await this.write(stream, chunk);
        if (!this.#open) return;
      }
    } catch {
      // It was destroyed, or its other end was reset: its end is all that counts.
    } finally {
      source.destroy();
    }
  }

  /** Resolves when the client's window and the connection have taken it, or when nobody ever will. */
  write(stream: 'output' | 'errors', chunk: Buffer): Promise<void> {
    this.#waiting += 1;
    this.#turn = this.#turn
      .then(() => this.#write(stream, chunk))
      .then(() => {
        this.#waiting -= 1;
        this.#moved += 1;
        this.#bytes += chunk.length;
      });
    return this.#turn;
  }

  async #write(stream: 'output' | 'errors', chunk: Buffer): Promise<void> {
    const connection = this.#connection;
    while (this.#open && (this.#keys.exchanging || connection.writableNeedDrain))
      await this.#until((done) => {
        if (this.#keys.exchanging) return this.#keys.onExchanged(done);
        connection.once('drain', done);
        return () => connection.off('drain', done);
      });
    if (!this.#open || !connection.writable || this.#channel.outgoing.state !== 'open') return;
    const target = stream === 'output' ? this.#channel : this.#channel.stderr;
    await this.#until((done) => void target.write(chunk, done));
    const held = this.#channel as unknown as HeldBack;
    held._chunk = held._chunkcb = held._chunkErr = held._chunkcbErr = undefined;
  }

  /** Waits for what `start` begins, or for the end of the channel. */
  async #until(start: (done: () => void) => (() => void) | undefined): Promise<void> {
    let stop: (() => void) | undefined;
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
      stop = start(() => resolve());
      if (!this.#open) resolve();
    });
    this.#wake = undefined;
    stop?.();
  }
}
