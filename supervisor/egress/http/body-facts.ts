import type { Readable } from 'node:stream';
import type { CompiledEndpoint } from '../../policy/compilation.ts';
import type { BodyFacts } from '../../policy/request.ts';
import type { AdmittedTarget } from '../../policy/target.ts';
import { graphqlFromQuery, graphqlFromText } from '../protocols/graphql.ts';
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
      const fault = encodingFault(fields) ?? jsonFault(fields, 'GraphQL');
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
      const fault = encodingFault(fields);
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

function encodingFault(fields: readonly Field[]): string | undefined {
  const encoding = fieldValue(fields, 'content-encoding');
  return encoding === undefined || encoding.toLowerCase() === 'identity'
    ? undefined
    : `a body in ${encoding.slice(0, 40)} cannot be inspected`;
}

function jsonFault(fields: readonly Field[], what: string): string | undefined {
  const type = fieldValue(fields, 'content-type')?.split(';', 1)[0]?.trim().toLowerCase();
  if (type === undefined || type === 'application/json' || /^application\/[\w.+-]+\+json$/.test(type))
    return undefined;
  return `${what} in ${type.slice(0, 80)} cannot be inspected; send application/json`;
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

/** Reads a body to its end, or stops with `too-large` past `maxBytes`, or `aborted` when it has no end. */
export function readWhole(body: Readable, maxBytes: number): Promise<Buffer | 'too-large' | 'aborted'> {
  return new Promise((resolve) => {
    const chunks: Buffer[] = [];
    let bytes = 0;
    const done = (result: Buffer | 'too-large' | 'aborted'): void => {
      body.off('data', take);
      resolve(result);
    };
    const take = (chunk: Buffer): void => {
      bytes += chunk.length;
      if (bytes > maxBytes) done('too-large');
      else chunks.push(chunk);
    };
    body.on('data', take);
    body.once('end', () => done(Buffer.concat(chunks, bytes)));
    body.once('error', () => done('aborted'));
    body.once('close', () => done('aborted'));
  });
}
