import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  asksByQuery,
  graphqlFromQuery,
  graphqlFromText,
} from '../../../supervisor/egress/protocols/graphql.ts';
import { graphqlMessage } from '../../../supervisor/egress/protocols/graphql-messages.ts';

const body = (query: string, more: object = {}): string => JSON.stringify({ query, ...more });
const only = (text: string) => {
  const facts = graphqlFromText(text);
  if (facts.kind !== 'graphql') throw new Error(JSON.stringify(facts));
  return facts.operations[0];
};

describe('a GraphQL request', () => {
  test.each([
    ['{ a b }', { type: 'query', name: '', fields: ['a', 'b'] }],
    ['query Q { x: a, y: a }', { type: 'query', name: 'Q', fields: ['a'] }],
    ['mutation M($v: Int = 1) @d { a(b: $v) { c } }', { type: 'mutation', name: 'M', fields: ['a'] }],
    ['subscription { news }', { type: 'subscription', name: '', fields: ['news'] }],
    ['{ ... { a } ... on Q @include(if: false) { b } }', { type: 'query', name: '', fields: ['a', 'b'] }],
    [
      '{ ...F } fragment F on Q { a ...G } fragment G on Q { b ...F }',
      { type: 'query', name: '', fields: ['a', 'b'] },
    ],
    [
      '{ __typename __schema { types { name } } }',
      { type: 'query', name: '', fields: ['__typename', '__schema'] },
    ],
    ['{ a(text: "}}} { mutation") } # }', { type: 'query', name: '', fields: ['a'] }],
    ['\ufeff{ a }', { type: 'query', name: '', fields: ['a'] }],
    [
      `{ a(x: """ " } """) ${'{ b '.repeat(120)}${'}'.repeat(120)} }`,
      { type: 'query', name: '', fields: ['a'] },
    ],
  ])('%s has its type, name and root fields', (query, operation) => {
    const found = only(body(query));
    expect({ ...found, fields: [...(found?.fields ?? [])].sort() }).toEqual({
      ...operation,
      fields: [...operation.fields].sort(),
    });
  });

  test('with several operations is the one that operationName chooses', () => {
    expect(only(body('query A { a } mutation B { b }', { operationName: 'B' }))).toEqual({
      type: 'mutation',
      name: 'B',
      fields: ['b'],
    });
  });

  test('may be a batch of up to 100', () => {
    expect(graphqlFromText(`[${body('{ a }')},${body('{ b }')}]`)).toMatchObject({
      kind: 'graphql',
      operations: [{ fields: ['a'] }, { fields: ['b'] }],
    });
    expect(graphqlFromText(`[${Array(101).fill(body('{ a }')).join(',')}]`).kind).toBe('malformed');
  });

  test.each([['id'], ['documentId'], ['queryId']])('may name a saved query by %s', (name) => {
    expect(only(JSON.stringify({ [name]: 'abc', operationName: 'O' }))).toEqual({
      type: '',
      name: 'O',
      fields: [],
      persisted: 'abc',
    });
  });

  test('may name a saved query by its hash, with its text or without', () => {
    const extensions = { persistedQuery: { version: 1, sha256Hash: 'ff' } };
    expect(only(JSON.stringify({ extensions }))).toMatchObject({ type: '', persisted: 'ff' });
    expect(only(body('{ a }', { extensions }))).toMatchObject({ type: 'query', fields: ['a'] });
  });

  test.each([
    ['no JSON', 'x'],
    ['null', 'null'],
    ['an empty batch', '[]'],
    ['nothing', '{}'],
    ['an empty query', body('')],
    ['a blank query', body('  ')],
    ['a query that is a number', '{"query":1}'],
    ['an operationName that is none', body('{ a }', { operationName: 1 })],
    ['an operationName that nobody has', body('query A { a }', { operationName: 'B' })],
    ['several operations and no name', body('query A { a } query B { b }')],
    ['two operations with one name', body('query A { a } mutation A { b }', { operationName: 'A' })],
    ['two anonymous operations', body('{ a } { b }')],
    ['a fragment alone', body('fragment F on Q { a }')],
    ['a fragment that is not there', body('{ ...F }')],
    ['a fragment twice', body('{ ...F } fragment F on Q { a } fragment F on Q { b }')],
    ['a schema', body('{ a } type T { a: Int }')],
    ['a syntax error', body('{ a')],
    ['an id and a text', body('{ a }', { id: 'saved' })],
    ['an id and a text behind empty extensions', body('{ a }', { id: 'saved', extensions: {} })],
    ['two ids', JSON.stringify({ id: 'a', documentId: 'b' })],
    ['an id and a hash', JSON.stringify({ id: 'a', extensions: { persistedQuery: { sha256Hash: 'b' } } })],
    ['an id that is no text', '{"id":1}'],
    ['a hash that is no text', '{"extensions":{"persistedQuery":{"sha256Hash":1}}}'],
    ['a persistedQuery of null', '{"query":"{ a }","extensions":{"persistedQuery":null}}'],
    ['a query twice', '{"query":"{ a }","query":"mutation { b }"}'],
    ['a query in another case', '{"query":"{ a }","Query":"mutation { b }"}'],
    ['only a query in another case', '{"QUERY":"{ a }"}'],
    [
      'an operationName in another case',
      body('query A { a } mutation B { b }', { operationName: 'A', operationname: 'B' }),
    ],
    ['a hash in another case', body('{ a }', { extensions: { PersistedQuery: { sha256Hash: 'b' } } })],
    ['more than 20,000 tokens', body(`{ ${'a '.repeat(20_001)} }`)],
    ['more than 1000 root fields', body(`{ ${Array.from({ length: 1002 }, (_, n) => `f${n}`).join(' ')} }`)],
    ['brackets 129 deep', body(`${'{ a '.repeat(129)}${'}'.repeat(129)}`)],
    [
      'brackets 200 deep behind a comment that closes many',
      body(`# ${'}'.repeat(500)}\n${'{ a '.repeat(200)}${'}'.repeat(200)}`),
    ],
    [
      'brackets 200 deep with closing ones in strings',
      body(`${'{ a(x: "}}}}") '.repeat(200)}${'}'.repeat(200)}`),
    ],
    ['lists 9000 deep', body(`{ a(x: ${'['.repeat(9000)}`)],
  ])('with %s is malformed', (_name, text) => {
    expect(graphqlFromText(text).kind).toBe('malformed');
  });

  test('by GET says the same in its query string', () => {
    const parameters = (entries: readonly (readonly [string, readonly string[]])[]) =>
      graphqlFromQuery(new Map(entries));
    expect(
      parameters([
        ['query', ['mutation { a }']],
        ['variables', ['{}']],
      ]),
    ).toMatchObject({
      operations: [{ type: 'mutation', fields: ['a'] }],
    });
    expect(parameters([['extensions', ['{"persistedQuery":{"sha256Hash":"f"}}']]])).toMatchObject({
      operations: [{ persisted: 'f' }],
    });
    for (const bad of [
      [],
      [['query', ['{ a }', '{ b }']]],
      [
        ['query', ['{ a }']],
        ['Query', ['{ b }']],
      ],
      [['extensions', ['x']]],
      [
        ['query', ['{ a }']],
        ['id', ['b']],
      ],
    ] as const)
      expect(parameters(bad).kind).toBe('malformed');
    expect(asksByQuery(new Map([['id', ['x']]]))).toBe(true);
    expect(asksByQuery(new Map([['QUERY', ['x']]]))).toBe(true);
    expect(asksByQuery(new Map([['trace', ['x']]]))).toBe(false);
  });

  test('that is anything at all never throws; what is read is what was written', () => {
    const name = fc.constantFrom('a', 'b', 'c', 'on', 'query');
    const selection = fc.array(
      fc.oneof(
        name.map((field) => ({ text: ` x: ${field}(s: "}{") { z }`, fields: [field] })),
        name.map((field) => ({ text: ` ${field}`, fields: [field] })),
        name.map((field) => ({ text: ` ... on T { ${field} }`, fields: [field] })),
        fc.constant({ text: ' ...F', fields: ['inF'] }),
      ),
      { minLength: 1, maxLength: 5 },
    );
    fc.assert(
      fc.property(fc.constantFrom('query', 'mutation', 'subscription'), selection, (type, parts) => {
        const text = `fragment F on T { inF } ${type} Q { ${parts.map((part) => part.text).join('')} }`;
        const found = only(body(text));
        expect(found?.type).toBe(type);
        expect(new Set(found?.fields)).toEqual(new Set(parts.flatMap((part) => part.fields)));
      }),
    );
    const soup = fc.string({
      unit: fc.constantFrom(
        '{',
        '}',
        '(',
        ')',
        '[',
        ']',
        '"',
        '"""',
        '#',
        '\n',
        ' a',
        ' on',
        '...',
        '$b',
        ':',
        '@c',
        '1',
        '\\',
        '\u0000',
        '\ud800',
      ),
    });
    fc.assert(
      fc.property(fc.oneof(soup, fc.string(), fc.json()), (text) => {
        for (const facts of [
          graphqlFromText(text),
          graphqlFromText(body(text)),
          graphqlFromQuery(new Map([['query', [text]]])),
        ])
          if (facts.kind === 'graphql')
            for (const { type, persisted } of facts.operations)
              expect(type !== '' || persisted !== undefined).toBe(true);
          else expect(facts.kind).toBe('malformed');
        const message = graphqlMessage(text);
        // Only an object with a type that is known does nothing.
        if (message === undefined) expect(JSON.parse(text)).toHaveProperty('type');
      }),
      { numRuns: 3000 },
    );
  });
});
