import { expect, test } from 'vitest';
import { ProviderProfileCredential } from '../../proto/generated/openshell/v1/openshell.ts';
import { systemClock } from '../../supervisor/clock.ts';
import { TokenGrants } from '../../supervisor/egress/credentials/token-grants.ts';
import { Secret } from '../../supervisor/observability/secret.ts';
import { err, ok } from '../../supervisor/result.ts';
import { undoAfterEach } from '../undo-after-each.ts';
import {
  bodyOf,
  collect,
  makeAuthorities,
  startHttp,
  startInspectingProxy,
  tunnel,
} from './inspection-fixture.ts';

const authorities = await makeAuthorities();
const undo = undoAfterEach();

/** An endpoint that asks for no inspection itself: that a token goes there is reason enough. */
async function start(protocol: string, fails = false) {
  const upstream = await startHttp((request, response) =>
    response.end(JSON.stringify({ authorization: request.headers.authorization })),
  );
  const grants = new TokenGrants({
    clock: systemClock,
    assertion: async () => ok(new Secret('svid')),
    ask: async () =>
      fails ? err('the token endpoint answered 500') : ok({ token: new Secret('fetched'), lifeMs: 60_000 }),
  });
  grants.update({
    [`api.test\t${upstream.port}\t/v1/**\tp:c`]: ProviderProfileCredential.fromPartial({
      tokenGrant: { tokenEndpoint: 'https://id.test/t' },
    }),
  });
  const { proxy, port, requests } = await startInspectingProxy(
    authorities,
    `version: 1
network_policies:
  api:
    endpoints: [{ host: api.test, port: ${upstream.port}${protocol} }]
    binaries: [{ path: "/**" }]
`,
    { grants },
  );
  undo.push(
    () => upstream.stop(),
    () => proxy.stop(),
  );
  const place = `api.test:${upstream.port}`;
  const ask = async (path: string) =>
    collect(
      await tunnel(port, place),
      `GET ${path} HTTP/1.1\r\nHost: ${place}\r\nConnection: close\r\nAuthorization: Bearer workload\r\n\r\n`,
    );
  return { ask, requests };
}

test.each([
  ['an endpoint without a protocol', ''],
  ['a rest endpoint', ', protocol: rest, enforcement: enforce, access: full'],
])('a token takes the place of what the workload sent to %s, on its path alone', async (_, protocol) => {
  const { ask } = await start(protocol);
  expect(bodyOf((await ask('/v1/a')).text)).toEqual({ authorization: 'Bearer fetched' });
  expect(bodyOf((await ask('/v2/a')).text)).toEqual({ authorization: 'Bearer workload' });
});

test('a token that cannot be had is a 502, and nothing goes out', async () => {
  const { ask, requests } = await start('', true);
  const { text } = await ask('/v1/a');
  expect(text).toMatch(/^HTTP\/1.1 502 /);
  expect(bodyOf(text)).toMatchObject({ error: 'token_grant_failed' });
  expect(requests().map(({ outcome }) => outcome)).toContain('denied');
});
