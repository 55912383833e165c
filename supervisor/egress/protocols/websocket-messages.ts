import { once } from 'node:events';
import type { Duplex } from 'node:stream';
import { type PerMessageDeflate, Receiver, Sender } from 'ws';
import { tieEnds } from './endings.ts';
import { FrameBoundary } from './frame-boundary.ts';
import { InOrder } from './in-order.ts';
import { AssemblyWatch, type MessageAssembly } from './message-assembly.ts';
import type { Deflate } from './websocket-handshake.ts';

/** Close codes (RFC 6455, 7.4.1; 1012 and 1013 from the IANA registry). */
export const CLOSE = {
  protocol: 1002,
  utf8: 1007,
  policy: 1008,
  size: 1009,
  reload: 1012,
  busy: 1013,
} as const;
export type CloseCode = (typeof CLOSE)[keyof typeof CLOSE];

/** Of a text message, of any message, of its fragments (contract.md, 8.2). */
export const MAX_TEXT_BYTES = 4 << 20;
export const MAX_MESSAGE_BYTES = 16 << 20;
const MAX_FRAGMENTS = 4096;
const CLOSE_MS = 2_000;
/** Of a close frame's reason: a control frame holds 125 bytes, and the code takes two (RFC 6455, 5.5). */
const MAX_REASON_BYTES = 123;
/** What is given to the reader at a time: compressed 1000 to 1, it is one message of the largest size. */
const SLICE_BYTES = 16 << 10;
/** What each connection may hold of an unfinished message without a slot. */
const FREE_BYTES = 64 << 10;
/** Past so much on its way to the server nothing more is read from the client. */
const MAX_HELD_BYTES = 1 << 20;

/** What becomes of a client's message. */
export type MessageVerdict =
  | { readonly kind: 'pass'; readonly data: Buffer }
  | { readonly kind: 'close'; readonly code: CloseCode; readonly reason: string };

export interface MessageRelay {
  readonly client: Duplex;
  readonly upstream: Duplex;
  readonly deflate: Deflate | undefined;
  /** Shared by all that hold unfinished messages. */
  readonly assembly: MessageAssembly;
  /** Judges a message, in the order in which they come, one at a time; nothing more is read while it takes its time. */
  readonly judge: (data: Buffer, isText: boolean) => MessageVerdict | Promise<MessageVerdict>;
  /** Called when it ends in another way than by a verdict; more than once when one way leads to another. */
  readonly onEnd: (end: RelayEnd) => void;
}

/** The client's close frame; a connection that is gone; bytes that are no WebSocket, or too many. */
export type RelayEnd = 'closed' | 'gone' | 'malformed';

/**
 * Relays a WebSocket: each message of the client is taken apart, judged and framed anew; what the server sends passes
 * as it is. A refusal closes both sides with its code.
 */
export function relayMessages({ client, upstream, deflate, assembly, judge, onEnd }: MessageRelay): void {
  const boundary = new FrameBoundary();
  const extensions = (end: PerMessageDeflate | undefined): Record<string, PerMessageDeflate> =>
    end === undefined ? {} : { 'permessage-deflate': end };
  const receiver = new Receiver({
    isServer: true,
    extensions: extensions(deflate?.reader),
    maxPayload: MAX_MESSAGE_BYTES,
    maxFragments: MAX_FRAGMENTS,
  });
  // Sender writes through a socket's cork and write alone.
  const sender = new Sender(upstream, extensions(deflate?.writer));
  const toClient = new Sender(client, {});
  const held = new HeldBytes();
  /** We have closed it, or the client has. */
  let ended = false;

  const refuse = (code: CloseCode, reason: string): void => {
    if (ended) return;
    ended = true;
    const text = closeReason(reason);
    upstream.unpipe(client);
    upstream.resume();
    // Both may stand behind what is still being compressed or sent.
    sender.close(code, text, true, () => upstream.end());
    if (boundary.between) toClient.close(code, text, false, () => client.end());
    else client.end();
    // Whoever does not answer the close is not waited for.
    setTimeout(() => {
      client.destroy();
      upstream.destroy();
    }, CLOSE_MS).unref();
  };

  const order = new InOrder();
  const pass = (isBinary: boolean, verdict: MessageVerdict): void => {
    if (ended) return;
    if (verdict.kind === 'close') {
      refuse(verdict.code, verdict.reason);
      return;
    }
    const options = { binary: isBinary, mask: true, fin: true, compress: deflate !== undefined };
    sender.send(verdict.data, options, held.take(verdict.data.length));
  };
  const judged = (data: Buffer, isBinary: boolean): undefined | Promise<void> => {
    if (ended) return undefined;
    if (!isBinary && data.length > MAX_TEXT_BYTES) {
      onEnd('malformed');
      refuse(CLOSE.size, `a text message exceeds ${MAX_TEXT_BYTES} bytes`);
      return undefined;
    }
    const verdict = judge(data, !isBinary);
    if (verdict instanceof Promise) return verdict.then((late) => pass(isBinary, late));
    pass(isBinary, verdict);
    return undefined;
  };
  receiver.on('message', (data: Buffer, isBinary: boolean) => order.run(() => judged(data, isBinary)));
  receiver.on('ping', (data: Buffer) => void (ended || sender.ping(data, true, held.take(data.length))));
  receiver.on('pong', (data: Buffer) => void (ended || sender.pong(data, true, held.take(data.length))));
  const conclude = (code: number, reason: Buffer): undefined => {
    if (ended) return;
    ended = true;
    onEnd('closed');
    // 1005 stands for a close frame without a code.
    if (code === 1005) sender.close(undefined, undefined, true, held.take(0));
    else sender.close(code, reason, true, held.take(reason.length));
  };
  receiver.on('conclude', (code: number, reason: Buffer) => order.run(() => conclude(code, reason)));
  receiver.on('error', (error: NodeJS.ErrnoException) =>
    order.run(() => {
      onEnd('malformed');
      refuse(codeOf(error), error.message);
      return undefined;
    }),
  );
  for (const side of [client, upstream]) side.once('close', () => onEnd('gone'));

  upstream.on('data', (chunk: Buffer) => boundary.push(chunk));
  upstream.pipe(client);
  tieEnds(client, upstream);

  const incoming = new FrameBoundary();
  const watch = new AssemblyWatch(assembly, (reason) => {
    onEnd('malformed');
    refuse(CLOSE.policy, reason);
  });
  let release: (() => void) | undefined;
  const settled = (): void => {
    watch.finished();
    release?.();
    release = undefined;
  };
  client.once('close', settled);
  /** Holds a slot while a message is large and unfinished; false when there is none to be had. */
  const admitted = async (slice: Buffer): Promise<boolean> => {
    incoming.push(slice);
    if (!incoming.unfinished) {
      settled();
      return true;
    }
    watch.unfinished();
    // A fragment may have been compressed a thousand times.
    const large = incoming.messageBytes > FREE_BYTES || (deflate !== undefined && incoming.fragmented);
    if (!large || release !== undefined) return true;
    const slot = await assembly.take();
    if (slot === undefined || ended || client.destroyed) {
      slot?.();
      return ended || client.destroyed;
    }
    release = slot;
    return true;
  };

  /** Never reads faster than the server takes; what comes behind the end is dropped, so that the client's own is seen. */
  const feed = async (): Promise<void> => {
    for await (const chunk of client.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>)
      for (let at = 0; at < chunk.length && !ended; at += SLICE_BYTES) {
        const slice = chunk.subarray(at, at + SLICE_BYTES);
        if (!(await admitted(slice))) {
          refuse(CLOSE.busy, 'too many messages are being put together; try again');
          break;
        }
        await new Promise((resolve) => receiver.write(slice, resolve));
        await order.idle();
        await held.below(MAX_HELD_BYTES);
      }
    await order.idle();
    await held.below(0);
    upstream.end();
  };
  feed()
    .catch(() => undefined) // the client broke off, and its 'close' says so
    .then(settled)
    .then(() => deflate?.reader.cleanup())
    .catch(() => undefined);
  if (deflate !== undefined)
    once(upstream, 'close')
      .then(() => held.below(0))
      .then(() => deflate.writer.cleanup())
      .catch(() => undefined);
}

/** Counts bytes that have been given away and are not gone yet. */
class HeldBytes {
  #bytes = 0;
  #messages = 0;
  #waiting: (() => void)[] = [];

  /** Counts them until what comes back is called. */
  take(bytes: number): () => void {
    this.#bytes += bytes;
    this.#messages += 1;
    return () => {
      this.#bytes -= bytes;
      this.#messages -= 1;
      for (const wake of this.#waiting.splice(0)) wake();
    };
  }

  /** Resolves when no more than so many are held; at 0 no message is, not even an empty one. */
  async below(bytes: number): Promise<void> {
    while (this.#bytes > bytes || (bytes === 0 && this.#messages > 0))
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
  }
}

/** As much of a text as a close frame holds, cut between characters: parts of it are the client's own words. */
export function closeReason(text: string): string {
  let reason = '';
  let bytes = 0;
  for (const character of text.slice(0, MAX_REASON_BYTES).toWellFormed()) {
    bytes += Buffer.byteLength(character);
    if (bytes > MAX_REASON_BYTES) break;
    reason += character;
  }
  return reason;
}

function codeOf(error: NodeJS.ErrnoException): CloseCode {
  if (error.code === 'WS_ERR_INVALID_UTF8') return CLOSE.utf8;
  // What we do not take, though the protocol would.
  if (/^WS_ERR_(UNSUPPORTED|TOO_MANY)/.test(error.code ?? '')) return CLOSE.size;
  return CLOSE.protocol;
}
