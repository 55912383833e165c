import type { BodyFacts, RpcCall } from '../../policy/request.ts';
import { disguisedMember, repeatedMember } from './json-members.ts';

const MAX_CALLS = 1000;
/** Members that decide what a message does. */
const MESSAGE = new Set(['jsonrpc', 'method', 'params', 'id', 'result', 'error']);
const TOOL = new Set(['name']);
const DECISIVE = new Set([...MESSAGE, ...TOOL]);
const malformed = (error: string): BodyFacts => ({ kind: 'malformed', error });

/**
 * Reads a JSON-RPC 2.0 body, a message or a batch of them, into what policy judges. With `mcp` the tool of a
 * `tools/call` is part of it. Whatever is not clearly a call or a response is malformed.
 */
export function rpcFromText(text: string, mcp: boolean): BodyFacts {
  const repeated = repeatedMember(text, DECISIVE);
  if (repeated !== undefined) return malformed(repeated);
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch {
    return malformed('the body is not JSON');
  }
  const messages: readonly unknown[] = Array.isArray(body) ? body : [body];
  if (messages.length === 0) return malformed('the JSON-RPC batch is empty');
  if (messages.length > MAX_CALLS) return malformed(`the JSON-RPC batch has more than ${MAX_CALLS} messages`);
  const calls: RpcCall[] = [];
  let hasResponse = false;
  for (const message of messages) {
    const read = readMessage(message, mcp);
    if (typeof read === 'string') return malformed(read);
    if (read === undefined) hasResponse = true;
    else calls.push(read);
  }
  return { kind: 'json-rpc', calls, hasResponse };
}

/** A call, undefined for a response, or what is wrong with it. */
function readMessage(message: unknown, mcp: boolean): RpcCall | undefined | string {
  if (typeof message !== 'object' || message === null || Array.isArray(message))
    return 'a JSON-RPC message is an object';
  const disguised = disguisedMember(message, MESSAGE);
  if (disguised !== undefined) return disguised;
  const { jsonrpc, method, params, id, result, error } = message as Readonly<Record<string, unknown>>;
  if (jsonrpc !== '2.0') return 'the JSON-RPC version is not "2.0"';
  if (id !== undefined && id !== null && typeof id !== 'string' && typeof id !== 'number')
    return 'the JSON-RPC id is neither a string nor a number';
  const isResponse = result !== undefined || error !== undefined;
  if (method === undefined)
    return isResponse ? undefined : 'the JSON-RPC message has neither a method nor a result';
  if (isResponse) return 'the JSON-RPC message is both a call and a response';
  if (typeof method !== 'string' || method === '') return 'the JSON-RPC method is no string';
  if (params !== undefined && (typeof params !== 'object' || params === null))
    return 'the JSON-RPC params are neither an object nor an array';
  if (!mcp || method !== 'tools/call') return { method };
  const odd = disguisedMember(params ?? {}, TOOL);
  if (odd !== undefined) return odd;
  const tool = (params as Readonly<Record<string, unknown>> | undefined)?.['name'];
  return typeof tool === 'string' && tool !== ''
    ? { method, tool }
    : 'tools/call names no tool in params.name';
}
