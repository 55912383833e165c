import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ResolvedRoute } from '../../../proto/generated/openshell/inference/v1/inference.ts';
import { JsonObject } from '../../../supervisor/egress/inference/json-object.ts';
import { shapeOf } from '../../../supervisor/egress/inference/request-shape.ts';
import {
  type InferenceRoute,
  readRoute,
  upstreamTarget,
} from '../../../supervisor/egress/inference/route.ts';
import { providerCall } from '../../../supervisor/egress/inference/upstream-request.ts';

const KEY = 'sk-canary-route';
const route = (more: Partial<ResolvedRoute> = {}): InferenceRoute => {
  const read = readRoute(
    ResolvedRoute.fromPartial({
      name: 'inference.local',
      baseUrl: 'https://llm.test',
      protocols: ['openai_chat_completions'],
      apiKey: KEY,
      modelId: 'the-model',
      providerType: 'openai',
      ...more,
    }),
  );
  if (!read.ok) throw new Error(read.error);
  return read.value;
};
const VERTEX: Partial<ResolvedRoute> = {
  baseUrl: 'https://v.test/v1/projects/p/publishers/anthropic/models',
  protocols: ['anthropic_messages'],
  providerType: 'google-vertex-ai',
  modelId: 'claude@1',
  modelInPath: true,
  requestPathOverride: ':rawPredict',
};
const ask = (
  of: InferenceRoute,
  fields: readonly (readonly [string, string])[],
  body: string | undefined,
  path = '/v1/chat/completions',
) => {
  const shape = shapeOf('POST', path);
  if (shape === undefined) throw new Error('no shape');
  const made = providerCall(of, shape, {
    method: 'POST',
    path,
    query: undefined,
    fields,
    body: body === undefined ? undefined : Buffer.from(body),
  });
  return made.ok ? { ...made.value, body: made.value.body?.toString() } : made.error;
};
const fieldsOf = (of: InferenceRoute, fields: readonly (readonly [string, string])[]) => {
  const made = ask(of, fields, '{}');
  if (typeof made === 'string') throw new Error(made);
  return Object.fromEntries(made.fields.map(([name, value]) => [name.toLowerCase(), value]));
};

describe('the API of a request', () => {
  test.each([
    ['POST', '/v1/chat/completions', 'openai_chat_completions', true],
    ['POST', '/v1/completions', 'openai_completions', true],
    ['POST', '/v1/responses', 'openai_responses', true],
    ['POST', '/v1/embeddings', 'openai_embeddings', false],
    ['POST', '/v1/messages', 'anthropic_messages', true],
    ['GET', '/v1/models', 'model_discovery', false],
    ['GET', '/v1/models/a/b', 'model_discovery', false],
    ['POST', '/model/anthropic.claude:1/invoke', 'aws_bedrock_invoke', false],
  ])('%s %s is %s', (method, path, protocol, streams) => {
    expect(shapeOf(method, path)).toEqual({ protocol, streams });
  });

  test.each([
    ['GET', '/v1/chat/completions'],
    ['POST', '/v1/chat/completions/'],
    ['POST', '/v1/models'],
    ['GET', '/v1/modelsx'],
    ['POST', '/model/a/b/invoke'],
    ['POST', '/model//invoke'],
    ['POST', '/model/a/invoke-with-response-stream'],
    ['POST', '/constructor'],
    ['PUT', '/v1/messages'],
  ])('%s %s is none', (method, path) => expect(shapeOf(method, path)).toBeUndefined());
});

describe('the address of a request', () => {
  test.each([
    ['a base without a version', {}, '/v1/chat/completions', '/v1/chat/completions'],
    ['a base with one', { baseUrl: 'https://a.test/v1' }, '/v1/chat/completions', '/v1/chat/completions'],
    [
      'a base that begins with one',
      { baseUrl: 'https://a.test/v1/openai/' },
      '/v1/models',
      '/v1/openai/models',
    ],
    ['a base that ends with one', { baseUrl: 'https://a.test/openai/v1' }, '/v1/models', '/openai/v1/models'],
    [
      'a base with one in the middle',
      { baseUrl: 'https://a.test/api/v1/x' },
      '/v1/models',
      '/api/v1/x/v1/models',
    ],
    ['another path', { requestPathOverride: 'chat/x' }, '/v1/chat/completions', '/chat/x'],
    ['no path', { baseUrl: 'https://a.test/x', requestPathOverride: '' }, '/v1/messages', '/x'],
    ['the model in it', { modelInPath: true }, '/v1/messages', '/the-model/v1/messages'],
    [
      'Vertex, streaming',
      VERTEX,
      '/v1/messages',
      '/v1/projects/p/publishers/anthropic/models/claude@1:streamRawPredict',
    ],
    ['Bedrock', { protocols: ['aws_bedrock_invoke'] }, '/model/other/invoke', '/model/the-model/invoke'],
  ])('with %s', (_, more, path, expected) => {
    expect(upstreamTarget(route(more), path, undefined, true)).toBe(expected);
  });

  test('keeps its query, and asks Vertex for a whole answer where none streams', () => {
    expect(upstreamTarget(route(), '/v1/models', 'a=b', false)).toBe('/v1/models?a=b');
    expect(upstreamTarget(route(VERTEX), '/v1/messages', undefined, false)).toMatch(/claude@1:rawPredict$/);
  });
});

describe('a route', () => {
  test.each([
    ['no URL', { baseUrl: 'llm' }],
    ['another scheme', { baseUrl: 'ftp://a.test' }],
    ['credentials in its URL', { baseUrl: 'https://u:p@a.test' }],
    ['a query in its URL', { baseUrl: 'https://a.test/?a' }],
    ['no model', { modelId: '' }],
    ['a key that breaks lines', { apiKey: `${KEY}\r\nX: y` }],
    ['a model that leaves its segment', { modelId: 'a/../b', modelInPath: true }],
    ['a model that ends the path', { modelId: 'a?b', protocols: ['aws_bedrock_invoke'] }],
    ['a model with an escape', { modelId: 'a%2fb', protocols: ['aws_bedrock_invoke'] }],
    ['an override that is a path behind a model', { modelInPath: true, requestPathOverride: '/x' }],
  ])('with %s is refused, without its key', (_, more) => {
    expect(() => route(more)).toThrow();
    expect(() => route(more)).not.toThrow(KEY);
  });
});

describe('the fields of a request', () => {
  const given = [
    ['Content-Type', 'application/json'],
    ['Accept', 'text/event-stream'],
    ['User-Agent', 'client'],
    ['Authorization', 'Bearer workload'],
    ['X-Api-Key', 'workload'],
    ['Cookie', 'a=b'],
    ['X-Forwarded-For', '1.2.3.4'],
    ['OpenAI-Organization', 'org'],
    ['X-Model-Id', 'm'],
    ['Anthropic-Version', '2024-01-01'],
    ['Anthropic-Beta', 'beta'],
  ] as const;
  const common = { 'content-type': 'application/json', accept: 'text/event-stream', 'user-agent': 'client' };

  test.each([
    ['openai', { 'openai-organization': 'org', 'x-model-id': 'm', authorization: `Bearer ${KEY}` }],
    ['nvidia', { 'x-model-id': 'm', authorization: `Bearer ${KEY}` }],
    ['deepinfra', { 'x-model-id': 'm', authorization: `Bearer ${KEY}` }],
    ['anthropic', { 'anthropic-version': '2024-01-01', 'anthropic-beta': 'beta', 'x-api-key': KEY }],
    ['google-vertex-ai', { authorization: `Bearer ${KEY}` }],
    ['aws-bedrock', {}],
    ['whoever', { authorization: `Bearer ${KEY}` }],
    ['constructor', { authorization: `Bearer ${KEY}` }],
  ])('for %s', (providerType, expected) => {
    expect(fieldsOf(route({ providerType }), given)).toEqual({ ...common, ...expected });
  });

  test('name a version of Anthropic where the client does not', () => {
    expect(fieldsOf(route({ providerType: 'anthropic' }), [])).toEqual({
      'anthropic-version': '2023-06-01',
      'x-api-key': KEY,
    });
  });
});

describe('the body of a request', () => {
  test.each([
    ['{"model":"gpt-x","a":12345678901234567890}', '{"model":"the-model","a":12345678901234567890}'],
    ['{ "a" : [1,{"model":"x"}] , "model" : "y" }', '{"a" : [1,{"model":"x"}],"model":"the-model"}'],
    ['{}', '{"model":"the-model"}'],
    ['{"a":"}{\\"model\\":1"}', '{"a":"}{\\"model\\":1","model":"the-model"}'],
    ['{"m\\u006fdel":"x"}', '{"model":"the-model"}'],
    ['{"__proto__":{"model":"x"}}', '{"__proto__":{"model":"x"},"model":"the-model"}'],
  ])('%s names the model of the route', (body, expected) => {
    expect(ask(route(), [], body)).toMatchObject({ body: expected });
  });

  test.each([
    ['{"model":"a","model":"b"}', 'twice'],
    ['{"model":"a","m\\u006fdel":"b"}', 'twice'],
    ['[]', 'no JSON object'],
    ['nonsense', 'not JSON'],
    ['', 'not JSON'],
  ])('%s is refused', (body, reason) => expect(ask(route(), [], body)).toContain(reason));

  test('is Vertex’s own for Vertex, whose model stands in the path', () => {
    expect(
      ask(route(VERTEX), [], '{"model":"x","context_management":{},"max_tokens":1}', '/v1/messages'),
    ).toMatchObject({
      body: '{"max_tokens":1,"anthropic_version":"vertex-2023-10-16"}',
    });
    expect(
      ask(route(VERTEX), [['anthropic-beta', 'b']], '{"anthropic_version":"v"}', '/v1/messages'),
    ).toMatchObject({
      body: '{"anthropic_version":"v"}',
      fields: [['authorization', `Bearer ${KEY}`]],
    });
  });

  test('of Bedrock goes as it is', () => {
    const bedrock = route({ protocols: ['aws_bedrock_invoke'], providerType: 'aws-bedrock' });
    expect(ask(bedrock, [], 'any {bytes', '/model/m/invoke')).toMatchObject({
      body: 'any {bytes',
      fields: [],
    });
  });

  test('keeps every other member, whatever they are', () => {
    fc.assert(
      fc.property(fc.dictionary(fc.string(), fc.jsonValue()), fc.boolean(), (members, pretty) => {
        const text = JSON.stringify(members, null, pretty ? 2 : 0);
        const read = JsonObject.read(text);
        if (!read.ok) throw new Error(read.error);
        read.value.set('model', 'm');
        const expected = JSON.parse(text);
        // A member called __proto__ is one like others to JSON.parse alone.
        Object.defineProperty(expected, 'model', { value: 'm', enumerable: true });
        expect(JSON.parse(read.value.toString())).toEqual(expected);
        read.value.delete('model');
        expect(read.value.has('model')).toBe(false);
      }),
    );
  });
});
