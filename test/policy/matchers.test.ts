import * as fc from 'fast-check';
import { describe, expect, test, vi } from 'vitest';
import { compileBinaryPattern } from '../../supervisor/policy/binary-pattern.ts';
import { PATH_GLOB, parseGlob, VALUE_GLOB } from '../../supervisor/policy/glob.ts';
import { compileHostPattern, hostsOverlap } from '../../supervisor/policy/host-pattern.ts';
import {
  compilePathGlob,
  compilePathScope,
  compileValueGlob,
  scopesOverlap,
} from '../../supervisor/policy/matchers.ts';

// Thousands of cases, on a machine that may be busy.
vi.setConfig({ testTimeout: 60_000 });

/** The slow and obvious way: tries every split at every wildcard. No classes, braces or escapes. */
function naive(pattern: string, text: string, delimiter: string, crossing = false): boolean {
  const walk = (p: string, t: string, atStart: boolean): boolean => {
    if (p === '') return t === '';
    if (p === '**' && atStart) return true;
    if (p.startsWith(`**${delimiter}`) && atStart) {
      const rest = p.slice(3);
      if (walk(rest, t, true)) return true;
      for (let i = 0; i < t.length; i++)
        if (t[i] === delimiter && walk(rest, t.slice(i + 1), true)) return true;
      return false;
    }
    if (p.startsWith('*')) {
      // A `**` that is no whole segment is two of `*`.
      const rest = p.slice(1);
      for (let i = 0; i <= t.length; i++) {
        if (walk(rest, t.slice(i), false)) return true;
        if (t[i] === delimiter && !crossing) return false;
      }
      return false;
    }
    if (t === '') return false;
    const same = p[0] === '?' ? crossing || t[0] !== delimiter : p[0] === t[0];
    return same && walk(p.slice(1), t.slice(1), p[0] === delimiter);
  };
  return walk(pattern, text, true);
}

const pieces = (delimiter: string) =>
  fc
    .array(fc.constantFrom('a', 'b', '*', '**', '?', delimiter), { maxLength: 7 })
    .map((parts) => parts.join(''))
    // Three stars in a row are nobody's meaning: left to the table.
    .filter((pattern) => !pattern.includes('***'));
const texts = (delimiter: string) =>
  fc.array(fc.constantFrom('a', 'b', delimiter), { maxLength: 9 }).map((parts) => parts.join(''));

describe('the glob of a path in a rule', () => {
  test.each([
    ['/a', '/a', true],
    ['/a', '/a/', false],
    ['/a/*', '/a/b', true],
    ['/a/*', '/a/', true],
    ['/a/*', '/a/b/c', false],
    ['/a/**', '/a/b/c', true],
    ['/a/**', '/a/', true],
    ['/a/**', '/a', false],
    ['**', '/anything/at/all', true],
    ['/**', '/', true],
    ['/**/x', '/x', true],
    ['/**/x', '/a/b/x', true],
    ['/**/x', '/ax', false],
    ['/a/**/b', '/a/b', true],
    ['/a/**/b', '/a/x/y/b', true],
    ['/a**', '/abc', true],
    ['/a**', '/abc/d', false],
    ['/a***', '/abc/d', false],
    ['/repos/{x,y}/issues', '/repos/y/issues', true],
    ['/repos/{x,y}/issues', '/repos/z/issues', false],
    ['/{a,b{c,d}}', '/bd', true],
    ['/v[0-9]', '/v7', true],
    ['/v[!0-9]', '/v7', false],
    ['/v[^0-9]', '/vx', true],
    ['/v[!0-9]', '/v/', false],
    ['/v[]]', '/v]', true],
    ['/?', '/x', true],
    ['/?', '//', false],
    ['/a\\*', '/a*', true],
    ['/a\\*', '/ab', false],
    ['/a.b', '/axb', false],
    ['/A', '/a', false],
  ])('%s and %s: %s', (pattern, path, expected) => {
    expect(compilePathGlob(pattern)(path)).toBe(expected);
  });

  test('agrees with trying every way', () => {
    fc.assert(
      fc.property(pieces('/'), texts('/'), (pattern, text) => {
        expect(compilePathGlob(pattern)(text)).toBe(naive(pattern, text, '/'));
      }),
      { numRuns: 2000 },
    );
  });

  test('takes time in proportion to the text, however many wildcards there are', () => {
    const pattern = `${'*a'.repeat(40)}b`;
    expect(compilePathGlob(pattern)('a'.repeat(4096))).toBe(false);
  });
});

describe('the glob of a value', () => {
  test.each([
    ['NVIDIA/*', 'NVIDIA/a/b', true],
    ['*', 'a/b', true],
    ['*', 'a.b', false],
    ['**', 'a.b', true],
    ['v1.*', 'v1.2', true],
    ['v1.*', 'v1.2.3', false],
    ['{read,list}_*', 'list_files', true],
    ['tools/*', 'tools/call', true],
    ['', '', true],
    ['', 'a', false],
  ])('%s and %s: %s', (pattern, value, expected) => {
    expect(compileValueGlob(pattern)(value)).toBe(expected);
  });

  test('agrees with trying every way', () => {
    fc.assert(
      fc.property(pieces('.'), texts('.'), (pattern, text) => {
        expect(compileValueGlob(pattern)(text)).toBe(naive(pattern, text, '.'));
      }),
      { numRuns: 2000 },
    );
  });
});

describe('a glob', () => {
  test.each([
    ['a{b', 'has a { without its }'],
    ['a}b', 'has a } without its {'],
    ['a[b', 'has a [ without its ]'],
    ['a[z-a]', 'has the range z-a, which is the wrong way round'],
    ['a\\', 'ends with a backslash that escapes nothing'],
    ['{a,b}'.repeat(7), 'has more than 64 alternatives'],
    [`${'{'.repeat(10)}${'}'.repeat(10)}`, 'nests braces more than 8 deep'],
    ['*'.repeat(4097), 'is longer than 4096 characters'],
  ])('%s is refused', (pattern, error) => {
    expect(parseGlob(pattern, PATH_GLOB)).toEqual({ ok: false, error });
  });

  test('that makes no sense is refused or matched, never thrown on', () => {
    const odd = fc
      .array(fc.constantFrom('{', '}', '[', ']', '!', '-', '\\', ',', '*', '/', '.', 'a', 'é', '😀'), {
        maxLength: 12,
      })
      .map((parts) => parts.join(''));
    fc.assert(
      fc.property(odd, fc.string({ unit: 'grapheme' }), (pattern, text) => {
        for (const dialect of [PATH_GLOB, VALUE_GLOB]) {
          const parsed = parseGlob(pattern, dialect);
          if (!parsed.ok) expect(parsed.error).toMatch(/^(has|ends)/);
        }
        expect(typeof compilePathGlob(pattern)(text)).toBe('boolean');
      }),
      { numRuns: 2000 },
    );
  });

  test('without any wildcard is itself', () => {
    fc.assert(
      fc.property(
        fc.string().filter((text) => !/[*?[\]{}\\]/.test(text)),
        fc.string(),
        (pattern, text) => {
          expect(compilePathGlob(pattern)(pattern)).toBe(true);
          expect(compilePathGlob(pattern)(text)).toBe(pattern === text);
        },
      ),
    );
  });
});

describe('the path of an endpoint', () => {
  test.each([
    ['', '/x', true, 0],
    ['**', '/x', true, 0],
    ['/**', '/x', true, 1],
    ['/a/**', '/a', true, 3],
    ['/a/**', '/a/b/c', true, 3],
    ['/a/**', '/ab', false, 3],
    ['/a/*', '/a/b/c', true, 3],
    ['/a/*/c', '/a/b/b/c', true, 5],
    ['/a/*/**', '/a/x', true, 4],
    ['/a', '/a/', false, 2],
    ['/{a}', '/{a}', true, 4],
    ['/a[', '/a[', true, 3],
    ['/a[', '/ab', false, 3],
  ])('%s covers %s: %s, of specificity %i', (pattern, path, expected, specificity) => {
    const scope = compilePathScope(pattern);
    expect([scope.matches(path), scope.specificity]).toEqual([expected, specificity]);
  });

  test('agrees with trying every way', () => {
    fc.assert(
      fc.property(pieces('/'), texts('/'), (pattern, text) => {
        const below = pattern.endsWith('/**') && naive(pattern.slice(0, -3), text, '/', true);
        const all = ['', '**', '/**'].includes(pattern);
        expect(compilePathScope(pattern).matches(text)).toBe(all || below || naive(pattern, text, '/', true));
      }),
      { numRuns: 2000 },
    );
  });

  test('overlaps another one where some path is in both', () => {
    fc.assert(
      fc.property(pieces('/'), pieces('/'), texts('/'), (a, b, path) => {
        const both = compilePathScope(a).matches(path) && compilePathScope(b).matches(path);
        if (both) expect(scopesOverlap(a, b)).toBe(true);
      }),
      { numRuns: 2000 },
    );
    expect(scopesOverlap('/a/**', '/b/**')).toBe(false);
    expect(scopesOverlap('/a/*', '/*/b')).toBe(true);
    expect(scopesOverlap('/a?', '/b*')).toBe(false);
  });
});

describe('the pattern of a host', () => {
  const label = fc.stringMatching(/^[a-z0-9]{1,5}$/);
  const matches = (pattern: readonly string[], host: readonly string[]): boolean => {
    const [first, ...rest] = pattern;
    if (first === undefined) return host.length === 0;
    if (first === '**') return host.some((_, index) => matches(rest, host.slice(index + 1)));
    return host.length > 0 && naive(first, host[0] ?? '', '.') && matches(rest, host.slice(1));
  };
  const patterns = fc.array(fc.oneof(label, fc.constantFrom('*', '**', 'a', 'a*', '*b', '*a*')), {
    minLength: 1,
    maxLength: 5,
  });
  const hosts = fc.array(fc.oneof(label, fc.constantFrom('a', 'b', 'ab')), { minLength: 1, maxLength: 6 });

  test('agrees with matching label by label', () => {
    fc.assert(
      fc.property(patterns, hosts, (pattern, host) => {
        expect(compileHostPattern(pattern.join('.'))(host.join('.'))).toBe(matches(pattern, host));
      }),
      { numRuns: 2000 },
    );
  });

  test('overlaps another one where some host is in both', () => {
    fc.assert(
      fc.property(patterns, patterns, hosts, (a, b, host) => {
        if (matches(a, host) && matches(b, host)) expect(hostsOverlap(a.join('.'), b.join('.'))).toBe(true);
      }),
      { numRuns: 2000 },
    );
  });

  test.each([
    ['*.a.test', '*.b.test', false],
    ['*.a.test', 'x.a.test', true],
    ['*.a.test', 'x.y.a.test', false],
    ['**.a.test', '*.b.a.test', true],
    ['a*.x.test', '*b.x.test', true],
    ['a*.x.test', 'b*.x.test', false],
    ['A.test', 'a.TEST', true],
    ['', 'a.test', true],
  ])('%s and %s overlap: %s', (a, b, expected) => {
    expect([hostsOverlap(a, b), hostsOverlap(b, a)]).toEqual([expected, expected]);
  });
});

describe('the pattern of a binary', () => {
  test.each([
    ['/usr/bin/curl', '/usr/bin/curl', true],
    ['/usr/bin/{curl}', '/usr/bin/curl', false], // no star: itself
    ['/usr/bin/{curl}', '/usr/bin/{curl}', true],
    ['/usr/bin/*', '/usr/bin/curl', true],
    ['/usr/bin/*', '/usr/bin/x/curl', false],
    ['/usr/**', '/usr/bin/x/curl', true],
    ['/**', '/bin/sh', true],
    ['**', '/bin/sh', true],
    ['/usr/bin/{curl,git}*', '/usr/bin/git-lfs', true],
  ])('%s and %s: %s', (pattern, path, expected) => {
    expect(compileBinaryPattern(pattern)(path)).toBe(expected);
  });

  test('agrees with trying every way when it holds a star', () => {
    fc.assert(
      fc.property(pieces('/'), texts('/'), (pattern, text) => {
        const path = `/${text}`;
        const glob = `/${pattern}*`.replace('***', '**');
        expect(compileBinaryPattern(glob)(path)).toBe(naive(glob, path, '/'));
      }),
      { numRuns: 1000 },
    );
  });
});
