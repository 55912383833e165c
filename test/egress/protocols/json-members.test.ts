import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { disguisedMember, repeatedMember } from '../../../supervisor/egress/protocols/json-members.ts';

const DECISIVE = new Set(['method', 'params', 'name']);

/** JSON as a tree of which a member may come twice, and its text. */
type Tree =
  | { readonly kind: 'leaf'; readonly text: string }
  | { readonly kind: 'array'; readonly items: readonly Tree[] }
  | { readonly kind: 'object'; readonly members: readonly (readonly [string, Tree])[] };

const names = fc.oneof(
  fc.constantFrom('method', 'params', 'name', 'other', 'Method', '', '"', '\\', '{', '[,', '__proto__'),
  fc.string({ maxLength: 4 }),
);
const { tree } = fc.letrec<{ tree: Tree }>((tie) => ({
  tree: fc.oneof(
    { maxDepth: 4, depthSize: 'small' },
    fc
      .oneof(
        fc.string().map((text) => JSON.stringify(text)),
        fc.constantFrom('1', '-2.5e3', 'true', 'null', '"}"', '"{\\"method\\":1"', '"\\\\"'),
      )
      .map((text): Tree => ({ kind: 'leaf', text })),
    fc.array(tie('tree'), { maxLength: 4 }).map((items): Tree => ({ kind: 'array', items })),
    fc
      .array(fc.tuple(names, tie('tree')), { maxLength: 5 })
      .map((members): Tree => ({ kind: 'object', members })),
  ),
}));

/** The same name in one of its spellings. */
const spelled = (name: string, escaped: boolean): string =>
  escaped
    ? `"${[...name].map((character) => [...Array(character.length)].map((_, at) => `\\u${character.charCodeAt(at).toString(16).padStart(4, '0')}`).join('')).join('')}"`
    : JSON.stringify(name);

function write(node: Tree, blank: string, escaped: boolean): string {
  if (node.kind === 'leaf') return node.text;
  if (node.kind === 'array')
    return `[${blank}${node.items.map((item) => write(item, blank, escaped)).join(`${blank},`)}]`;
  const members = node.members.map(
    ([name, value], at) =>
      `${spelled(name, escaped && at % 2 === 1)}${blank}:${blank}${write(value, blank, escaped)}`,
  );
  return `{${blank}${members.join(`,${blank}`)}${blank}}`;
}

/** The naive walker: looks at the tree that the text was written from. */
function repeats(node: Tree): boolean {
  if (node.kind === 'leaf') return false;
  if (node.kind === 'array') return node.items.some(repeats);
  const decisive = node.members.map(([name]) => name).filter((name) => DECISIVE.has(name));
  return new Set(decisive).size < decisive.length || node.members.some(([, value]) => repeats(value));
}

describe('repeated members', () => {
  test('are those that a naive walk over the same tree finds', () => {
    let found = 0;
    fc.assert(
      fc.property(tree, fc.constantFrom('', ' ', '\n\t'), fc.boolean(), (node, blank, escaped) => {
        const text = write(node, blank, escaped);
        JSON.parse(text);
        const repeated = repeatedMember(text, DECISIVE) !== undefined;
        if (repeated) found += 1;
        expect(repeated).toBe(repeats(node));
      }),
      { numRuns: 3000 },
    );
    expect(found).toBeGreaterThan(50);
  });

  test.each([
    ['{"method":1,"method":2}', true],
    ['{"method":1,"\\u006dethod":2}', true],
    ['[{"method":1},{"method":2}]', false],
    ['{"params":{"name":1,"arguments":{"name":2}}}', false],
    ['{"params":{"name":1,"x":[{"name":1}],"name":2}}', true],
    ['{"x":"\\",\\"method\\":1","method":2}', false],
    ['{"x":{},"method":1,"y":[],"method":2}', true],
    ['{"other":1,"other":2}', false],
  ])('%s: %s', (text, expected) => {
    expect(repeatedMember(text, DECISIVE) !== undefined).toBe(expected);
  });

  test('looks through any text without throwing', () => {
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom(...'{}[]",:\\u0m1 a') }), (text) => {
        const said = repeatedMember(text, DECISIVE);
        expect(said === undefined || typeof said === 'string').toBe(true);
      }),
      { numRuns: 3000 },
    );
  });

  test('takes time in proportion to the text, nested or not', () => {
    for (const text of ['['.repeat(1_000_000), '{"a":'.repeat(200_000), `"${'\\'.repeat(1_000_000)}`]) {
      const before = performance.now();
      repeatedMember(text, DECISIVE);
      expect(performance.now() - before).toBeLessThan(5_000);
    }
  });
});

describe('disguised members', () => {
  test.each([
    [{ Method: 1 }, true],
    [{ METHOD: 1, method: 1 }, true],
    [{ 'param\u017f': 1 }, true],
    [{ method: 1, Other: 2 }, false],
    [{ methods: 1 }, false],
    [[1, 2], false],
    [{}, false],
  ])('%j: %s', (members, expected) => {
    expect(disguisedMember(members, DECISIVE) !== undefined).toBe(expected);
  });
});
