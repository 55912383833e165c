import type { Duplex } from 'node:stream';
import { type PerMessageDeflate, Receiver, Sender } from 'ws';
import { FrameBoundary } from './frame-boundary.ts';
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

/** What becomes of a client's message. */
export type MessageVerdict =
  | { readonly kind: 'pass'; readonly data: Buffer }
  | { readonly kind: 'close'; readonly code: CloseCode; readonly reason: string };

export interface MessageRelay {
  readonly client: Duplex;
  readonly upstream: Duplex;
  readonly deflate: Deflate | undefined;
  /** Judges a message, in the order in which they come. */
  readonly judge: (data: Buffer, isText: boolean) => MessageVerdict;
  /** Called when one side was closed by us. */
  readonly onRefused: (reason: string) => void;
}

/**
 * Relays a WebSocket: each message of the client is taken apart, judged and framed anew; what the server sends passes
 * as it is. A refusal closes both sides with its code.
 */
export function relayMessages({ client, upstream, deflate, judge, onRefused }: MessageRelay): void {
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
  let ended = false;

  const end = (): void => {
    if (ended) return;
    ended = true;
    client.unpipe(receiver);
    upstream.unpipe(client);
    client.end();
    upstream.end();
    // Whoever does not answer the close is not waited for.
    setTimeout(() => {
      client.destroy();
      upstream.destroy();
    }, CLOSE_MS).unref();
  };
  const refuse = (code: CloseCode, reason: string): void => {
    if (ended) return;
    onRefused(reason);
    const text = reason.slice(0, 120);
    sender.close(code, text, true, () => undefined);
    if (boundary.between) toClient.close(code, text, false, () => undefined);
    end();
  };
  const pass = (data: Buffer, binary: boolean): void => {
    sender.send(data, { binary, mask: true, fin: true, compress: deflate !== undefined }, () => undefined);
    if (!upstream.writableNeedDrain) return;
    client.pause();
    upstream.once('drain', () => client.resume());
  };

  receiver.on('message', (data: Buffer, isBinary: boolean) => {
    if (ended) return;
    if (!isBinary && data.length > MAX_TEXT_BYTES)
      return refuse(CLOSE.size, `a text message exceeds ${MAX_TEXT_BYTES} bytes`);
    const verdict = judge(data, !isBinary);
    if (verdict.kind === 'pass') pass(verdict.data, isBinary);
    else refuse(verdict.code, verdict.reason);
  });
  receiver.on('ping', (data: Buffer) => void (ended || sender.ping(data, true, () => undefined)));
  receiver.on('pong', (data: Buffer) => void (ended || sender.pong(data, true, () => undefined)));
  receiver.on('conclude', (code: number, reason: Buffer) => {
    if (ended) return;
    // 1005 stands for a close frame without a code.
    if (code === 1005) sender.close(undefined, undefined, true, () => undefined);
    else sender.close(code, reason, true, () => undefined);
  });
  receiver.on('error', (error: NodeJS.ErrnoException) => refuse(codeOf(error), error.message));

  upstream.on('data', (chunk: Buffer) => boundary.push(chunk));
  upstream.pipe(client);
  client.pipe(receiver);
  for (const [one, other] of [
    [client, upstream],
    [upstream, client],
  ] as const) {
    one.on('error', () => other.destroy());
    one.once('close', () => other.destroy());
  }
}

function codeOf(error: NodeJS.ErrnoException): CloseCode {
  if (error.code === 'WS_ERR_INVALID_UTF8') return CLOSE.utf8;
  if (error.code?.includes('LENGTH') || error.code?.includes('TOO_MANY')) return CLOSE.size;
  return CLOSE.protocol;
}
