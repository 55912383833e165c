import { request } from 'node:http';
import { connect, createServer, type Socket } from 'node:net';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { GetSandboxProviderEnvironmentResponse } from '../../../proto/generated/openshell/v1/openshell.ts';
import { CredentialStore } from '../../../supervisor/egress/credentials/credential-store.ts';
import {
  type GoogleMetadata,
  metadataVariables,
  serveGoogleMetadata,
} from '../../../supervisor/egress/metadata/google-metadata.ts';

const NOW = 1_000_000;
const SECRET = 'ya29.canary';
const bound = {
  endpoints: [{ host: '*.googleapis.com', port: 443, path: '' }],
  credentialIdentity: 'gcp',
  workloadCredentialHandle: '',
};
const environment = (
  keys: Readonly<Record<string, string>>,
  expires: Readonly<Record<string, bigint>> = {},
) =>
  GetSandboxProviderEnvironmentResponse.fromPartial({
    environment: {
      ...keys,
      GCP_PROJECT_ID: 'p-7',
      GCP_SERVICE_ACCOUNT_EMAIL: 'a@p-7.test',
      GCE_METADATA_HOST: 'x',
    },
    providerEnvRevision: 3n,
    staticCredentialBindings: Object.fromEntries(Object.keys(keys).map((key) => [key, bound])),
    credentialExpiresAtMs: expires,
    nonSecretEnvironmentKeys: ['GCP_PROJECT_ID', 'GCP_SERVICE_ACCOUNT_EMAIL', 'GCE_METADATA_HOST'],
  });

let store: CredentialStore;
let server: GoogleMetadata;
let port: number;
beforeEach(async () => {
  store = new CredentialStore(() => NOW);
  const listener = createServer();
  await new Promise<void>((resolve) => void listener.listen(0, '127.0.0.1', resolve));
  const address = listener.address();
  port = typeof address === 'object' && address !== null ? address.port : 0;
  server = serveGoogleMetadata(listener, store, () => NOW);
});
afterEach(() => server.stop());

const ask = (
  path: string,
  headers: Record<string, string> = { 'Metadata-Flavor': 'Google' },
  method = 'GET',
) =>
  new Promise<{ readonly status: number; readonly text: string; readonly flavor: unknown }>(
    (resolve, reject) => {
      const asked = request({ host: '127.0.0.1', port, path, method, headers }, (response) => {
        let text = '';
        response.setEncoding('utf8').on('data', (chunk) => (text += chunk));
        response.on('end', () =>
          resolve({ status: response.statusCode ?? 0, text, flavor: response.headers['metadata-flavor'] }),
        );
      });
      asked.on('error', reject).end();
    },
  );
const ACCOUNT = '/computeMetadata/v1/instance/service-accounts/default';

describe('the metadata server for Google clients', () => {
  test('gives a placeholder for the token, and never the token', async () => {
    store.update(environment({ GCP_SA_ACCESS_TOKEN: SECRET }, { GCP_SA_ACCESS_TOKEN: BigInt(NOW + 90_500) }));
    const { status, text, flavor } = await ask(`${ACCOUNT}/token`);
    expect([status, flavor]).toEqual([200, 'Google']);
    expect(JSON.parse(text)).toEqual({
      access_token: 'openshell:resolve:env:v3_GCP_SA_ACCESS_TOKEN',
      expires_in: 90,
      token_type: 'Bearer',
    });
  });

  test('takes the token of the user where there is none of a service account, and an hour where nobody knows', async () => {
    store.update(environment({ GCP_ADC_ACCESS_TOKEN: SECRET }));
    expect(JSON.parse((await ask(`${ACCOUNT}/token`)).text)).toMatchObject({
      access_token: 'openshell:resolve:env:v3_GCP_ADC_ACCESS_TOKEN',
      expires_in: 3600,
    });
  });

  test('says when there is no token, and when there are no credentials', async () => {
    expect(await ask(`${ACCOUNT}/token`)).toMatchObject({
      status: 503,
      text: '{"error":"credentials_unavailable"}',
    });
    store.update(environment({ GCP_SA_ACCESS_TOKEN: SECRET }, { GCP_SA_ACCESS_TOKEN: BigInt(NOW) }));
    expect(await ask(`${ACCOUNT}/token`)).toMatchObject({
      status: 503,
      text: '{"error":"token_unavailable"}',
    });
  });

  test.each([
    ['/', 'computeMetadata/\n'],
    ['/computeMetadata/v1/', 'instance/\nproject/\n'],
    ['/computeMetadata/v1/project/project-id', 'p-7'],
    ['/computeMetadata/v1/instance/service-accounts/', 'default/\n'],
    [`${ACCOUNT}/email`, 'a@p-7.test'],
    ['/computeMetadata/v1/instance/service-accounts/a%40p-7.test/email', 'a@p-7.test'],
    [`${ACCOUNT}/scopes`, 'https://www.googleapis.com/auth/cloud-platform\n'],
    [`${ACCOUNT}/aliases`, 'default\n'],
    [`${ACCOUNT}/`, 'aliases\nemail\nscopes\ntoken\n'],
    [
      `${ACCOUNT}/?recursive=true`,
      '{"aliases":["default"],"email":"a@p-7.test","scopes":["https://www.googleapis.com/auth/cloud-platform"]}',
    ],
  ])('answers %s', async (path, expected) => {
    store.update(environment({ GCP_SA_ACCESS_TOKEN: SECRET }));
    expect(await ask(path)).toMatchObject({ status: 200, text: expected });
  });

  test.each([
    ['an identity token', `${ACCOUNT}/identity?audience=a`, undefined, 'GET', 404],
    ['another account', '/computeMetadata/v1/instance/service-accounts/other/token', undefined, 'GET', 404],
    ['a broken account', '/computeMetadata/v1/instance/service-accounts/%zz/token', undefined, 'GET', 404],
    ['a request without the flavor', `${ACCOUNT}/token`, {}, 'GET', 403],
    [
      'a forwarded request',
      `${ACCOUNT}/token`,
      { 'Metadata-Flavor': 'Google', 'X-Forwarded-For': '1.2.3.4' },
      'GET',
      403,
    ],
    ['another method', `${ACCOUNT}/token`, undefined, 'POST', 405],
  ])('refuses %s', async (_, path, headers, method, status) => {
    store.update(environment({ GCP_SA_ACCESS_TOKEN: SECRET }));
    const answer = await ask(path, headers ?? { 'Metadata-Flavor': 'Google' }, method);
    expect(answer.status).toBe(status);
    expect(answer.text).not.toContain('access_token');
  });

  test('drops who is one too many, and a head that is too large', async () => {
    const sockets: Socket[] = [];
    for (let n = 0; n < 32; n += 1) {
      const socket = connect(port, '127.0.0.1');
      await new Promise<void>((resolve) => void socket.once('connect', resolve));
      socket.on('error', () => undefined);
      sockets.push(socket);
    }
    await expect(ask('/')).rejects.toThrow();
    for (const socket of sockets) socket.destroy();
    await expect
      .poll(() =>
        ask('/').then(
          ({ status }) => status,
          () => 0,
        ),
      )
      .toBe(200);
    expect(
      (await ask('/', { 'Metadata-Flavor': 'Google', X: 'x'.repeat(5000) }).catch(() => ({ status: 0 })))
        .status,
    ).toBe(0);
  });
});

describe('a process', () => {
  test('is told of the server while it listens, and of nothing while it does not', () => {
    const given = new Map([
      ['GCE_METADATA_HOST', 'openshell:resolve:env:v3_GCE_METADATA_HOST'],
      ['API_KEY', 'placeholder'],
    ]);
    expect(Object.fromEntries(metadataVariables(given, false))).toEqual({ API_KEY: 'placeholder' });
    expect(Object.fromEntries(metadataVariables(given, true))).toEqual({
      API_KEY: 'placeholder',
      GCE_METADATA_HOST: '127.0.0.1:8174',
      GCE_METADATA_IP: '127.0.0.1:8174',
      METADATA_SERVER_DETECTION: 'assume-present',
    });
  });
});
