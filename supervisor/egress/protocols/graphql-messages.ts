import type { BodyFacts } from '../../policy/request.ts';
import { operationOf } from './graphql.ts';
import { disguisedMember, repeatedMember } from './json-members.ts';

/** Messages of graphql-transport-ws and of the older graphql-ws that execute nothing. */
const HARMLESS: ReadonlySet<string> = new Set([
  'connection_init',
  'connection_terminate',
  'ping',
  'pong',
  'complete',
  'stop',
]);
const MESSAGE = new Set(['type', 'payload', 'id']);
const DECISIVE = new Set([
  ...MESSAGE,
  'query',
  'operationName',
  'extensions',
  'persistedQuery',
  'sha256Hash',
  'documentId',
  'queryId',
]);

/** What a client's text message on a GraphQL WebSocket would execute; undefined when that is nothing. */
export function graphqlMessage(text: string): BodyFacts | undefined {
  const malformed = (error: string): BodyFacts => ({ kind: 'malformed', error });
  const repeated = repeatedMember(text, DECISIVE);
  if (repeated !== undefined) return malformed(repeated);
  let message: unknown;
  try {
    message = JSON.parse(text);
  } catch {
    return malformed('the message is not JSON');
  }
  if (typeof message !== 'object' || message === null || Array.isArray(message))
    return malformed('the message is no object');
  const disguised = disguisedMember(message, MESSAGE);
  if (disguised !== undefined) return malformed(disguised);
  const { type, payload } = message as Readonly<Record<string, unknown>>;
  if (typeof type !== 'string') return malformed('the message has no type');
  if (HARMLESS.has(type)) return undefined;
  if (type !== 'subscribe' && type !== 'start')
    return malformed(`messages of the type ${type.slice(0, 40)} are not known`);
  const operation = operationOf(payload);
  return typeof operation === 'string' ? malformed(operation) : { kind: 'graphql', operations: [operation] };
}
