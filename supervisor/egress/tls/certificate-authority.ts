import { KeyObject, randomBytes, webcrypto } from 'node:crypto';
import { isIP } from 'node:net';
import { createSecureContext, type SecureContext } from 'node:tls';

const DAY_MS = 86_400_000;
/** Clocks inside and outside may differ a little. */
const BACKDATE_MS = 3_600_000;
const CA_DAYS = 3650;
const LEAF_DAYS = 30;
const MAX_LEAVES = 256;
const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;

export interface CertificateAuthority {
  /** The CA's certificate in PEM: the only part that is ever written anywhere. */
  readonly certificate: string;
  /** What a TLS server for `host`, a name or an address, presents. At most 256 are kept, the latest used ones. */
  leaf(host: string): Promise<SecureContext>;
}

interface Leaf {
  readonly context: Promise<SecureContext>;
  readonly renewAt: number;
}

/**
 * A certificate authority for this sandbox alone (RFC 5280): its key is made here, never leaves memory and dies with
 * the process. All leaves share one key of their own, so that a new one costs a signature. `now` is wall-clock
 * milliseconds.
 */
export async function createCertificateAuthority(now: () => number): Promise<CertificateAuthority> {
  // Some 40 modules that only a sandbox with inspected endpoints needs.
  await import('reflect-metadata'); // which the next one needs, and leaves to us
  const x509 = await import('@peculiar/x509');
  const { subtle } = webcrypto;
  const newKeys = () => subtle.generateKey(ALGORITHM, true, ['sign', 'verify']);
  const [caKeys, leafKeys] = await Promise.all([newKeys(), newKeys()]);
  const notBefore = new Date(now() - BACKDATE_MS);
  const ca = await x509.X509CertificateGenerator.createSelfSigned(
    {
      serialNumber: serial(),
      name: 'CN=OpenShell sandbox, O=openshell-supervisor',
      notBefore,
      notAfter: new Date(now() + CA_DAYS * DAY_MS),
      keys: caKeys,
      signingAlgorithm: ALGORITHM,
      extensions: [
        new x509.BasicConstraintsExtension(true, 0, true),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
        await x509.SubjectKeyIdentifierExtension.create(caKeys.publicKey),
      ],
    },
    webcrypto,
  );
  const leafKey = KeyObject.from(leafKeys.privateKey).export({ type: 'pkcs8', format: 'pem' });
  const authorityKey = await x509.AuthorityKeyIdentifierExtension.create(caKeys.publicKey);
  const subjectKey = await x509.SubjectKeyIdentifierExtension.create(leafKeys.publicKey);

  const issue = async (host: string): Promise<SecureContext> => {
    const certificate = await x509.X509CertificateGenerator.create(
      {
        serialNumber: serial(),
        // The name is in the subjectAltName alone (RFC 6125, 6.4.4); a long one does not fit a common name.
        subject: 'O=openshell-supervisor',
        issuer: ca.subject,
        notBefore: new Date(now() - BACKDATE_MS),
        notAfter: new Date(now() + LEAF_DAYS * DAY_MS),
        publicKey: leafKeys.publicKey,
        signingKey: caKeys.privateKey,
        signingAlgorithm: ALGORITHM,
        extensions: [
          new x509.BasicConstraintsExtension(false, undefined, true),
          new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
          new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth]),
          new x509.SubjectAlternativeNameExtension(
            [{ type: isIP(host) === 0 ? 'dns' : 'ip', value: host }],
            true,
          ),
          authorityKey,
          subjectKey,
        ],
      },
      webcrypto,
    );
    return createSecureContext({ key: leafKey, cert: certificate.toString('pem'), minVersion: 'TLSv1.2' });
  };

  const leaves = new Map<string, Leaf>();
  return {
    certificate: `${ca.toString('pem')}\n`,
    leaf(host) {
      const known = leaves.get(host);
      leaves.delete(host);
      const usable = known !== undefined && now() < known.renewAt;
      const leaf = usable ? known : { context: issue(host), renewAt: now() + (LEAF_DAYS / 2) * DAY_MS };
      leaf.context.catch(() => leaves.delete(host));
      leaves.set(host, leaf);
      const [oldest] = leaves.keys();
      if (leaves.size > MAX_LEAVES && oldest !== undefined) leaves.delete(oldest);
      return leaf.context;
    },
  };
}

/** 127 random bits, positive as RFC 5280 (4.1.2.2) has it. */
function serial(): string {
  const bytes = randomBytes(16);
  bytes[0] = ((bytes[0] ?? 0) & 0x7f) | 0x40;
  return bytes.toString('hex');
}
