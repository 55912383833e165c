import { validateHeaderName, validateHeaderValue } from 'node:http';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type {
  ExistingHeaderAction,
  HeaderMutation,
} from '../../../proto/generated/openshell/middleware/v1/middleware.ts';
import type { Field } from '../../../supervisor/egress/http/fields.ts';
import { mutated, nominatedBy, visibleHeaders } from '../../../supervisor/egress/middleware/headers.ts';

const [APPEND, OVERWRITE, SKIP] = [1, 2, 3] as const;
const write = (name: string, value: string, onExisting: number): HeaderMutation => ({
  operation: { $case: 'write', value: { name, value, onExisting: onExisting as ExistingHeaderAction } },
});
const remove = (name: string): HeaderMutation => ({ operation: { $case: 'remove', value: { name } } });
const TAG = 'x-openshell-middleware-tag';

describe('what a middleware asks of field lines', () => {
  const before: readonly Field[] = [
    ['X-OpenShell-Middleware-Tag', 'one'],
    ['Accept', '*/*'],
  ];
  test.each([
    [APPEND, [...before, [TAG, 'two']]],
    [OVERWRITE, [before[1], [TAG, 'two']]],
    [SKIP, before],
  ])('is done as on_existing %s says', (action, after) => {
    expect(mutated(before, [], [write('X-OpenShell-Middleware-TAG', ' two ', action)])).toEqual({
      ok: true,
      value: after,
    });
    expect(mutated([], [], [write(TAG, 'two', action)])).toEqual({ ok: true, value: [[TAG, 'two']] });
  });

  test('removes every line of a name', () => {
    const lines: readonly Field[] = [
      ['X-A', '1'],
      ['b', '2'],
      ['x-a', '3'],
    ];
    expect(mutated(lines, [], [remove('X-a')])).toEqual({ ok: true, value: [['b', '2']] });
  });

  test('does not touch what the connection nominates', () => {
    const nominated = nominatedBy(`close, X-OpenShell-Middleware-Tag`);
    for (const mutation of [write(TAG, 'a', APPEND), remove(TAG)])
      expect(mutated(before, nominated, [mutation])).toEqual({
        ok: false,
        error: 'header_mutation_hop_by_hop_header',
      });
  });

  test('writes UTF-8 as its bytes, and shows bytes as UTF-8 where they are that', () => {
    const written = mutated([], [], [write(TAG, 'é€', APPEND)]);
    expect(written.ok && written.value).toEqual([[TAG, Buffer.from('é€').toString('latin1')]]);
    expect(visibleHeaders(written.ok ? written.value : [])).toEqual([{ name: TAG, value: 'é€' }]);
    expect(visibleHeaders([['A', 'caf\xe9']])).toEqual([{ name: 'a', value: 'café' }]);
  });
});

const PROTECTED =
  /^(authorization|proxy-authorization|proxy-authenticate|cookie|host|content-length|transfer-encoding|connection|proxy-connection|keep-alive|te|trailer|upgrade|x-amz-.*|x-openshell-credential.*)$/i;
const names = fc.oneof(
  fc.constantFrom(
    'Authorization',
    'COOKIE',
    'host',
    'x-amz-date',
    'X-OpenShell-Credential',
    'te',
    'accept',
    TAG,
  ),
  fc.string({ unit: 'binary', maxLength: 8 }),
  fc.string({ maxLength: 8 }).map((end) => `x-openshell-middleware-${end}`),
);
const values = fc.oneof(
  fc.string({ maxLength: 20 }),
  fc.string({ unit: 'binary', maxLength: 20 }),
  fc.constantFrom('a\r\nHost: b', 'a\0', '\n'),
);
const mutations = fc.array(
  fc.oneof(
    fc
      .tuple(names, values, fc.integer({ min: -1, max: 5 }))
      .map(([name, value, on]) => write(name, value, on)),
    names.map(remove),
    fc.constant({ operation: undefined }),
  ),
  { maxLength: 6 },
);
const lines: fc.Arbitrary<readonly Field[]> = fc.array(
  fc.tuple(
    fc.constantFrom('Authorization', 'cookie', 'X-Amz-Date', 'accept', 'X-Trace', TAG),
    fc.string({ maxLength: 5 }),
  ),
  { maxLength: 8 },
);

test('whatever is asked, what comes out can be sent, keeps what is protected, and is in the names of middlewares', () => {
  fc.assert(
    fc.property(lines, mutations, (before, asked) => {
      const result = mutated(before, ['x-trace'], asked);
      if (!result.ok) return;
      const kept = (all: readonly Field[]) =>
        all.filter(([name]) => PROTECTED.test(name) || name.toLowerCase() === 'x-trace');
      expect(kept(result.value)).toEqual(kept(before));
      for (const field of result.value) {
        if (before.includes(field)) continue;
        expect(field[0]).toMatch(/^x-openshell-middleware-/);
        validateHeaderName(field[0]);
        validateHeaderValue(field[0], field[1]);
      }
    }),
    { numRuns: 2_000 },
  );
});

test('nothing that is protected is shown', () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(names, fc.string())), (fields) => {
      for (const { name } of visibleHeaders(fields)) expect(name).not.toMatch(PROTECTED);
    }),
  );
});
