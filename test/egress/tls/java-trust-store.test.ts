import { execFileSync, spawnSync } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { rootCertificates } from 'node:tls';
import { describe, expect, test } from 'vitest';
import { javaTrustStore } from '../../../supervisor/egress/tls/java-trust-store.ts';
import { temporaryDirectory } from '../../temporary-directory.ts';

const { directory } = temporaryDirectory('java-trust-');
const keytool = spawnSync('keytool', ['-help']).status === 0;

describe('Java’s trust store', () => {
  test('is a head, the certificates and a digest', () => {
    const store = javaTrustStore('-----BEGIN CERTIFICATE-----\nT1dO\n-----END CERTIFICATE-----\n');
    expect(store.subarray(0, -20).toString('latin1')).toBe(
      '\xfe\xed\xfe\xed\0\0\0\x02\0\0\0\x01\0\0\0\x02\0\x06root-0\0\0\0\0\0\0\0\0\0\x05X.509\0\0\0\x03OWN',
    );
  });

  test.runIf(keytool)(
    'is read by Java, with the usual password and without (where there is a keytool)',
    () => {
      const file = join(directory, 'store');
      writeFileSync(file, javaTrustStore(rootCertificates.join('\n')));
      for (const password of ['-storepass:env PASS', '']) {
        const listed = execFileSync(
          'keytool',
          ['-list', '-rfc', '-keystore', file, ...password.split(' ').filter(Boolean)],
          { env: { ...process.env, PASS: 'changeit' }, input: '\n', stdio: ['pipe', 'pipe', 'pipe'] },
        ).toString();
        const found = listed.match(/-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----/g) ?? [];
        expect(new Set(found.map((pem) => new X509Certificate(pem).fingerprint256))).toEqual(
          new Set(rootCertificates.map((pem) => new X509Certificate(pem).fingerprint256)),
        );
      }
    },
  );
});
