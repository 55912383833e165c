import * as fc from 'fast-check';
import { describe, expect, test, vi } from 'vitest';
import {
  admitTarget,
  canonicalizeTarget,
  MAX_PATH_BYTES,
  parseQuery,
} from '../../supervisor/policy/target.ts';
import { grantOf } from './grants.ts';

// Thousands of cases, on a machine that may be busy.
vi.setConfig({ testTimeout: 60_000 });

const canonical = (target: string, allowEncodedSlash = false) => {
  const result = canonicalizeTarget(target, { allowEncodedSlash });
  return result.ok ? result.value.path : undefined;
};

describe('a canonical path', () => {
  test.each([
    ['/', '/'],
    ['', '/'],
    ['/a/b', '/a/b'],
    ['/a/b/', '/a/b/'],
    ['/a/%62%2e%7E', '/a/b.~'],
    ['/a/%c3%a9', '/a/%C3%A9'],
    ['/a%20b', '/a%20b'],
    ['/a%25b', '/a%25b'],
    ['/%252e%252e/x', '/%252e%252e/x'],
    ['/a//b', '/a/b'],
    ['///', '/'],
    ['/a/./b', '/a/b'],
    ['/a/b/.', '/a/b/'],
    ['/a/../b', '/b'],
    ['/a/b/..', '/a/'],
    ['/a/%2e%2E/b', '/b'],
    ['/a/..;x=1/b', '/b'],
    ['/a;x=1/b;y', '/a/b'],
    ['/a%3Bx/b', '/a/b'],
    ['/a/;x', '/a/'],
    ['/a/;x/b', '/a/b'],
    ['/...', '/...'],
    ['/.hidden', '/.hidden'],
    ['/a\\b', '/a%5Cb'],
    ['/a|b', '/a%7Cb'],
    ["/a!$&'()*+,=:@", "/a!$&'()*+,=:@"],
    ['http://h.test/a/../b', '/b'],
    ['http://h.test', '/'],
    ['/a://b', '/a:/b'],
  ])('of %s is %s', (target, path) => {
    expect(canonical(target)).toBe(path);
  });

  test.each([
    ['a control character', '/a\x01'],
    ['a line feed', '/a\n'],
    ['a blank', '/a b'],
    ['a delete', '/a\x7f'],
    ['an encoded control character', '/a%0a'],
    ['an encoded NUL', '/a%00'],
    ['non-ASCII', '/é'],
    ['a fragment', '/a#b'],
    ['half an escape', '/a%4'],
    ['no escape at all', '/a%zz'],
    ['an encoded slash', '/a%2Fb'],
    ['an encoded slash in parameters', '/a;%2f/b'],
    ['a climb above the root', '/../a'],
    ['a climb above the root, encoded', '/a/%2e%2e/%2e%2e/b'],
    ['a climb hidden by parameters', '/..;/a'],
    ['an asterisk', '*'],
    ['no slash in front', 'a/b'],
    ['an authority', 'h.test:443'],
    ['more than it may', `/${'a'.repeat(MAX_PATH_BYTES)}`],
  ])('does not exist with %s', (_what, target) => {
    expect(canonical(target)).toBeUndefined();
  });

  test.each([
    ['/a%2Fb', '/a%2Fb'],
    ['/a%2fb/../c', '/c'],
    ['/a%2F..%2Fb', undefined],
    ['/..%2fa', undefined],
    ['/a%2F.', undefined],
  ])('of %s, where encoded slashes are allowed, is %s', (target, path) => {
    expect(canonical(target, true)).toBe(path);
  });

  test('comes with the query as it was, and tells whether it was rewritten', () => {
    expect(canonicalizeTarget('/a/../b?x=/../%2F?', { allowEncodedSlash: false })).toEqual({
      ok: true,
      value: { path: '/b', query: 'x=/../%2F?', rewritten: true },
    });
    expect(canonicalizeTarget('/b?', { allowEncodedSlash: false })).toEqual({
      ok: true,
      value: { path: '/b', query: '', rewritten: false },
    });
  });

  const pieces = fc
    .array(
      fc.constantFrom(
        '/',
        '.',
        '..',
        ';',
        '%2e',
        '%2F',
        '%2f',
        '%25',
        '%',
        'a',
        'B',
        '%41',
        '%00',
        '\\',
        '?',
      ),
      {
        maxLength: 12,
      },
    )
    .map((parts) => `/${parts.join('')}`);

  test('is its own canonical path, and holds nothing that a server could take otherwise', () => {
    fc.assert(
      fc.property(pieces, fc.boolean(), (target, allowEncodedSlash) => {
        const path = canonical(target, allowEncodedSlash);
        if (path === undefined) return;
        expect(canonical(path, allowEncodedSlash)).toBe(path);
        expect(path).toMatch(/^\/[\x21-\x7e]*$/);
        expect(path).not.toMatch(/\/\/|;|\?|#|\\/);
        const decoded = path.replaceAll('%2F', '/');
        expect(decoded.split('/').some((segment) => segment === '.' || segment === '..')).toBe(false);
        if (!allowEncodedSlash) expect(path).not.toContain('%2F');
      }),
      { numRuns: 5000 },
    );
  });

  test('is where a URL parser would go, for what such a parser understands', () => {
    const plain = fc
      .array(fc.constantFrom('a', 'b', '.', '..', 'c.d', '%7Ea'), { minLength: 1, maxLength: 7 })
      .map((parts) => `/${parts.join('/')}`);
    fc.assert(
      fc.property(plain, (target) => {
        const path = canonical(target);
        if (path !== undefined)
          expect(path).toBe(new URL(target, 'http://h.test').pathname.replaceAll('%7E', '~'));
      }),
      { numRuns: 2000 },
    );
  });

  test('never makes anything throw, whatever comes', () => {
    const bytes = fc.uint8Array({ maxLength: 40 }).map((array) => Buffer.from(array).toString('latin1'));
    fc.assert(
      fc.property(fc.oneof(bytes, fc.string(), fc.webUrl()), fc.boolean(), (target, allowEncodedSlash) => {
        const result = canonicalizeTarget(target, { allowEncodedSlash });
        if (!result.ok) expect(result.error.length).toBeGreaterThan(5);
      }),
      { numRuns: 5000 },
    );
    expect(canonical(`/${';'.repeat(4000)}`)).toBe('/');
  });
});

describe('a query', () => {
  const parsed = (raw: string) => {
    const result = parseQuery(raw);
    return result.ok ? Object.fromEntries(result.value) : undefined;
  };
  test.each([
    ['', {}],
    ['a=1&b=2&a=3', { a: ['1', '3'], b: ['2'] }],
    ['a', { a: [''] }],
    ['a=b=c', { a: ['b=c'] }],
    ['&&a=1&', { a: ['1'] }],
    ['a%20b=c+d%2B', { 'a b': ['c d+'] }],
    ['=x', { '': ['x'] }],
    ['q=%C3%A9', { q: ['é'] }],
    ['q=%ff', undefined],
    ['q=%4', undefined],
    [Array(1001).fill('a').join('&'), undefined],
  ])('%s', (raw, expected) => {
    expect(parsed(raw)).toEqual(expected);
  });

  test('agrees with URLSearchParams on what both can decode, and never throws', () => {
    const raws = fc
      .array(fc.constantFrom('a', 'b', '=', '&', '+', '%20', '%3D', '%', 'é'), { maxLength: 12 })
      .map((parts) => parts.join(''));
    fc.assert(
      fc.property(raws, (raw) => {
        const result = parseQuery(raw);
        if (!result.ok) return;
        const expected = new URLSearchParams(raw);
        for (const key of new Set(expected.keys()))
          expect(result.value.get(key)).toEqual(expected.getAll(key));
        expect(result.value.size).toBe(new Set(expected.keys()).size);
      }),
      { numRuns: 2000 },
    );
  });
});

describe('an admitted target', () => {
  const grant = grantOf(
    'protocol: rest, access: full, path: "/v1/**"',
    'protocol: rest, access: full, path: "/v1/files/**", allow_encoded_slash: true',
  );
  test('knows its endpoint, path and query', () => {
    expect(admitTarget(grant, '/v1/x/../y?a=1')).toMatchObject({
      ok: true,
      value: { path: '/v1/y', rawQuery: 'a=1', endpoint: { place: 'network_policies.a.endpoints[0]' } },
    });
  });

  test.each([
    ['/v2', 'uncovered'],
    ['/v1/../v2', 'uncovered'],
    ['/v1/%2F', 'malformed'],
    ['/v1/x?q=%', 'malformed'],
    ['*', 'malformed'],
  ])('is refused for %s: %s', (target, kind) => {
    expect(admitTarget(grant, target)).toMatchObject({ ok: false, error: { kind } });
  });

  test('may hold an encoded slash only where its own endpoint says so', () => {
    expect(admitTarget(grant, '/v1/files/a%2Fb').ok).toBe(true);
    expect(admitTarget(grant, '/v1/other/a%2Fb').ok).toBe(false);
  });

  test('has no endpoint where none is inspected', () => {
    expect(admitTarget(grantOf('tls: skip'), '/x')).toMatchObject({
      ok: true,
      value: { endpoint: undefined },
    });
  });
});
