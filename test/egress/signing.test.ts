import { describe, expect, test } from 'vitest';
import { CredentialStore } from '../../supervisor/egress/credentials/credential-store.ts';
import { sha256, signRequest } from '../../supervisor/egress/credentials/sigv4.ts';
import { readProviders } from '../dev-gateway/providers.ts';
import { undoAfterEach } from '../undo-after-each.ts';
import {
  bodyOf,
  collect,
  echo,
  makeAuthorities,
  startHttp,
  startInspectingProxy,
  tunnel,
} from './inspection-fixture.ts';

const authorities = await makeAuthorities();
const undo = undoAfterEach();

const HOST = 's3.eu-west-1.amazonaws.com';

async function aws(mode: string, keys: object | undefined = undefined) {
  const upstream = await startHttp(echo);
  const endpoints = [{ host: HOST, port: upstream.port }];
  const store = new CredentialStore(() => 0);
  store.update(
    readProviders(
      JSON.stringify(
        keys ?? {
          AWS_ACCESS_KEY_ID: { value: 'AKID', endpoints },
          AWS_SECRET_ACCESS_KEY: { value: 's3cret', endpoints },
        },
      ),
      1n,
    ),
  );
  const proxy = await startInspectingProxy(
    authorities,
    `version: 1
network_policies:
  s3:
    endpoints:
      - host: ${HOST}
        port: ${upstream.port}
        protocol: rest
        enforcement: enforce
        access: full
        credential_signing: ${mode}
        signing_service: s3
    binaries: [{ path: "/**" }]
`,
    { credentials: store },
  );
  undo.push(
    () => upstream.stop(),
    () => proxy.proxy.stop(),
  );
  const place = `${HOST}:${upstream.port}`;
  const ask = async (fields: string, body = 'hello') =>
    collect(
      await tunnel(proxy.port, place),
      `PUT /b/k?x=1 HTTP/1.1\r\nHost: ${place}\r\nConnection: close\r\nContent-Length: ${body.length}\r\nAuthorization: AWS4-HMAC-SHA256 Credential=openshell:resolve:env:v1_AWS_ACCESS_KEY_ID/x, Signature=0\r\n${fields}\r\n${body}`,
    );
  /** What AWS would compute for what arrived. */
  const verify = (text: string, payload: string) => {
    const { headers, url, body } = bodyOf(text) as {
      readonly headers: Record<string, string>;
      readonly url: string;
      readonly body: string;
    };
    const date = headers['x-amz-date'] ?? '';
    const at = Date.parse(date.replace(/^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/, '$1-$2-$3T$4:$5:$6Z'));
    const fields = Object.entries(headers).filter(([name]) => name !== 'authorization');
    const again = signRequest(
      { method: 'PUT', authority: place, path: '/b/k', rawQuery: 'x=1', fields, payload },
      { accessKeyId: 'AKID', secretAccessKey: 's3cret', sessionToken: undefined },
      { region: 'eu-west-1', service: 's3' },
      at,
    );
    expect(url).toBe('/b/k?x=1');
    expect(body).toBe('hello');
    expect(headers['authorization']).toBe(Object.fromEntries(again)['Authorization']);
    expect(text).not.toContain('openshell:resolve');
  };
  return { ask, verify };
}

describe('a request to AWS is signed anew', () => {
  test.each([
    ['sigv4:body', '', sha256('hello')],
    ['sigv4:no_body', '', 'UNSIGNED-PAYLOAD'],
    ['sigv4', '', sha256('hello')],
    ['sigv4', 'x-amz-content-sha256: UNSIGNED-PAYLOAD\r\n', 'UNSIGNED-PAYLOAD'],
    [
      'sigv4',
      'x-amz-content-sha256: STREAMING-UNSIGNED-PAYLOAD-TRAILER\r\n',
      'STREAMING-UNSIGNED-PAYLOAD-TRAILER',
    ],
  ])('%s %s', async (mode, fields, payload) => {
    const { ask, verify } = await aws(mode);
    verify((await ask(fields)).text, payload);
  });

  test('and not sent when it was signed chunk by chunk', async () => {
    const { ask } = await aws('sigv4');
    const { text } = await ask('x-amz-content-sha256: STREAMING-AWS4-HMAC-SHA256-PAYLOAD\r\n');
    expect(bodyOf(text)).toMatchObject({
      error: 'credential_unavailable',
      message: expect.stringContaining('chunk by chunk'),
    });
  });

  test('and not sent when the keys are not bound to it', async () => {
    const elsewhere = [{ host: 'sqs.eu-west-1.amazonaws.com', port: 443 }];
    const { ask } = await aws('sigv4', {
      AWS_ACCESS_KEY_ID: { value: 'AKID', endpoints: elsewhere },
      AWS_SECRET_ACCESS_KEY: { value: 's3cret', endpoints: elsewhere },
    });
    const { text } = await ask('');
    expect(bodyOf(text)).toMatchObject({ error: 'credential_endpoint_mismatch' });
    expect(text).not.toContain('s3cret');
  });
});
