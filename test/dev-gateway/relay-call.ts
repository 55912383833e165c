import type { IncomingHttpHeaders, ServerHttp2Stream } from 'node:http2';
import { Duplex } from 'node:stream';
import type { Server } from '@grpc/grpc-js';
import { RelayFrame } from '../../proto/generated/openshell/v1/openshell.ts';
import { FrameReader, frameOf } from '../../supervisor/rpc/frames.ts';

const PATH = '/openshell.v1.OpenShell/RelayStream';
const MAX_MESSAGE = 1 << 20;
/** As the gateway sends them (contract.md, 2.2). */
const PIECE = 16 * 1024;

type StreamListener = (stream: ServerHttp2Stream, headers: IncomingHttpHeaders, ...more: unknown[]) => void;

/**
 * Takes RelayStream out of grpc-js's hands: it stops reading when its own direction has ended, and a relay must not, for the
 * gateway tells of a user's end by ending its answer (contract.md, 2.2). The servers are grpc-js's own, once it is bound.
 */
export function serveRelayStreams(
  server: Server,
  take: (call: RelayCall, headers: IncomingHttpHeaders) => void,
): void {
  const servers = (server as unknown as { http2Servers: Map<NodeJS.EventEmitter, unknown> }).http2Servers;
  for (const http2 of servers.keys()) {
    const others = http2.listeners('stream') as StreamListener[];
    http2.removeAllListeners('stream');
    http2.on('stream', (stream: ServerHttp2Stream, headers: IncomingHttpHeaders, ...more: unknown[]) => {
      if (headers[':path'] === PATH) take(new RelayCall(stream), headers);
      else for (const other of others) other.call(http2, stream, headers, ...more);
    });
  }
}

/** One RelayStream of a sandbox: first its channel, then bytes both ways, each direction with an end of its own. */
export class RelayCall extends Duplex {
  /** Settles with the channel that the first frame names; undefined when it names none. */
  readonly channel: Promise<string | undefined>;
  readonly #stream: ServerHttp2Stream;
  readonly #reader = new FrameReader(MAX_MESSAGE);
  #status = { code: 0, details: '' };
  #named: ((channel: string | undefined) => void) | undefined;

  constructor(stream: ServerHttp2Stream) {
    super({ allowHalfOpen: true });
    this.#stream = stream;
    this.channel = new Promise((resolve) => {
      this.#named = resolve;
    });
    stream.respond({ ':status': 200, 'content-type': 'application/grpc+proto' }, { waitForTrailers: true });
    stream.on('wantTrailers', () => {
      const { code, details } = this.#status;
      stream.sendTrailers({ 'grpc-status': String(code), 'grpc-message': encodeURI(details) });
    });
    stream.on('data', (chunk: Buffer) => this.#take(chunk));
    stream.on('end', () => {
      // A reset ends the stream's reading too.
      if (!stream.aborted && (stream.rstCode ?? 0) === 0) this.push(null);
    });
    stream.on('error', () => undefined);
    stream.on('close', () => {
      this.#name(undefined);
      if (!this.readableEnded || !this.writableFinished)
        this.destroy(new Error('the sandbox broke the relay off'));
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
      const value = chunk.subarray(at, at + PIECE);
      room = this.#stream.write(frameOf(RelayFrame.encode({ payload: { $case: 'data', value } }).finish()));
    }
    if (room) done();
    else this.#stream.once('drain', done);
  }

  override _final(done: () => void): void {
    this.#stream.end();
    done();
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    // To close it would end our direction as if it were whole.
    if (error !== null) this.#stream.destroy(error);
    else if (!this.#stream.closed) this.#stream.close(0);
    done(error);
  }

  #name(channel: string | undefined): void {
    this.#named?.(channel);
    this.#named = undefined;
  }

  #take(chunk: Buffer): void {
    try {
      for (const message of this.#reader.push(chunk)) {
        const { payload } = RelayFrame.decode(message);
        if (payload?.$case === 'init') this.#name(payload.value.channelId);
        else this.#name(undefined);
        if (payload?.$case === 'data' && payload.value.length > 0 && !this.push(payload.value))
          this.#stream.pause();
      }
    } catch (error) {
      this.#name(undefined);
      this.destroy(error instanceof Error ? error : new Error(String(error)));
    }
  }
}
