import type { Http2Server, IncomingHttpHeaders, ServerHttp2Session, ServerHttp2Stream } from 'node:http2';
import { addAbortSignal, Duplex } from 'node:stream';
import type { Server } from '@grpc/grpc-js';
import { DataFrameReader } from '../../supervisor/rpc/data-frames.ts';
import { writeData } from '../../supervisor/rpc/stream.ts';

const MAX_MESSAGE = 1 << 20;
const WINDOW = 1 << 20;
/** As the gateway sends them (contract.md, 2.2). */
const PIECE = 16 * 1024;

type StreamListener = (stream: ServerHttp2Stream, headers: IncomingHttpHeaders, ...more: unknown[]) => void;

/** What takes a call of a path. */
export type TakeDataCall = (call: DataCall, headers: IncomingHttpHeaders) => void;

/**
 * Takes the calls of some paths out of grpc-js's hands: it stops reading when its own direction has ended, and a relay must not,
 * for the gateway tells of a user's end by ending its answer (contract.md, 2.2); and it copies each byte several times. The
 * servers are grpc-js's own, once it is bound.
 */
export function serveDataCalls(server: Server, paths: Readonly<Record<string, TakeDataCall>>): void {
  const servers = (server as unknown as { http2Servers: Map<NodeJS.EventEmitter, unknown> }).http2Servers;
  for (const http2 of servers.keys()) {
    // The gateway's window adapts (contract.md, 2.2), Node's stands at 64 KiB: a relay would wait for each update of it.
    (http2 as Http2Server).updateSettings({ initialWindowSize: WINDOW });
    http2.on('session', (session: ServerHttp2Session) => session.setLocalWindowSize(16 * WINDOW));
    const others = http2.listeners('stream') as StreamListener[];
    http2.removeAllListeners('stream');
    http2.on('stream', (stream: ServerHttp2Stream, headers: IncomingHttpHeaders, ...more: unknown[]) => {
      const take = paths[headers[':path'] ?? ''];
      if (take !== undefined) take(new DataCall(stream), headers);
      else for (const other of others) other.call(http2, stream, headers, ...more);
    });
  }
}

/** A RelayStream or a ForwardTcp: first a message that says what it is, then bytes both ways, each direction with an end of its own. */
export class DataCall extends Duplex {
  /** Settles with the first message, which is no data; undefined when there is none. */
  readonly first: Promise<Buffer | undefined>;
  readonly #stream: ServerHttp2Stream;
  readonly #reader: DataFrameReader;
  readonly #reset = new AbortController();
  /** The other side has said its last; what came before may still wait to be read. */
  #ended = false;
  #status = { code: 0, details: '' };
  #named: ((message: Buffer | undefined) => void) | undefined;

  constructor(stream: ServerHttp2Stream) {
    super({ allowHalfOpen: true });
    this.#stream = stream;
    this.first = new Promise((resolve) => {
      this.#named = resolve;
    });
    this.#reader = new DataFrameReader(MAX_MESSAGE, {
      message: (bytes) => this.#name(bytes),
      data: (bytes) => {
        this.#name(undefined);
        if (!this.push(bytes)) this.#stream.pause();
      },
    });
    stream.respond({ ':status': 200, 'content-type': 'application/grpc+proto' }, { waitForTrailers: true });
    stream.on('wantTrailers', () => {
      const { code, details } = this.#status;
      stream.sendTrailers({ 'grpc-status': String(code), 'grpc-message': encodeURI(details) });
    });
    stream.on('data', (chunk: Buffer) => this.#take(chunk));
    // To destroy the stream with an error of any other kind would reset it with INTERNAL_ERROR.
    addAbortSignal(this.#reset.signal, stream);
    const broken = (): boolean => stream.aborted || (stream.rstCode ?? 0) !== 0;
    stream.on('end', () => {
      // A reset ends the stream's reading too.
      if (broken()) return;
      this.#ended = true;
      this.push(null);
    });
    stream.on('error', () => undefined);
    stream.on('close', () => {
      this.#name(undefined);
      // Where both sides have said their last, what came is still there for a slow reader.
      if (broken() || !this.#ended || !this.writableFinished)
        this.destroy(new Error('the other side broke off'));
    });
    this.on('error', () => undefined);
  }

  /** Ends it with a status that is not OK. */
  refuse(code: number, details: string): void {
    this.#status = { code, details };
    this.#stream.end();
  }

  override _read(): void {
    this.#stream.resume();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    let room = true;
    for (let at = 0; at < chunk.length; at += PIECE) {
      room = writeData(this.#stream, chunk.subarray(at, at + PIECE));
    }
    if (room) done();
    else this.#stream.once('drain', done);
  }

  override _final(done: () => void): void {
    this.#stream.end();
    done();
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    // Where both directions have ended it ends by itself, with its status. To close it would end ours as if it were whole.
    if (error !== null || !this.writableFinished || !this.#ended) this.#reset.abort();
    done(error);
  }

  #name(message: Buffer | undefined): void {
    this.#named?.(message);
    this.#named = undefined;
  }

  #take(chunk: Buffer): void {
    try {
      this.#reader.push(chunk);
    } catch (error) {
      this.#name(undefined);
      this.destroy(error instanceof Error ? error : new Error(String(error)));
    }
  }
}
