import type { ConfiguredProxy } from './config/egress-settings.ts';
import { readTextFile } from './config.ts';
import { parseNoProxy, type UpstreamProxy } from './egress/upstream-proxy.ts';
import { Fault } from './fault.ts';
import { Secret } from './observability/secret.ts';
import { err, ok, type Result } from './result.ts';

/** The roots that upstream servers are verified against beside Node's, as the operator gave them. */
export function operatorRoots(path: string | undefined): Result<string | undefined, Fault> {
  return path === undefined ? ok(undefined) : readTextFile(path, '--upstream-ca-file');
}

/** Fails when the list of exceptions or the file of credentials is none. */
export function siteProxy(
  configured: ConfiguredProxy | undefined,
  read: (file: string) => string,
): Result<UpstreamProxy | undefined, Fault> {
  if (configured === undefined) return ok(undefined);
  const { host, port, authFile, byHostname, noProxy } = configured;
  const bypass = parseNoProxy(noProxy);
  if (!bypass.ok)
    return err(
      new Fault('usage', `--upstream-no-proxy has an entry that is none: "${bypass.error.slice(0, 100)}"`),
    );
  if (authFile === undefined)
    return ok({ host, port, credentials: undefined, byHostname, bypass: bypass.value });
  try {
    const text = read(authFile).trim();
    if (!/^[^:\s][^:]*:[^\r\n]+$/.test(text))
      return err(
        new Fault(
          'credentials',
          `${authFile}, which --upstream-proxy-auth-file names, does not hold user:password`,
        ),
      );
    return ok({ host, port, credentials: new Secret(text), byHostname, bypass: bypass.value });
  } catch (cause) {
    return err(
      new Fault('credentials', `cannot read ${authFile}, which --upstream-proxy-auth-file names`, { cause }),
    );
  }
}
