import type { SecureContext } from 'node:tls';
import { createCertificateAuthority } from './egress/tls/certificate-authority.ts';
import { type TrustFiles, writeTrustFiles } from './egress/tls/trust-files.ts';
import type { Interception } from './egress/tunnels.ts';
import { err, ok, type Result } from './result.ts';

/** What it takes to look into TLS, and where the workload reads whom to trust. */
export interface PreparedInterception {
  readonly interception: Interception;
  readonly files: TrustFiles;
}

/** Makes the CA of this sandbox. Where its certificate can be written nowhere, TLS cannot be terminated: says why. */
export async function prepareInterception(
  trust: () => SecureContext,
  now: () => number,
): Promise<Result<PreparedInterception, string>> {
  const authority = await createCertificateAuthority(now);
  const written = writeTrustFiles(authority.certificate);
  if (!written.ok) return err(written.error);
  return ok({ interception: { authority, trust }, files: written.value });
}
