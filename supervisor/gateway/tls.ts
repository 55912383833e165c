import { readFileSync } from 'node:fs';
import { createSecureContext, type SecureContext } from 'node:tls';
import { Fault } from '../fault.ts';
import { err, ok, type Result } from '../result.ts';

/** Paths of the client's TLS material; all three are needed for https (contract.md, 3). */
export interface TlsFiles {
  readonly ca: string | undefined;
  readonly cert: string | undefined;
  readonly key: string | undefined;
  readonly serverName: string | undefined;
}

/** Reads a file that only the supervisor may; synchronously, because it may have to be root for it. */
export type ReadSecret = (path: string) => Buffer;

/** Mutual TLS that trusts only the given CA. Names the variable to set when a file is missing. */
export function secureContext(
  files: TlsFiles,
  readSecret: ReadSecret = readFileSync,
): Result<SecureContext, Fault> {
  const read: Buffer[] = [];
  for (const [name, path] of [
    ['OPENSHELL_TLS_CA', files.ca],
    ['OPENSHELL_TLS_KEY', files.key],
    ['OPENSHELL_TLS_CERT', files.cert],
  ] as const) {
    if (path === undefined || path === '')
      return err(new Fault('credentials', `an https endpoint needs mutual TLS: set ${name}`));
    try {
      read.push(readSecret(path));
    } catch (cause) {
      return err(new Fault('credentials', `cannot read ${path}, which ${name} names`, { cause }));
    }
  }
  const [ca, key, cert] = read;
  try {
    return ok(createSecureContext({ ca, key, cert, minVersion: 'TLSv1.2' }));
  } catch (cause) {
    const message =
      'the TLS files do not fit together; check OPENSHELL_TLS_CA, OPENSHELL_TLS_CERT and OPENSHELL_TLS_KEY';
    return err(new Fault('credentials', message, { cause }));
  }
}
