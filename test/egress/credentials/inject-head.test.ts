import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { CredentialStore } from '../../../supervisor/egress/credentials/credential-store.ts';
import { type AllowedHead, injectHead } from '../../../supervisor/egress/credentials/inject-head.ts';
import { guardBody } from '../../../supervisor/egress/credentials/marker-guard.ts';
import { holdsMarker } from '../../../supervisor/egress/credentials/placeholder.ts';
import { readProviders } from '../../dev-gateway/providers.ts';

const endpoints = [{ host: 'api.test', port: 443 }];
const store = new CredentialStore(() => 0);
store.update(
  readProviders(
    JSON.stringify({
      KEY: { value: 's3cret', endpoints },
      ODD: { value: 'a/b?c', endpoints },
      DOTS: { value: '..', endpoints },
      AWAY: { value: 'x', endpoints: [{ host: 'away.test', port: 443 }] },
    }),
    1n,
  ),
);
const P = 'openshell:resolve:env:v1_KEY';
const head = (part: Partial<AllowedHead>): AllowedHead => ({
  path: '/',
  rawQuery: undefined,
  fields: [],
  ...part,
});
const inject = (part: Partial<AllowedHead>) => injectHead(head(part), store, { host: 'api.test', port: 443 });
const basic = (text: string) => `Basic ${Buffer.from(text).toString('base64')}`;

describe('a placeholder is replaced', () => {
  test.each<[string, Partial<AllowedHead>, Partial<AllowedHead>]>([
    ['as a whole value', { fields: [['X-Key', P]] }, { fields: [['X-Key', 's3cret']] }],
    [
      'behind a scheme',
      { fields: [['Authorization', `Bearer ${P}`]] },
      { fields: [['Authorization', 'Bearer s3cret']] },
    ],
    [
      'inside Basic',
      { fields: [['Authorization', basic(`me:${P}`)]] },
      { fields: [['Authorization', basic('me:s3cret')]] },
    ],
    ['in a path segment', { path: `/bot${P}/x` }, { path: '/bots3cret/x' }],
    ['in a query value', { rawQuery: `a=1&key=${P}&b` }, { rawQuery: 'a=1&key=s3cret&b' }],
    [
      'in a query value that is encoded',
      { rawQuery: `key=${encodeURIComponent(P)}` },
      { rawQuery: 'key=s3cret' },
    ],
    ['and encoded for a query', { rawQuery: 'k=openshell:resolve:env:v1_ODD' }, { rawQuery: 'k=a%2Fb%3Fc' }],
    ['twice', { fields: [['X', `${P},${P}`]] }, { fields: [['X', 's3cret,s3cret']] }],
  ])('%s', (_name, before, after) => {
    expect(inject(before)).toEqual({ ok: true, value: head(after) });
  });
});

describe('a request is refused', () => {
  test.each<[string, Partial<AllowedHead>, string]>([
    ['for a credential of another place', { fields: [['X', 'openshell:resolve:env:v1_AWAY']] }, 'mismatch'],
    ['for an unknown key', { fields: [['X', 'openshell:resolve:env:v1_NOPE']] }, 'unavailable'],
    ['for an unknown revision', { fields: [['X', 'openshell:resolve:env:v9_KEY']] }, 'unavailable'],
    ['when the marker is left unfinished', { fields: [['X', 'openshell:resolve:env:']] }, 'unavailable'],
    ['when a field holds it encoded', { fields: [['X', encodeURIComponent(P)]] }, 'unavailable'],
    [
      'when a field holds it encoded twice',
      { fields: [['X', encodeURIComponent(encodeURIComponent(P))]] },
      'unavailable',
    ],
    ['when a query name holds it', { rawQuery: `${P}=1` }, 'unavailable'],
    [
      'when an alias is used for a bound key',
      { fields: [['X', 'xOPENSHELL-RESOLVE-ENV-KEY']] },
      'unavailable',
    ],
    ['when the value would change the path', { path: '/openshell:resolve:env:v1_ODD' }, 'unavailable'],
    ['when the value would climb', { path: '/a/openshell:resolve:env:v1_DOTS' }, 'unavailable'],
  ])('%s', (_name, before, kind) => {
    const answer = inject(before);
    expect(answer).toMatchObject({ ok: false, error: { kind } });
    expect(JSON.stringify(answer)).not.toContain('s3cret');
  });
});

test('no head that passes holds a marker, whatever was in it', () => {
  const piece = fc.oneof(
    fc.constantFrom(
      P,
      'openshell:resolve:env:',
      'openshell:',
      encodeURIComponent(P),
      'xOPENSHELL-RESOLVE-ENV-A',
      '%6fpenshell:resolve:env:v1_KEY',
    ),
    fc.stringMatching(/^[a-z0-9:%&=_-]{0,12}$/),
  );
  const text = fc.array(piece, { maxLength: 4 }).map((pieces) => pieces.join(''));
  fc.assert(
    fc.property(text, text, text, (value, query, segment) => {
      const answer = inject({
        fields: [['X', value]],
        rawQuery: query,
        path: `/${segment.replaceAll('%', '')}`,
      });
      if (!answer.ok) return;
      const { fields, rawQuery = '', path } = answer.value;
      for (const part of [...fields.map(([, one]) => one), rawQuery, path])
        expect(holdsMarker(part)).toBe(false);
    }),
    { numRuns: 2000 },
  );
});

describe('a body that streams through', () => {
  const run = (chunks: readonly Buffer[]) =>
    new Promise<{ readonly text: string; readonly broken: boolean }>((resolve) => {
      const out: Buffer[] = [];
      let broken = false;
      const guard = guardBody(() => {
        broken = true;
      });
      guard.on('data', (chunk: Buffer) => out.push(chunk));
      guard.on('error', () => undefined);
      guard.on('close', () => resolve({ text: Buffer.concat(out).toString(), broken }));
      for (const chunk of chunks) if (!guard.destroyed) guard.write(chunk);
      if (!guard.destroyed) guard.end();
    });

  test('is broken off by a placeholder that is split anywhere, before it is whole outside', async () => {
    const body = Buffer.from(`{"key":"${P}"}`);
    for (let at = 1; at < body.length; at += 1) {
      const { text, broken } = await run([body.subarray(0, at), body.subarray(at)]);
      expect(broken, `split at ${at}`).toBe(true);
      expect(text).not.toContain('openshell:resolve:env:');
    }
  });

  test('passes as it is otherwise, however it is cut', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.uint8Array({ maxLength: 60 }), { maxLength: 8 }), async (parts) => {
        const chunks = parts.map((part) => Buffer.from(part));
        expect(await run(chunks)).toEqual({ text: Buffer.concat(chunks).toString(), broken: false });
      }),
    );
  });
});
