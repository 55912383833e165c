import { mkdtempSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { createServer, type IncomingMessage } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { status as grpcStatus, type handleUnaryCall, Server, ServerCredentials } from '@grpc/grpc-js';
import { describe, expect, test } from 'vitest';
import { ProviderProfileCredential } from '../../../proto/generated/openshell/v1/openshell.ts';
import {
  type JWTSVIDRequest,
  type JWTSVIDResponse,
  SpiffeWorkloadAPIDefinition,
} from '../../../proto/generated/spiffe/workload/workload.ts';
import { systemClock } from '../../../supervisor/clock.ts';
import { fetchJwtSvid } from '../../../supervisor/egress/credentials/spiffe.ts';
import { askTokenEndpoint } from '../../../supervisor/egress/credentials/token-endpoint.ts';
import { readTokenGrant } from '../../../supervisor/egress/credentials/token-grant.ts';
import { TokenGrants, type TokenGrantsOptions } from '../../../supervisor/egress/credentials/token-grants.ts';
import { upstreamTrust } from '../../../supervisor/egress/tls/upstream.ts';
import { Secret } from '../../../supervisor/observability/secret.ts';
import { err, ok } from '../../../supervisor/result.ts';
import { serviceDefinition } from '../../dev-gateway/grpc.ts';
import { VirtualClock } from '../../gateway/virtual-clock.ts';
import { undoAfterEach } from '../../undo-after-each.ts';

const undo = undoAfterEach();

const credential = (
  grant: Partial<ProviderProfileCredential['tokenGrant']> = {},
  more: Partial<ProviderProfileCredential> = {},
) =>
  ProviderProfileCredential.fromPartial({
    ...more,
    tokenGrant: { tokenEndpoint: 'https://id.test/realms/r1/protocol/token', ...grant },
  });
const entry = (host: string, path = '', port = 443, key = 'p:c') => `${host}\t${port}\t${path}\t${key}`;
const place = { host: 'api.test', port: 443, path: '/v1/a' };

/** Grants whose tokens are numbered as they are issued. */
function grants(options: Partial<TokenGrantsOptions> = {}) {
  const clock = new VirtualClock();
  const asked: string[] = [];
  const made = new TokenGrants({
    clock,
    assertion: async (audience) => ok(new Secret(`svid for ${audience}`)),
    ask: async (grant) => {
      asked.push(grant.key);
      return ok({ token: new Secret(`t${asked.length}`), lifeMs: 300_000 });
    },
    ...options,
  });
  const fieldsOf = async (at = place, given: readonly (readonly [string, string])[] = []) => {
    const injected = await made.inject(given, at);
    return injected.ok ? injected.value : injected.error;
  };
  return { made, clock, asked, fieldsOf };
}

describe('a token grant', () => {
  test.each([
    ['fewer than four fields', 'api.test\t443\tp:c', credential(), 'four fields'],
    ['more than four fields', `${entry('a')}\tx`, credential(), 'four fields'],
    ['a port that is none', entry('a', '', 0), credential(), 'port'],
    ['no grant', entry('a'), ProviderProfileCredential.fromPartial({}), 'no token grant'],
    ['http to elsewhere', entry('a'), credential({ tokenEndpoint: 'http://id.test/t' }), 'https'],
    [
      'a name that looks inside',
      entry('a'),
      credential({ tokenEndpoint: 'http://svc.evil.test/t' }),
      'https',
    ],
    ['another scheme', entry('a'), credential({ tokenEndpoint: 'file:///etc/passwd' }), 'https'],
    [
      'credentials in its endpoint',
      entry('a'),
      credential({ tokenEndpoint: 'https://u:p@id.test' }),
      'credentials',
    ],
    ['a style that is none', entry('a'), credential({}, { authStyle: 'query' }), 'auth_style'],
    ['a header without a name', entry('a'), credential({}, { authStyle: 'header' }), 'header_name'],
    ['a header that frames', entry('a'), credential({}, { headerName: 'Content-Length' }), 'header_name'],
    ['a header that breaks lines', entry('a'), credential({}, { headerName: 'X\r\nY' }), 'header_name'],
  ])('with %s is refused, and says so', (_, key, given, reason) => {
    const read = readTokenGrant(key, given);
    expect(read.ok ? '' : read.error).toContain(reason);
  });

  test.each([
    ['https://id.test/realms/r1/protocol/token', '', 'https://id.test/realms/r1'],
    ['https://id.test/token', '', 'https://id.test/token'],
    ['http://id.ns.svc/token', 'for-me', 'for-me'],
    ['http://id.ns.svc.cluster.local/token', '', 'http://id.ns.svc.cluster.local/token'],
    ['http://127.0.0.1:8080/t', '', 'http://127.0.0.1:8080/t'],
  ])('%s with %j asserts for %s', (tokenEndpoint, jwtSvidAudience, expected) => {
    const read = readTokenGrant(entry('a'), credential({ tokenEndpoint, jwtSvidAudience }));
    expect(read.ok && read.value.assertionAudience).toBe(expected);
  });
});

describe('tokens', () => {
  test('are put in the place of what the workload sent, and only where they are meant for', async () => {
    const { made, fieldsOf } = grants();
    made.update({ [entry('api.test', '/v1/**')]: credential() });
    expect(
      await fieldsOf(place, [
        ['authorization', 'Bearer mine'],
        ['A', 'b'],
      ]),
    ).toEqual([
      ['A', 'b'],
      ['Authorization', 'Bearer t1'],
    ]);
    for (const other of [
      { ...place, host: 'api.test.evil' },
      { ...place, port: 80 },
      { ...place, path: '/v2' },
    ])
      expect(await fieldsOf(other, [['A', 'b']])).toEqual([['A', 'b']]);
    expect([made.isBound('api.test', 443), made.isBound('api.test', 80)]).toEqual([true, false]);
  });

  test('go raw into the header that is named', async () => {
    const { made, fieldsOf } = grants();
    made.update({ [entry('api.test')]: credential({}, { authStyle: 'header', headerName: 'X-Key' }) });
    expect(await fieldsOf()).toEqual([['X-Key', 't1']]);
  });

  test('of the closest host and path are taken', async () => {
    const { made, fieldsOf, asked } = grants();
    made.update({
      [entry('*.test', '', 443, 'any')]: credential(),
      [entry('api.test', '', 443, 'host')]: credential(),
      [entry('api.test', '/v1/**', 443, 'path')]: credential(),
    });
    await fieldsOf();
    await fieldsOf({ ...place, path: '/v2' });
    await fieldsOf({ ...place, host: 'b.test' });
    expect(asked).toEqual(['path', 'host', 'any']);
  });

  test('are fetched once for all who wait, kept until shortly before their end, and forgotten with their grant', async () => {
    const { made, clock, asked, fieldsOf } = grants();
    const given = { [entry('api.test')]: credential() };
    made.update(given);
    await Promise.all([fieldsOf(), fieldsOf(), fieldsOf()]);
    expect(asked).toHaveLength(1);
    clock.run(269_000);
    made.update(given);
    await fieldsOf();
    expect(asked).toHaveLength(1);
    clock.run(2_000);
    expect(await fieldsOf()).toEqual([['Authorization', 'Bearer t2']]);
    made.update({});
    expect(await fieldsOf()).toEqual([]);
    made.update(given);
    expect(await fieldsOf()).toEqual([['Authorization', 'Bearer t3']]);
  });

  test('are kept as long as the gateway says, an hour at most without', async () => {
    const { made, clock, asked, fieldsOf } = grants({
      ask: async () => ok({ token: new Secret(`t${asked.push('')}`), lifeMs: 1e12 }),
    });
    made.update({ [entry('api.test')]: credential({ cacheTtlSeconds: 10n }) });
    await fieldsOf();
    clock.run(11_000);
    await fieldsOf();
    expect(asked).toHaveLength(2);
    made.update({ [entry('api.test')]: credential({ audience: 'b' }) });
    await fieldsOf();
    clock.run(3_571_000);
    await fieldsOf();
    expect(asked).toHaveLength(4);
  });

  test('that cannot be had are not asked for again at once', async () => {
    let answers = 0;
    const { made, clock, fieldsOf } = grants({
      ask: async () =>
        ++answers > 1 ? ok({ token: new Secret('late'), lifeMs: 60_000 }) : err('it says no'),
    });
    made.update({ [entry('api.test')]: credential() });
    expect(await fieldsOf()).toBe('p:c: it says no');
    expect(await fieldsOf()).toBe('p:c: it says no');
    expect(answers).toBe(1);
    clock.run(5_001);
    expect(await fieldsOf()).toEqual([['Authorization', 'Bearer late']]);
  });
});

describe('a token endpoint', () => {
  async function endpoint(
    answer: (
      request: IncomingMessage,
      body: string,
    ) => { status?: number; body: string; headers?: Record<string, string> },
  ) {
    const seen: { readonly url: string | undefined; readonly form: Readonly<Record<string, string>> }[] = [];
    const server = createServer((request, response) => {
      let body = '';
      request.setEncoding('utf8').on('data', (chunk) => (body += chunk));
      request.on('end', () => {
        seen.push({ url: request.url, form: Object.fromEntries(new URLSearchParams(body)) });
        const { status = 200, body: text, headers = {} } = answer(request, body);
        response.writeHead(status, headers).end(text);
      });
    });
    await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
    undo.push(() => server.close());
    const address = server.address();
    const port = typeof address === 'object' && address !== null ? address.port : 0;
    const ask = askTokenEndpoint(async (host) => ok([host]), upstreamTrust(undefined));
    const read = readTokenGrant(
      entry('a'),
      credential({ tokenEndpoint: `http://127.0.0.1:${port}/t?x=1`, audience: 'aud', scopes: ['s1', 's2'] }),
    );
    if (!read.ok) throw new Error(read.error);
    return { seen, ask: () => ask(read.value, new Secret('the-assertion')) };
  }

  test('is asked as OAuth has it', async () => {
    const { seen, ask } = await endpoint(() => ({
      body: '{"access_token":"abc","expires_in":60,"token_type":"Bearer"}',
    }));
    const issued = await ask();
    expect(issued.ok && [issued.value.token.reveal(), issued.value.lifeMs]).toEqual(['abc', 60_000]);
    expect(seen).toEqual([
      {
        url: '/t?x=1',
        form: {
          grant_type: 'client_credentials',
          client_assertion_type: 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer',
          client_assertion: 'the-assertion',
          audience: 'aud',
          scope: 's1 s2',
        },
      },
    ]);
  });

  test.each([
    ['a refusal', { status: 401, body: '{"error":"the-assertion is bad"}' }, 'answered 401'],
    ['a redirect', { status: 302, body: '', headers: { location: 'http://127.0.0.1:1/' } }, 'answered 302'],
    ['no JSON', { body: '<html>' }, 'JSON'],
    ['no token', { body: '{}' }, 'access_token'],
    ['a token with a line break', { body: '{"access_token":"a\\r\\nX: y"}' }, 'no field'],
    ['a flood', { body: 'x'.repeat(70_000) }, 'too large'],
  ])('that answers with %s gives nothing, and its words stay out of the error', async (_, answer, reason) => {
    const { ask } = await endpoint(() => answer);
    const issued = await ask();
    expect(issued.ok ? '' : issued.error).toContain(reason);
    expect(issued.ok ? '' : issued.error).not.toContain('the-assertion');
  });
});

describe('the SPIFFE agent', () => {
  async function agent(svids: readonly string[]) {
    const directory = mkdtempSync(join(tmpdir(), 'spiffe-'));
    undo.push(() => rm(directory, { recursive: true }));
    const seen: { readonly audience: readonly string[]; readonly flag: unknown }[] = [];
    const server = new Server();
    server.addService(serviceDefinition(SpiffeWorkloadAPIDefinition), {
      fetchJWTSVID: ((call, callback) => {
        const [flag] = call.metadata.get('workload.spiffe.io');
        if (flag === undefined)
          return callback({ code: grpcStatus.INVALID_ARGUMENT, details: 'security header missing' });
        seen.push({ audience: call.request.audience, flag });
        callback(null, { svids: svids.map((svid) => ({ spiffeId: 'spiffe://a/b', svid })) });
      }) satisfies handleUnaryCall<JWTSVIDRequest, JWTSVIDResponse>,
    });
    const path = join(directory, 'agent.sock');
    await new Promise<void>((resolve, reject) =>
      server.bindAsync(`unix:${path}`, ServerCredentials.createInsecure(), (error) =>
        error === null ? resolve() : reject(error),
      ),
    );
    undo.push(() => server.forceShutdown());
    return { path, seen };
  }

  test('says who the sandbox is, for one audience', async () => {
    const { path, seen } = await agent(['jwt-1', 'jwt-2']);
    const svid = await fetchJwtSvid(path, systemClock)('https://id.test/realms/r1');
    expect(svid.ok && svid.value.reveal()).toBe('jwt-1');
    expect(seen).toEqual([{ audience: ['https://id.test/realms/r1'], flag: 'true' }]);
  });

  test('that gives no identity, or is not there, is named', async () => {
    const { path } = await agent([]);
    const none = await fetchJwtSvid(path, systemClock)('a');
    expect(none.ok ? '' : none.error).toContain('no identity');
    const gone = await fetchJwtSvid(`${path}-none`, systemClock)('a');
    expect(gone.ok ? '' : gone.error).toContain('ENOENT');
    const unset = await fetchJwtSvid(undefined, systemClock)('a');
    expect(unset.ok ? '' : unset.error).toContain('OPENSHELL_PROVIDER_SPIFFE_WORKLOAD_API_SOCKET');
  });
});
