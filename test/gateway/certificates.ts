import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

const openssl = (...args: readonly string[]) => execFileSync('openssl', args, { stdio: 'pipe' });
const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'] as const;

/** An authority: NAME.pem and NAME.key in the directory. */
export function makeAuthority(directory: string, name: string): void {
  const at = (file: string) => join(directory, file);
  const files = ['-keyout', at(`${name}.key`), '-out', at(`${name}.pem`)];
  openssl('req', '-x509', '-days', '2', ...newKey, '-subj', `/CN=${name}`, ...files);
}

/** A key with a certificate of the authority for `name`: FILE.pem and FILE.key in the directory. */
export function issue(directory: string, authority: string, file: string, name: string): void {
  const at = (one: string) => join(directory, one);
  openssl('req', ...newKey, '-subj', `/CN=${name}`, '-keyout', at(`${file}.key`), '-out', at(`${file}.csr`));
  writeFileSync(at(`${file}.ext`), `subjectAltName=DNS:${name}\n`);
  const signer = [
    '-CA',
    at(`${authority}.pem`),
    '-CAkey',
    at(`${authority}.key`),
    '-extfile',
    at(`${file}.ext`),
  ];
  openssl('x509', '-req', '-days', '2', '-in', at(`${file}.csr`), ...signer, '-out', at(`${file}.pem`));
}
