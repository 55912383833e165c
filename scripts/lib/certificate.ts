import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { run } from './command.ts';

export interface Certificate {
  /** The authority's certificate, for clients to trust. */
  readonly ca: string;
  readonly key: string;
  readonly certificate: string;
}

const newKey = (file: string): readonly string[] => [
  ...['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-keyout', file],
];

/** Makes a certificate authority and, from it, a server certificate for `names`; files in `directory`. */
export const makeCertificate = async (directory: string, names: readonly string[]): Promise<Certificate> => {
  const at = (name: string): string => join(directory, name);
  const subject = (name: string): readonly string[] => ['-subj', `/CN=${name}`];
  const authority = ['-x509', '-days', '30', '-addext', 'keyUsage=critical,keyCertSign'];
  await run('openssl', [
    'req',
    ...authority,
    ...newKey(at('ca.key')),
    ...subject('The world'),
    '-out',
    at('ca.pem'),
  ]);
  await run('openssl', [
    'req',
    ...newKey(at('world.key')),
    ...subject('world.test'),
    '-out',
    at('world.csr'),
  ]);
  writeFileSync(at('world.ext'), `subjectAltName=${names.map((name) => `DNS:${name}`).join(',')}\n`);
  const signer = ['-CA', at('ca.pem'), '-CAkey', at('ca.key'), '-days', '30', '-extfile', at('world.ext')];
  await run('openssl', ['x509', '-req', '-in', at('world.csr'), ...signer, '-out', at('world.pem')]);
  return { ca: at('ca.pem'), key: at('world.key'), certificate: at('world.pem') };
};
