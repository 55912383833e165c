import { createHash } from 'node:crypto';

/** What Java's own store has; who gives another password cannot open it, who gives none can. */
const PASSWORD = 'changeit';
const MAGIC = 0xfe_ed_fe_ed;
const VERSION = 2;
const TRUSTED_CERTIFICATE = 2;

/**
 * A trust store of Java's format JKS, which every Java since 1.2 reads, also where another format is the default: the
 * certificates of a PEM text, in their order. Certificates lie in it in the clear, and its digest only tells damage, so it is
 * opened without a password. Java refuses a store whole when it cannot read one certificate of it.
 */
export function javaTrustStore(pem: string): Buffer {
  const certificates = [...pem.matchAll(PEM)].map(([, text = '']) => Buffer.from(text, 'base64'));
  const head = Buffer.alloc(12);
  head.writeUInt32BE(MAGIC, 0);
  head.writeUInt32BE(VERSION, 4);
  head.writeUInt32BE(certificates.length, 8);
  const store = Buffer.concat([head, ...certificates.map(entry)]);
  const digest = createHash('sha1')
    .update(Buffer.from(PASSWORD, 'utf16le').swap16())
    .update('Mighty Aphrodite')
    .update(store)
    .digest();
  return Buffer.concat([store, digest]);
}

const PEM = /-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----/g;

/** Kind, alias, time of making (of no meaning, so none), type and length of the certificate. */
function entry(certificate: Buffer, index: number): Buffer {
  const kind = Buffer.alloc(4);
  kind.writeUInt32BE(TRUSTED_CERTIFICATE);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(certificate.length);
  return Buffer.concat([kind, words(`root-${index}`), Buffer.alloc(8), words('X.509'), length, certificate]);
}

function words(text: string): Buffer {
  const bytes = Buffer.from(text, 'latin1');
  const length = Buffer.alloc(2);
  length.writeUInt16BE(bytes.length);
  return Buffer.concat([length, bytes]);
}
