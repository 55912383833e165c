import type { BodyFacts, RpcCall } from '../../policy/request.ts';

const MAX_CALLS = 1000;
const malformed = (error: string): BodyFacts => ({ kind: 'malformed', error });

/**
 * Reads a JSON-RPC 2.0 body, a message or a batch of them, into what policy judges. With `mcp` the tool of a
 * `tools/call` is part of it. Whatever is not clearly a call or a response is malformed.
 */
export function rpcFromText(text: string, mcp: boolean): BodyFacts {
  const repeated = repeatedMember(text);
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
  const tool = (params as Readonly<Record<string, unknown>> | undefined)?.['name'];
  return typeof tool === 'string' && tool !== ''
    ? { method, tool }
    : 'tools/call names no tool in params.name';
}

/** Members that decide what a message does; JSON parsers differ in which of two they take (RFC 8259, 4). */
const DECISIVE = new Set(['jsonrpc', 'method', 'params', 'name', 'result', 'error']);

/** Says whether an object of the text has one of the decisive members twice. */
export function repeatedMember(text: string, decisive: ReadonlySet<string> = DECISIVE): string | undefined {
  const objects: Set<string>[] = [];
  const kinds: ('object' | 'array')[] = [];
  let expectsName = false;
  for (let at = 0; at < text.length; at++) {
    const character = text[at];
    if (character === '"') {
      let end = at + 1;
      while (end < text.length && text[end] !== '"') end += text[end] === '\\' ? 2 : 1;
      if (expectsName) {
        expectsName = false;
        let name: unknown;
        try {
          name = JSON.parse(text.slice(at, end + 1));
        } catch {
          return undefined; // not JSON: the parser says so
        }
        const names = objects.at(-1);
        if (typeof name === 'string' && names !== undefined) {
          if (names.has(name) && decisive.has(name))
            return `the body has the member "${name}" twice in one object`;
          names.add(name);
        }
      }
      at = end;
    } else if (character === '{') {
      objects.push(new Set());
      kinds.push('object');
      expectsName = true;
    } else if (character === '[') {
      kinds.push('array');
      expectsName = false;
    } else if (character === '}' || character === ']') {
      if (kinds.pop() === 'object') objects.pop();
      expectsName = false;
    } else if (character === ',') expectsName = kinds.at(-1) === 'object';
  }
  return undefined;
}
