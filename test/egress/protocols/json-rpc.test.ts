import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { rpcFromText } from '../../../supervisor/egress/protocols/json-rpc.ts';

const call = (more: object): string => JSON.stringify({ jsonrpc: '2.0', id: 1, ...more });

describe('a JSON-RPC body', () => {
  test.each([
    [call({ method: 'a' }), [{ method: 'a' }], false],
    [call({ method: 'a', params: [1] }), [{ method: 'a' }], false],
    ['{"jsonrpc":"2.0","method":"notify"}', [{ method: 'notify' }], false],
    [call({ result: 1 }), [], true],
    [call({ error: { code: 1 } }), [], true],
    [
      `[${call({ method: 'a' })},${call({ method: 'b' })},${call({ result: null })}]`,
      [{ method: 'a' }, { method: 'b' }],
      true,
    ],
    [call({ method: 'tools/call', params: { name: 'x' } }), [{ method: 'tools/call' }], false],
  ])('%s is read', (text, calls, hasResponse) => {
    expect(rpcFromText(text, false)).toEqual({ kind: 'json-rpc', calls, hasResponse });
  });

  test('of mcp has the tool of a tools/call', () => {
    expect(
      rpcFromText(
        call({ method: 'tools/call', params: { name: 'x', arguments: { Name: 1, name: 2 } } }),
        true,
      ),
    ).toEqual({
      kind: 'json-rpc',
      calls: [{ method: 'tools/call', tool: 'x' }],
      hasResponse: false,
    });
  });

  test.each([
    ['', 'no JSON'],
    ['\ufeff{}', 'a byte order mark'],
    ['1', 'a number'],
    ['null', 'null'],
    ['[]', 'an empty batch'],
    ['[[]]', 'a batch in a batch'],
    [`[${call({ method: 'a' })},1]`, 'a batch with something else'],
    [`[${Array.from({ length: 1001 }, () => call({ method: 'a' })).join(',')}]`, 'a batch too long'],
    ['{"method":"a","id":1}', 'no version'],
    ['{"jsonrpc":2.0,"method":"a","id":1}', 'a version that is a number'],
    ['{"jsonrpc":"1.0","method":"a","id":1}', 'another version'],
    [call({}), 'neither call nor response'],
    [call({ method: '' }), 'an empty method'],
    [call({ method: 1 }), 'a method that is none'],
    [call({ method: null }), 'a method of null'],
    [call({ method: 'a', result: 1 }), 'call and response'],
    [call({ method: 'a', params: 'x' }), 'params of text'],
    [call({ method: 'a', params: null }), 'params of null'],
    [call({ method: 'a', id: {} }), 'an id that is an object'],
    [call({ method: 'a', id: true }), 'an id that is a truth'],
    ['{"jsonrpc":"2.0","id":1,"method":"a","method":"b"}', 'a method twice'],
    ['{"jsonrpc":"2.0","id":1,"method":"a","\\u006dethod":"b"}', 'a method twice, once escaped'],
    ['{"jsonrpc":"2.0","id":1,"method":"a","Method":"b"}', 'a method in another case beside it'],
    ['{"jsonrpc":"2.0","id":1,"result":1,"METHOD":"b"}', 'a response that some read as a call'],
    ['{"jsonrpc":"2.0","id":1,"method":"a","param\u017f":{}}', 'params with a long s'],
  ])('%s is malformed: %s', (text) => {
    for (const mcp of [false, true]) expect(rpcFromText(text, mcp).kind).toBe('malformed');
  });

  test.each<readonly [object, string]>([
    [{}, 'no params'],
    [{ params: {} }, 'no name'],
    [{ params: [] }, 'params in an array'],
    [{ params: { name: '' } }, 'an empty name'],
    [{ params: { name: 1 } }, 'a name that is a number'],
    [{ params: { name: 'x', Name: 'y' } }, 'a name in another case beside it'],
    [{ params: { NAME: 'y' } }, 'a name in another case'],
  ])('of mcp, tools/call with %j is malformed: %s', (more) => {
    expect(rpcFromText(call({ method: 'tools/call', ...more }), true).kind).toBe('malformed');
  });

  test('that is anything at all never throws, and is read only when JSON.parse and the version agree', () => {
    const json = fc.json().map((text) => text);
    const near = fc
      .record(
        {
          jsonrpc: fc.constantFrom('2.0', 2, null),
          id: fc.jsonValue(),
          method: fc.oneof(fc.string(), fc.constantFrom('tools/call'), fc.jsonValue()),
          params: fc.jsonValue(),
          result: fc.jsonValue(),
        },
        { requiredKeys: [] },
      )
      .map((value) => JSON.stringify(value));
    const broken = fc.tuple(near, fc.nat(), fc.string({ maxLength: 2 })).map(([text, at, extra]) => {
      const cut = at % (text.length + 1);
      return text.slice(0, cut) + extra + text.slice(cut);
    });
    let read = 0;
    fc.assert(
      fc.property(fc.oneof(fc.string(), json, near, broken), fc.boolean(), (text, mcp) => {
        const facts = rpcFromText(text, mcp);
        if (facts.kind === 'malformed') return;
        read += 1;
        if (facts.kind !== 'json-rpc') throw new Error(facts.kind);
        const value: unknown = JSON.parse(text);
        for (const one of Array.isArray(value) ? value : [value]) expect(one.jsonrpc).toBe('2.0');
        for (const { method, tool } of facts.calls) {
          expect(method.length).toBeGreaterThan(0);
          if (mcp && method === 'tools/call') expect(tool).toBeTruthy();
        }
      }),
      { numRuns: 3000 },
    );
    // Else it would have shown nothing; some twenty are usual.
    expect(read).toBeGreaterThan(0);
  });
});
