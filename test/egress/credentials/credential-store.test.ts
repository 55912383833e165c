import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { CredentialStore } from '../../../supervisor/egress/credentials/credential-store.ts';
import { parsePlaceholder } from '../../../supervisor/egress/credentials/placeholder.ts';
import { readProviders } from '../../dev-gateway/providers.ts';

const PLACE = { host: 'api.test', port: 443, path: '/v1/x' };
const KEY = {
  value: 's3cret',
  endpoints: [{ host: 'api.test', port: 443, path: '/v1/**' }],
};
const HANDLE = 'a'.repeat(64);

function store(credentials: object, revision = 1n, now: () => number = () => 0) {
  const made = new CredentialStore(now);
  expect(made.update(readProviders(JSON.stringify(credentials), revision))).toEqual({
    ok: true,
    value: undefined,
  });
  return made;
}
const variable = (made: CredentialStore, key = 'KEY') => made.workloadVariables().get(key) ?? '';
const ask = (made: CredentialStore, token: string, place = PLACE) =>
  made.resolve(parsePlaceholder(token), place);

describe('a credential', () => {
  test('is named by its revision, and resolves where it is bound', () => {
    const made = store({ KEY });
    expect(variable(made)).toBe('openshell:resolve:env:v1_KEY');
    expect(ask(made, variable(made))).toEqual({ ok: true, value: 's3cret' });
  });

  test.each([
    ['another host', { ...PLACE, host: 'evil.test' }],
    ['another port', { ...PLACE, port: 8443 }],
    ['another path', { ...PLACE, path: '/v2/x' }],
  ])('does not resolve at %s', (_name, place) => {
    const made = store({ KEY });
    expect(ask(made, variable(made), place)).toEqual({ ok: false, error: { kind: 'mismatch', key: 'KEY' } });
  });

  test('of a handle is named by that, and only the current value resolves', () => {
    const made = store({ KEY: { ...KEY, handle: HANDLE } });
    const name = variable(made);
    expect(name).toBe(`openshell:resolve:env:s${HANDLE}_KEY`);
    made.update(readProviders(JSON.stringify({ KEY: { ...KEY, value: 'new', handle: HANDLE } }), 2n));
    expect(ask(made, name)).toEqual({ ok: true, value: 'new' });
    made.update(readProviders(JSON.stringify({ KEY: { ...KEY, handle: 'b'.repeat(64) } }), 3n));
    expect(ask(made, name)).toMatchObject({ ok: false });
  });

  test('that was rotated resolves by its old name to its new value, for eight revisions', () => {
    const made = store({ KEY });
    const name = variable(made);
    for (let revision = 2n; revision <= 9n; revision += 1n) {
      made.update(readProviders(JSON.stringify({ KEY: { ...KEY, value: `v${revision}` } }), revision));
      expect(ask(made, name)).toEqual({ ok: true, value: `v${revision}` });
    }
    made.update(readProviders(JSON.stringify({ KEY }), 10n));
    expect(ask(made, name)).toMatchObject({ ok: false, error: { kind: 'unavailable' } });
  });

  test('of another identity is never sent under the old name', () => {
    const made = store({ KEY });
    const name = variable(made);
    made.update(readProviders(JSON.stringify({ KEY: { ...KEY, value: 'other', identity: 'other' } }), 2n));
    expect(ask(made, name)).toMatchObject({ ok: false });
    expect(ask(made, variable(made))).toEqual({ ok: true, value: 'other' });
  });

  test('that is bound has no name without a revision or a handle', () => {
    expect(ask(store({ KEY }), 'openshell:resolve:env:KEY')).toMatchObject({
      error: { kind: 'unavailable' },
    });
  });

  test.each([
    ['has expired', { ...KEY, expiresAtMs: 5 }],
    ['would break a line', { ...KEY, value: 'a\r\nb' }],
  ])('that %s does not resolve', (_name, credential) => {
    const made = store({ KEY: credential }, 1n, () => 5);
    const answer = ask(made, variable(made));
    expect(answer).toMatchObject({ ok: false, error: { kind: 'unavailable', key: 'KEY' } });
    expect(JSON.stringify(answer)).not.toContain(credential.value);
  });

  test('is gone when everything is revoked', () => {
    const made = store({ KEY });
    const name = variable(made);
    made.revoke();
    expect([ask(made, name).ok, made.empty, made.isBound('api.test', 443)]).toEqual([false, true, false]);
  });

  test('is known to be bound to its hosts and ports', () => {
    const made = store({ KEY: { ...KEY, endpoints: [{ host: '*.api.test', port: 443 }] } });
    expect([
      made.isBound('a.api.test', 443),
      made.isBound('a.api.test', 80),
      made.isBound('api.test', 443),
    ]).toEqual([true, false, false]);
  });
});

describe('what is no secret', () => {
  test('is a placeholder as well, but for the few keys that programs read themselves', () => {
    const made = store({ GCP_PROJECT_ID: { value: 'p' }, REGION: { value: 'r' } });
    expect(Object.fromEntries(made.workloadVariables())).toEqual({
      GCP_PROJECT_ID: 'p',
      REGION: 'openshell:resolve:env:v1_REGION',
    });
    expect(ask(made, 'openshell:resolve:env:v1_REGION', { ...PLACE, host: 'any.test' })).toEqual({
      ok: true,
      value: 'r',
    });
  });

  test('has no variable when its name could be taken for another placeholder', () => {
    expect(store({ v1_KEY: { value: 'x' }, 'a-b': { value: 'x' } }).workloadVariables().size).toBe(0);
  });
});

describe('an answer that contradicts itself revokes everything', () => {
  const good = readProviders(JSON.stringify({ KEY }), 2n);
  const binding = good.staticCredentialBindings['KEY'];
  if (binding === undefined) throw new Error('no binding');
  test.each<[string, object]>([
    ['neither bound nor no secret', { ...good, staticCredentialBindings: {} }],
    ['both', { ...good, nonSecretEnvironmentKeys: ['KEY'] }],
    ['a binding of a key that is not there', { ...good, environment: {} }],
    ['an expiry of a key that is not there', { ...good, credentialExpiresAtMs: { NO: 1n } }],
    ['no identity', { ...good, staticCredentialBindings: { KEY: { ...binding, credentialIdentity: '' } } }],
    ['no endpoint', { ...good, staticCredentialBindings: { KEY: { ...binding, endpoints: [] } } }],
    [
      'a malformed handle',
      { ...good, staticCredentialBindings: { KEY: { ...binding, workloadCredentialHandle: 'x' } } },
    ],
    [
      'a port that is none',
      {
        ...good,
        staticCredentialBindings: { KEY: { ...binding, endpoints: [{ host: 'a', port: 0, path: '' }] } },
      },
    ],
    [
      'a host that is none',
      {
        ...good,
        staticCredentialBindings: { KEY: { ...binding, endpoints: [{ host: '', port: 1, path: '' }] } },
      },
    ],
  ])('%s', (_name, answer) => {
    const made = store({ KEY });
    expect(made.update(answer as typeof good)).toMatchObject({ ok: false });
    expect(made.workloadVariables().size).toBe(0);
  });
});

test('any token resolves or is refused, and no refusal holds a value', () => {
  const made = store({ KEY, OTHER: { value: 'topsecret', endpoints: [{ host: 'o.test', port: 1 }] } });
  fc.assert(
    fc.property(fc.stringMatching(/^[A-Za-z0-9_]{1,80}$/), (name) => {
      const answer = ask(made, `openshell:resolve:env:${name}`);
      if (!answer.ok) expect(JSON.stringify(answer.error)).not.toMatch(/s3cret|topsecret/);
    }),
  );
});
