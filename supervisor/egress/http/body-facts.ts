import type { Readable } from 'node:stream';
import type { CompiledEndpoint } from '../../policy/compilation.ts';
import type { BodyFacts } from '../../policy/request.ts';
import type { AdmittedTarget } from '../../policy/target.ts';
import { asksByQuery, graphqlFromQuery, graphqlFromText } from '../protocols/graphql.ts';
import { rpcFromText } from '../protocols/json-rpc.ts';
import { type Field, fieldValue } from './fields.ts';

/** What has to be known of a request before it is decided on. */
export type BodyNeed =
  | { readonly kind: 'facts'; readonly facts: BodyFacts }
  /** The whole body, up to so many bytes, and then its facts. */
  | { readonly kind: 'whole'; readonly maxBytes: number; readonly facts: (body: Buffer) => BodyFacts };

const NONE: BodyNeed = { kind: 'facts', facts: { kind: 'none' } };
const malformed = (error: string): BodyFacts => ({ kind: 'malformed', error });

/** What the endpoint's protocol asks to be known of a request (contract.md, 7.7). */
export function bodyNeed(
  endpoint: CompiledEndpoint | undefined,
  method: string,
  target: AdmittedTarget,
  fields: readonly Field[],
  hasBody: boolean,
): BodyNeed {
  if (endpoint === undefined) return NONE;
  const { protocol, graphqlMaxBodyBytes, jsonRpcMaxBodyBytes } = endpoint.options;
  switch (protocol) {
    case 'graphql': {
      if (method === 'GET' || method === 'HEAD')
        return {
          kind: 'facts',
          facts: hasBody ? malformed('a GraphQL GET has no body') : graphqlFromQuery(target.query),
        };
      if (method === 'OPTIONS' && !hasBody) return NONE;
      if (method !== 'POST')
        return { kind: 'facts', facts: malformed(`GraphQL is sent by GET or POST, not ${method}`) };
      const fault =
        encodingFault(fields) ??
        jsonFault(fields) ??
        (asksByQuery(target.query) ? 'a GraphQL POST says what it asks in its body alone' : undefined);
      if (fault !== undefined) return { kind: 'facts', facts: malformed(fault) };
      return {
        kind: 'whole',
        maxBytes: graphqlMaxBodyBytes,
        facts: (body) => decoded(body, graphqlFromText),
      };
    }
    case 'json-rpc':
    case 'mcp': {
      const mcp = protocol === 'mcp';
      if (mcp && method === 'GET' && !hasBody) {
        const stream = fieldValue(fields, 'accept')?.includes('text/event-stream') === true;
        return stream
          ? { kind: 'facts', facts: { kind: 'receive-stream' } }
          : { kind: 'facts', facts: malformed('an MCP GET asks for text/event-stream') };
      }
      // Ends an MCP session (Streamable HTTP); it says nothing that could be judged.
      if (mcp && method === 'DELETE' && !hasBody)
        return { kind: 'facts', facts: { kind: 'json-rpc', calls: [], hasResponse: true } };
      if (method === 'OPTIONS' && !hasBody) return NONE;
      if (method !== 'POST')
        return { kind: 'facts', facts: malformed(`JSON-RPC is sent by POST, not ${method}`) };
      const fault = encodingFault(fields) ?? charsetFault(fields);
      if (fault !== undefined) return { kind: 'facts', facts: malformed(fault) };
      return {
        kind: 'whole',
        maxBytes: jsonRpcMaxBodyBytes,
        facts: (body) => decoded(body, (text) => rpcFromText(text, mcp)),
      };
    }
    default:
      return NONE;
  }
}

/** The one value of a field; a body that says twice what it is could be read in two ways. */
function onlyValue(fields: readonly Field[], name: string): string | undefined | { readonly twice: string } {
  const values = fields.filter(([key]) => key.toLowerCase() === name).map(([, value]) => value);
  return values.length > 1 ? { twice: `the request says its ${name} twice` } : values[0];
}

function encodingFault(fields: readonly Field[]): string | undefined {
  const encoding = onlyValue(fields, 'content-encoding');
  if (typeof encoding === 'object') return encoding.twice;
  return encoding === undefined || encoding.trim().toLowerCase() === 'identity'
    ? undefined
    : `a body in ${encoding.slice(0, 40)} cannot be inspected`;
}

/** A server that honours another charset, UTF-7 say, reads another text from the same bytes. */
function charsetFault(fields: readonly Field[]): string | undefined {
  const type = onlyValue(fields, 'content-type');
  if (typeof type === 'object') return type.twice;
  const charsets = [...(type ?? '').matchAll(/charset\*?[^;=]*=\s*"?([^";\s,]*)/gi)].map(
    ([, name]) => name ?? '',
  );
  const odd = charsets.find((name) => !/^(utf-?8|us-ascii)$/i.test(name));
  return odd === undefined ? undefined : `a body in the charset ${odd.slice(0, 40)} cannot be inspected`;
}

function jsonFault(fields: readonly Field[]): string | undefined {
  const fault = charsetFault(fields);
  if (fault !== undefined) return fault;
  const type = fieldValue(fields, 'content-type')?.split(';', 1)[0]?.trim().toLowerCase();
  if (type === undefined || type === 'application/json' || /^application\/[\w.+-]+\+json$/.test(type))
    return undefined;
  return `GraphQL in ${type.slice(0, 80)} cannot be inspected; send application/json`;
}

/** Strict UTF-8: two readers of a faulty text could read two texts. */
function decoded(body: Buffer, parse: (text: string) => BodyFacts): BodyFacts {
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(body);
  } catch {
    return malformed('the body is not UTF-8');
  }
  return parse(text);
}

/** How long a client may take to send a body that is held for its decision. */
const WHOLE_BODY_MS = 60_000;

/**
 * Reads a body to its end, or stops with `too-large` past `maxBytes`, or `aborted` when it has no end or is not there
 * after `withinMs`. With `giveBack` what is too large is whole again in its stream, paused.
 */
export function readWhole(
  body: Readable,
  maxBytes: number,
  withinMs = WHOLE_BODY_MS,
  giveBack = false,
): Promise<Buffer | 'too-large' | 'aborted'> {
  return new Promise((resolve) => {
    const chunks: Buffer[] = [];
    let bytes = 0;
    const done = (result: Buffer | 'too-large' | 'aborted'): void => {
      clearTimeout(timer);
      body.off('data', take);
      if (result === 'too-large' && giveBack) {
        body.pause();
        body.unshift(Buffer.concat(chunks));
      }
      chunks.length = 0;
      resolve(result);
    };
    const timer = setTimeout(() => done('aborted'), withinMs);
    const take = (chunk: Buffer): void => {
      bytes += chunk.length;
      if (bytes <= maxBytes || giveBack) chunks.push(chunk);
      if (bytes > maxBytes) done('too-large');
    };
    body.on('data', take);
    body.once('end', () => done(Buffer.concat(chunks, bytes)));
    body.once('error', () => done('aborted'));
    // Before the end that a reset of HTTP/2 brings as well.
    body.once('aborted', () => done('aborted'));
    body.once('close', () => done('aborted'));
  });
}
