import { answer } from './answer.ts';
import { readWhole } from './body-facts.ts';
import type { ClientExchange } from './client-exchange.ts';
import type { ConnectionContext } from './connection-context.ts';

/** Reads a body that must be known whole; undefined when the client has been answered instead. */
export async function readBody(
  client: ClientExchange,
  context: ConnectionContext,
  maxBytes: number,
): Promise<Buffer | undefined> {
  const tooLarge = (): void =>
    answer(client, {
      status: 413,
      body: {
        error: 'request_body_too_large',
        detail: `a body of more than ${maxBytes} bytes cannot be inspected here; the endpoint's *_max_body_bytes says how much can`,
      },
    });
  if (client.framing.kind === 'length' && client.framing.bytes > maxBytes) {
    tooLarge();
    return undefined;
  }
  const reserved = client.framing.kind === 'length' ? client.framing.bytes : maxBytes;
  if (!reserve(client, context, reserved)) return undefined;
  client.sayContinue();
  const read = await readWhole(client.body, maxBytes);
  if (read === 'too-large') tooLarge();
  if (read === 'aborted') client.abort();
  return typeof read === 'string' ? undefined : read;
}

/**
 * Reads a body as far as middlewares would take it. One that is larger is given back to its stream, to be passed on or
 * not; undefined when the client has been answered instead.
 */
export async function readUpTo(
  client: ClientExchange,
  context: ConnectionContext,
  maxBytes: number,
): Promise<Buffer | 'too-large' | undefined> {
  const { framing } = client;
  if (framing.kind !== 'length' && framing.kind !== 'chunked') return Buffer.alloc(0);
  if (maxBytes === 0 || (framing.kind === 'length' && framing.bytes > maxBytes)) return 'too-large';
  const reserved = framing.kind === 'length' ? framing.bytes : maxBytes;
  if (!reserve(client, context, reserved)) return undefined;
  client.sayContinue();
  const read = await readWhole(client.body, maxBytes, undefined, true);
  if (read === 'aborted') client.abort();
  return read === 'aborted' ? undefined : read;
}

/** Counts what a body may take in memory until the exchange is over; false when the client has been answered instead. */
export function reserve(client: ClientExchange, { bodies }: ConnectionContext, bytes: number): boolean {
  if (!bodies.take(bytes)) {
    answer(client, {
      status: 503,
      body: { error: 'inspection_busy', detail: 'too many bodies are being inspected; try again' },
    });
    return false;
  }
  client.onClose(() => bodies.give(bytes));
  return true;
}
