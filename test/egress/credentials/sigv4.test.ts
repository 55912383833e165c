import { describe, expect, test } from 'vitest';
import {
  regionOf,
  type SignableRequest,
  sha256,
  signRequest,
} from '../../../supervisor/egress/credentials/sigv4.ts';

/** The keys, instant and results of AWS's published test suite for Signature Version 4. */
const KEYS = {
  accessKeyId: 'AKIDEXAMPLE',
  secretAccessKey: 'wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY',
  sessionToken: undefined,
};
const SCOPE = { region: 'us-east-1', service: 'service' };
const AT = Date.UTC(2015, 7, 30, 12, 36, 0);
const request = (part: Partial<SignableRequest> = {}): SignableRequest => ({
  method: 'GET',
  authority: 'example.amazonaws.com',
  path: '/',
  rawQuery: undefined,
  fields: [],
  payload: sha256(''),
  ...part,
});
const signatureOf = (part: Partial<SignableRequest>) =>
  /Signature=([0-9a-f]{64})$/.exec(
    Object.fromEntries(signRequest(request(part), KEYS, SCOPE, AT))['Authorization'] ?? '',
  )?.[1];

describe('a signature is that of the published suite', () => {
  test.each<[string, Partial<SignableRequest>, string]>([
    ['get-vanilla', {}, '5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31'],
    ['post-vanilla', { method: 'POST' }, '5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b'],
    [
      'get-vanilla-query-order-key-case',
      { rawQuery: 'Param2=value2&Param1=value1' },
      'b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500',
    ],
  ])('%s', (_name, part, signature) => {
    expect(signatureOf(part)).toBe(signature);
  });
});

test('takes the place of the workload’s own, and leaves what proxies change out of it', () => {
  const fields = signRequest(
    request({
      fields: [
        ['authorization', 'AWS4-HMAC-SHA256 Credential=fake'],
        ['X-Amz-Date', '20000101T000000Z'],
        ['x-amz-security-token', 'fake'],
        ['User-Agent', 'aws-cli'],
        ['x-amz-target', 'T'],
      ],
    }),
    { ...KEYS, sessionToken: 'session' },
    SCOPE,
    AT,
  );
  const all = JSON.stringify(fields);
  expect(all).not.toContain('fake');
  expect(all).not.toContain(KEYS.secretAccessKey);
  expect(fields).toContainEqual(['x-amz-security-token', 'session']);
  expect(fields).toContainEqual(['User-Agent', 'aws-cli']);
  expect(Object.fromEntries(fields)['Authorization']).toContain(
    'SignedHeaders=host;x-amz-date;x-amz-security-token;x-amz-target,',
  );
});

test.each([
  ['s3.eu-west-1.amazonaws.com', 'eu-west-1'],
  ['bucket.s3.dualstack.us-gov-west-1.amazonaws.com', 'us-gov-west-1'],
  ['sqs.cn-north-1.amazonaws.com.cn', 'cn-north-1'],
  ['s3.amazonaws.com', undefined],
  ['eu-west-1.example.com', undefined],
])('the region of %s is %s', (host, region) => {
  expect(regionOf(host)).toBe(region);
});
