import type { ClientExchange } from './client-exchange.ts';
import type { LocalAnswer } from './connection-context.ts';

/** Answers a request by ourselves, as JSON. */
export function answer(client: ClientExchange, { status, body, headers = [] }: LocalAnswer): void {
  client.answer(
    {
      status,
      reason: REASONS[status] ?? 'Error',
      fields: [['Content-Type', 'application/json'], ...headers],
    },
    JSON.stringify(body),
  );
}

const REASONS: Readonly<Record<number, string>> = {
  400: 'Bad Request',
  403: 'Forbidden',
  413: 'Content Too Large',
  500: 'Internal Server Error',
  502: 'Bad Gateway',
  503: 'Service Unavailable',
};
