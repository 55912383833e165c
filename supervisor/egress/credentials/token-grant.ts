import type { ProviderProfileCredential } from '../../../proto/generated/openshell/v1/openshell.ts';
import { compileHostPattern } from '../../policy/host-pattern.ts';
import { compilePathScope } from '../../policy/matchers.ts';
import { err, ok, type Result } from '../../result.ts';
import type { RequestPlace } from './credential-store.ts';

/** Where a token is asked for, and how it is put into a request (contract.md, 8.4). */
export interface TokenGrant {
  /** For logs and errors: `<provider>:<credential>`. */
  readonly key: string;
  readonly endpoint: URL;
  readonly audience: string;
  readonly scopes: readonly string[];
  /** What the assertion is for. */
  readonly assertionAudience: string;
  readonly assertionType: string;
  /** Milliseconds; undefined leaves it to what the token says. */
  readonly cacheMs: number | undefined;
  readonly field: string;
  /** Stands before the token in the field. */
  readonly scheme: 'Bearer ' | '';
  readonly covers: (place: RequestPlace) => boolean;
  readonly coversHost: (host: string, port: number) => boolean;
  /** Of several that cover a request the one with the highest holds: its host first, then its path. */
  readonly specificity: readonly [number, number];
}

const JWT_BEARER = 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer';
/** Fields that frame a message or name its place. */
const FORBIDDEN_FIELDS: ReadonlySet<string> = new Set([
  'host',
  'content-length',
  'transfer-encoding',
  'connection',
]);

/** Reads one entry of `dynamic_credentials`: its key is host, port, path and provider, a TAB between each two. */
export function readTokenGrant(
  entry: string,
  credential: ProviderProfileCredential,
): Result<TokenGrant, string> {
  const [host = '', portText = '', path = '', key = '', ...more] = entry.split('\t');
  const port = Number(portText);
  if (more.length > 0 || host === '' || key === '') return err('its key has not four fields');
  if (!/^\d{1,5}$/.test(portText) || port < 1 || port > 65_535) return err(`${key}: the port is none`);
  const grant = credential.tokenGrant;
  if (grant === undefined) return err(`${key}: it has no token grant`);
  const endpoint = readEndpoint(grant.tokenEndpoint);
  if (!endpoint.ok) return err(`${key}: ${endpoint.error}`);
  const style = readStyle(credential.authStyle, credential.headerName);
  if (!style.ok) return err(`${key}: ${style.error}`);
  const hosts = compileHostPattern(host);
  const scope = compilePathScope(path);
  return ok({
    key,
    endpoint: endpoint.value,
    audience: grant.audience,
    scopes: grant.scopes,
    assertionAudience: grant.jwtSvidAudience || defaultAudience(grant.tokenEndpoint),
    assertionType: grant.clientAssertionType || JWT_BEARER,
    cacheMs: grant.cacheTtlSeconds > 0n ? Number(grant.cacheTtlSeconds) * 1000 : undefined,
    ...style.value,
    covers: (place) => place.port === port && hosts(place.host) && scope.matches(place.path),
    coversHost: (name, at) => at === port && hosts(name),
    specificity: [
      host.includes('*') ? host.replaceAll('*', '').length : 1000 + host.length,
      scope.specificity,
    ],
  });
}

/** https, or http to this machine and to services of the cluster. */
function readEndpoint(text: string): Result<URL, string> {
  if (!URL.canParse(text)) return err('its token endpoint is no URL');
  const url = new URL(text);
  if (url.username !== '' || url.password !== '') return err('its token endpoint holds credentials');
  const inside =
    /^(localhost|127(\.\d{1,3}){3}|\[::1\])$/.test(url.hostname) ||
    /\.svc(\.cluster\.local)?$/.test(url.hostname);
  if (url.protocol === 'https:' || (url.protocol === 'http:' && inside)) return ok(url);
  return err('its token endpoint is not https');
}

function readStyle(style: string, name: string): Result<Pick<TokenGrant, 'field' | 'scheme'>, string> {
  if (style !== '' && style !== 'bearer' && style !== 'header') return err(`the auth_style ${style} is none`);
  if (style === 'header' && name === '') return err('auth_style header needs a header_name');
  const field = name === '' ? 'Authorization' : name;
  if (!/^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}$/.test(field) || FORBIDDEN_FIELDS.has(field.toLowerCase()))
    return err(`its header_name ${JSON.stringify(field.slice(0, 64))} cannot carry a token`);
  return ok({ field, scheme: style === 'header' ? '' : 'Bearer ' });
}

/** Of Keycloak's URLs the realm is who issues tokens, and so who an assertion is for. */
function defaultAudience(endpoint: string): string {
  return /^.*?\/realms\/[^/]+/.exec(endpoint)?.[0] ?? endpoint;
}
