import { Fault } from '../fault.ts';
import { Secret } from '../observability/secret.ts';
import type { Environment } from './given.ts';

/** Where the gateway's token is. */
export type ConfiguredToken =
  | { readonly kind: 'env'; readonly value: Secret }
  | { readonly kind: 'file'; readonly path: string }
  | { readonly kind: 'kubernetes'; readonly path: string }
  | { readonly kind: 'none' };

/** One URL, or several with commas between them: a host and a port hold none. Throws the Fault that says what is wrong with one. */
export function readEndpoints(value: string | undefined): readonly URL[] {
  const urls = (value ?? '')
    .split(',')
    .map((one) => one.trim())
    .filter((one) => one !== '')
    .map(readEndpoint);
  if (new Set(urls.map(({ protocol }) => protocol)).size > 1)
    throw new Fault(
      'config',
      'the gateway endpoints mix http and https: the token would travel unencrypted to some; use one scheme',
    );
  return Object.freeze(urls);
}

function readEndpoint(value: string): URL {
  const url = URL.canParse(value) ? new URL(value) : undefined;
  if (url === undefined || !['http:', 'https:'].includes(url.protocol) || url.hostname === '')
    throw new Fault(
      'config',
      `the gateway endpoint "${withoutUser(value).slice(0, 200)}" is not an http or https URL; set OPENSHELL_ENDPOINT`,
    );
  if (url.username !== '' || url.password !== '')
    throw new Fault(
      'config',
      'the gateway endpoint must not hold credentials; use OPENSHELL_SANDBOX_TOKEN_FILE',
    );
  return url;
}

/** What stands before an @ may be a password, even where the rest is no URL. */
const withoutUser = (value: string): string => value.replace(/^.*@/s, '…@');

/** Where the gateway's token is: a value wins over a file, and a file over a ServiceAccount's (contract.md, 3). */
export function readTokenSource(env: Environment): ConfiguredToken {
  const {
    OPENSHELL_SANDBOX_TOKEN: value,
    OPENSHELL_SANDBOX_TOKEN_FILE: file,
    OPENSHELL_K8S_SA_TOKEN_FILE: kubernetes,
  } = env;
  if (value) return { kind: 'env', value: new Secret(value) };
  if (file) return { kind: 'file', path: file };
  return kubernetes ? { kind: 'kubernetes', path: kubernetes } : { kind: 'none' };
}
