import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { rootCertificates } from 'node:tls';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import {
  removeTrustFiles,
  trustVariables,
  writeTrustFiles,
} from '../../../supervisor/egress/tls/trust-files.ts';

const OWN = '-----BEGIN CERTIFICATE-----\nT1dO\n-----END CERTIFICATE-----\n';
const IMAGE = '-----BEGIN CERTIFICATE-----\nSU1B\nR0U=\n-----END CERTIFICATE-----\n';
let place = '';
beforeEach(() => {
  place = mkdtempSync(join(tmpdir(), 'trust-'));
});
afterEach(() => rmSync(place, { recursive: true, force: true }));

const written = (places: readonly string[], bundles: readonly string[] = []) => {
  const files = writeTrustFiles(OWN, places, bundles);
  if (!files.ok) throw new Error(files.error);
  return files.value;
};
/** The image's bundle as a file of its own. */
const bundle = (text: string | Buffer): string => {
  const path = join(place, 'bundle.crt');
  writeFileSync(path, text);
  return path;
};

describe('the files of trust', () => {
  test('are the CA alone, and the image’s roots with it, readable by everybody', () => {
    const files = written([join(place, 'tls')], [bundle(`# comment\n${IMAGE}\n`)]);
    expect(files.directory).toBe(join(place, 'tls'));
    expect(readFileSync(files.ca, 'utf8')).toBe(OWN);
    expect(readFileSync(files.bundle, 'utf8')).toBe(`${IMAGE}${OWN}`);
    expect(lstatSync(files.bundle).mode & 0o777).toBe(0o644);
    expect(lstatSync(files.directory).mode & 0o777).toBe(0o755);
    // Java's holds the same two.
    const java = readFileSync(files.java);
    expect(lstatSync(files.java).mode & 0o777).toBe(0o644);
    expect(java.readUInt32BE(8)).toBe(2);
    expect([java.indexOf('IMAGE'), java.indexOf('OWN')].every((at) => at > 0)).toBe(true);
  });

  test('have Node’s roots where the image has none', () => {
    const files = written([join(place, 'tls')], [join(place, 'none')]);
    const text = readFileSync(files.bundle, 'utf8');
    expect(text.match(/BEGIN CERTIFICATE/g)).toHaveLength(rootCertificates.length + 1);
    expect(text.endsWith(OWN)).toBe(true);
  });

  test('have the certificates of the image’s bundle and nothing else that stands there', () => {
    const key = '-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n';
    const secret = join(place, 'secret.pem');
    writeFileSync(secret, `token=hunter2\n${key}${IMAGE}password`);
    const link = join(place, 'linked.crt');
    symlinkSync(secret, link);
    const text = readFileSync(written([join(place, 'tls')], [link]).bundle, 'utf8');
    expect(text).toBe(`${IMAGE}${OWN}`);
  });

  test.each([
    ['a pipe that nobody writes to', (path: string) => void execFileSync('mkfifo', [path])],
    ['a device without an end', (path: string) => symlinkSync('/dev/zero', path)],
    ['a directory', (path: string) => void mkdirSync(path)],
    ['a link to itself', (path: string) => symlinkSync(path, path)],
    [
      'a file of a terabyte',
      (path: string) => {
        writeFileSync(path, IMAGE);
        truncateSync(path, 2 ** 40);
      },
    ],
    ['something else', (path: string) => writeFileSync(path, 'nothing')],
  ])('skip a bundle that is %s, at once', (_what, make) => {
    const odd = join(place, 'odd');
    make(odd);
    const text = readFileSync(written([join(place, 'tls')], [odd, bundle(IMAGE)]).bundle, 'utf8');
    expect(text).toBe(`${IMAGE}${OWN}`);
  });

  test('go to the next place where one cannot be written', () => {
    const file = join(place, 'file');
    writeFileSync(file, '');
    const files = written(['/proc/openshell-tls', join(file, 'tls'), `${place}/`]);
    expect(files.directory.startsWith(`${place}/.openshell-tls-`)).toBe(true);
    expect(lstatSync(files.directory).mode & 0o777).toBe(0o755);
    const failed = writeTrustFiles(OWN, ['/proc/openshell-tls', join(file, 'tls')], []);
    expect(failed).toMatchObject({
      ok: false,
      error: expect.stringMatching(/\/proc\/openshell-tls: E.*file\/tls: E/),
    });
  });

  test.runIf(process.getuid?.() !== 0)('go to the next place where one is read-only (not as root)', () => {
    const readOnly = join(place, 'ro');
    mkdirSync(readOnly);
    chmodSync(readOnly, 0o555);
    expect(written([join(readOnly, 'tls'), join(place, 'tls')]).directory).toBe(join(place, 'tls'));
  });

  test('are never written through a link that somebody left', () => {
    const victim = join(place, 'victim');
    writeFileSync(victim, 'untouched');
    const directory = join(place, 'tls');
    mkdirSync(directory);
    symlinkSync(victim, join(directory, 'openshell-ca.pem'));
    symlinkSync(join(place, 'created'), join(directory, 'ca-bundle.pem'));
    const files = written([directory]);
    expect(lstatSync(files.ca).isFile() && lstatSync(files.bundle).isFile()).toBe(true);
    expect(readFileSync(victim, 'utf8')).toBe('untouched');
    expect(existsSync(join(place, 'created'))).toBe(false);
  });

  test('are not written into a directory that is a link', () => {
    const elsewhere = join(place, 'elsewhere');
    mkdirSync(elsewhere);
    symlinkSync(elsewhere, join(place, 'tls'));
    expect(written([join(place, 'tls'), `${place}/`]).directory).not.toBe(join(place, 'tls'));
    expect(readdirSync(elsewhere)).toEqual([]);
  });

  test('are not written where a directory stands in the way of a file', () => {
    mkdirSync(join(place, 'tls', 'openshell-ca.pem'), { recursive: true });
    expect(written([join(place, 'tls'), `${place}/`]).directory).not.toBe(join(place, 'tls'));
  });

  test('are removed, and what others put beside them stays', () => {
    const files = written([`${place}/`]);
    removeTrustFiles(files);
    expect(existsSync(files.directory)).toBe(false);
    const again = written([`${place}/`]);
    writeFileSync(join(again.directory, 'mine'), '');
    removeTrustFiles(again);
    expect(readdirSync(again.directory)).toEqual(['mine']);
    removeTrustFiles(again);
  });

  test('are named in the variables of common clients', () => {
    const variables = trustVariables({ directory: '/d', ca: '/d/ca', bundle: '/d/bundle', java: '/d/java' });
    expect(variables).toMatchObject({
      NODE_EXTRA_CA_CERTS: '/d/ca',
      SSL_CERT_FILE: '/d/bundle',
      REQUESTS_CA_BUNDLE: '/d/bundle',
      CURL_CA_BUNDLE: '/d/bundle',
      GIT_SSL_CAINFO: '/d/bundle',
      CARGO_HTTP_CAINFO: '/d/bundle',
    });
  });
});
