/** Which inference API a request speaks (contract.md, 9). */
export interface RequestShape {
  /** As routes name it. */
  readonly protocol: string;
  /** Whether its answer may be a stream of events; else it is one JSON object, and must come whole or not at all. */
  readonly streams: boolean;
}

const POSTED: Readonly<Record<string, RequestShape>> = {
  '/v1/chat/completions': { protocol: 'openai_chat_completions', streams: true },
  '/v1/completions': { protocol: 'openai_completions', streams: true },
  '/v1/responses': { protocol: 'openai_responses', streams: true },
  '/v1/embeddings': { protocol: 'openai_embeddings', streams: false },
  '/v1/messages': { protocol: 'anthropic_messages', streams: true },
};
const DISCOVERY: RequestShape = { protocol: 'model_discovery', streams: false };
const BEDROCK: RequestShape = { protocol: 'aws_bedrock_invoke', streams: false };

/** The path of Bedrock's InvokeModel; the segment is a model's id. */
export const BEDROCK_PATH = /^\/model\/[^/]+\/invoke$/;

/** Undefined for what is no call of an inference API. `path` is canonical, without a query. */
export function shapeOf(method: string, path: string): RequestShape | undefined {
  if (method === 'POST') {
    if (Object.hasOwn(POSTED, path)) return POSTED[path];
    return BEDROCK_PATH.test(path) ? BEDROCK : undefined;
  }
  const discovers = path === '/v1/models' || path.startsWith('/v1/models/');
  return method === 'GET' && discovers ? DISCOVERY : undefined;
}
