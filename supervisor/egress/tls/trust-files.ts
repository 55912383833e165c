import {
  chmodSync,
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { rootCertificates } from 'node:tls';
import { err, ok, type Result } from '../../result.ts';
import { javaTrustStore } from './java-trust-store.ts';

/** Where the workload finds what it is to trust. */
export interface TrustFiles {
  readonly directory: string;
  /** The sandbox's CA alone, for clients that add to their own roots. */
  readonly ca: string;
  /** The image's roots and the sandbox's CA, for clients that take one file for everything. */
  readonly bundle: string;
  /** What is in the bundle, for Java. */
  readonly java: string;
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
  const bundle = `${imageRoots(bundles).trimEnd()}\n${certificate}`;
  const java = javaTrustStore(bundle);
  const failures: string[] = [];
  for (const place of places)
    try {
      const directory = makeDirectory(place);
      const files = {
        directory,
        ca: join(directory, 'openshell-ca.pem'),
        bundle: join(directory, 'ca-bundle.pem'),
        java: join(directory, 'ca-bundle.jks'),
      };
      writeNew(files.ca, certificate);
      writeNew(files.bundle, bundle);
      writeNew(files.java, java);
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
    // Not recursively: Node never comes back from that below a directory where none can be made, such as /proc.
    for (const path of [dirname(place), place]) makeUnlessThere(path);
    if (!lstatSync(place).isDirectory()) throw new Error('it is no directory');
    return place;
  }
  const directory = mkdtempSync(`${place}.openshell-tls-`);
  chmodSync(directory, 0o755);
  return directory;
}

function makeUnlessThere(path: string): void {
  try {
    mkdirSync(path, { mode: 0o755 });
  } catch (cause) {
    if (!(cause instanceof Error && 'code' in cause && cause.code === 'EEXIST')) throw cause;
  }
}

/** Never through a link that somebody left there. */
function writeNew(path: string, text: string | Buffer): void {
  rmSync(path, { force: true });
  writeFileSync(path, text, { mode: 0o644, flag: 'wx' });
}

/** Removes what was written; the workload, which may have our user id, may have changed it meanwhile. */
export function removeTrustFiles({ directory, ca, bundle, java }: TrustFiles): void {
  try {
    for (const file of [ca, bundle, java]) rmSync(file, { force: true });
    rmdirSync(directory);
  } catch {
    // there is more in it, or it is not ours to remove: it holds nothing secret
  }
}

const CERTIFICATE = /-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]{1,65536}?-----END CERTIFICATE-----/g;

/** The image's certificates and nothing else of its file: who made the image may have linked it to what we alone read. */
function imageRoots(bundles: readonly string[]): string {
  for (const path of bundles) {
    const certificates = readBounded(path)?.match(CERTIFICATE);
    if (certificates) return certificates.join('\n');
  }
  return rootCertificates.join('\n');
}

/** A regular file of a bounded size; a pipe or a device in its place would keep the supervisor from starting. */
function readBounded(path: string): string | undefined {
  let descriptor: number;
  try {
    descriptor = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
  } catch {
    return undefined; // not there, or not readable: the next
  }
  try {
    const stat = fstatSync(descriptor);
    const { size } = stat;
    if (!stat.isFile() || size > MAX_BUNDLE_BYTES) return undefined;
    const bytes = Buffer.alloc(size);
    let filled = 0;
    while (filled < size) {
      const read = readSync(descriptor, bytes, filled, size - filled, filled);
      if (read === 0) break;
      filled += read;
    }
    return bytes.toString('utf8', 0, filled);
  } catch {
    return undefined;
  } finally {
    closeSync(descriptor);
  }
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
