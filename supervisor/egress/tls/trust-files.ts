import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { rootCertificates } from 'node:tls';
import { err, ok, type Result } from '../../result.ts';

/** Where the workload finds what it is to trust. */
export interface TrustFiles {
  readonly directory: string;
  /** The sandbox's CA alone, for clients that add to their own roots. */
  readonly ca: string;
  /** The image's roots and the sandbox's CA, for clients that take one file for everything. */
  readonly bundle: string;
}

/** Where distributions keep their bundle: Debian, Fedora, Alpine, SUSE. */
const BUNDLES = [
  '/etc/ssl/certs/ca-certificates.crt',
  '/etc/pki/tls/certs/ca-bundle.crt',
  '/etc/ssl/cert.pem',
  '/etc/ssl/ca-bundle.pem',
] as const;
/** The contract's place first; a read-only root leaves the others. */
const PLACES = ['/etc/openshell-tls', '/run/', '/tmp/', '/sandbox/'] as const;
const MAX_BUNDLE_BYTES = 4 << 20;

/**
 * Writes the CA's certificate, and the image's bundle with it, where the workload can read them. Nothing secret is
 * in either. Fails with the places that were tried.
 */
export function writeTrustFiles(
  certificate: string,
  places: readonly string[] = PLACES,
  bundles: readonly string[] = BUNDLES,
): Result<TrustFiles, string> {
  const roots = imageRoots(bundles);
  const failures: string[] = [];
  for (const place of places)
    try {
      const directory = makeDirectory(place);
      const files = {
        directory,
        ca: join(directory, 'openshell-ca.pem'),
        bundle: join(directory, 'ca-bundle.pem'),
      };
      writeNew(files.ca, certificate);
      writeNew(files.bundle, `${roots.trimEnd()}\n${certificate}`);
      return ok(files);
    } catch (cause) {
      failures.push(
        `${place}: ${cause instanceof Error && 'code' in cause ? String(cause.code) : String(cause)}`,
      );
    }
  return err(`the CA certificate can be written nowhere (${failures.join(', ')})`);
}

/** A place that ends in a slash is one where others may write too: there the name is one that nobody could foresee. */
function makeDirectory(place: string): string {
  if (!place.endsWith('/')) {
    mkdirSync(place, { recursive: true, mode: 0o755 });
    if (!lstatSync(place).isDirectory()) throw new Error('it is no directory');
    return place;
  }
  const directory = mkdtempSync(`${place}.openshell-tls-`);
  chmodSync(directory, 0o755);
  return directory;
}

/** Never through a link that somebody left there. */
function writeNew(path: string, text: string): void {
  rmSync(path, { force: true });
  writeFileSync(path, text, { mode: 0o644, flag: 'wx' });
}

/** Removes what was written; the workload, which may have our user id, may have changed it meanwhile. */
export function removeTrustFiles({ directory, ca, bundle }: TrustFiles): void {
  try {
    for (const file of [ca, bundle]) rmSync(file, { force: true });
    rmdirSync(directory);
  } catch {
    // there is more in it, or it is not ours to remove: it holds nothing secret
  }
}

function imageRoots(bundles: readonly string[]): string {
  for (const path of bundles)
    try {
      if (!existsSync(path)) continue;
      const text = readFileSync(path, 'utf8');
      if (text.length <= MAX_BUNDLE_BYTES && text.includes('-----BEGIN CERTIFICATE-----')) return text;
    } catch {
      // not readable: the next
    }
  return rootCertificates.join('\n');
}

/** Variables by which common clients find the files: OpenSSL, Go, Rust, curl, git, Python, pip, Node, Deno, AWS. */
export function trustVariables({ ca, bundle }: TrustFiles): Readonly<Record<string, string>> {
  const names = {
    [ca]: ['NODE_EXTRA_CA_CERTS', 'DENO_CERT'],
    [bundle]: [
      'SSL_CERT_FILE',
      'REQUESTS_CA_BUNDLE',
      'CURL_CA_BUNDLE',
      'GIT_SSL_CAINFO',
      'PIP_CERT',
      'CARGO_HTTP_CAINFO',
      'AWS_CA_BUNDLE',
      'GRPC_DEFAULT_SSL_ROOTS_FILE_PATH',
    ],
  };
  return Object.fromEntries(Object.entries(names).flatMap(([file, all]) => all.map((name) => [name, file])));
}
