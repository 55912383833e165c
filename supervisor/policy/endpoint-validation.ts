import { isAddressLike, parseIp, parseRange } from './addresses.ts';
import type { Endpoint } from './document.ts';
import type { Place } from './fault.ts';
import { faultAt, type PolicyFault } from './fault.ts';
import { SCOPE_GLOB } from './glob.ts';
import { hostPatternFault } from './host-pattern.ts';
import { globFault } from './matchers.ts';
import { checkOperations } from './operation-validation.ts';

/** Checks one endpoint by itself: host, ports, addresses, and that its fields go together. */
export function checkEndpoint(at: Place, endpoint: Endpoint): readonly PolicyFault[] {
  const faults: PolicyFault[] = [];
  const fault = (key: string, message: string): void => {
    faults.push(faultAt([...at, key], message));
  };
  const host = hostFault(endpoint);
  if (host !== undefined) fault('host', host);
  if (endpoint.ports.length === 0) fault('port', 'is needed');
  if (endpoint.ports.some((port) => port < 1 || port > 65535)) fault('port', 'must be between 1 and 65535');
  for (const [index, text] of endpoint.allowedIps.entries())
    if (parseRange(text.trim()) === undefined)
      faults.push(faultAt([...at, 'allowed_ips', index], 'must be an address or a CIDR block'));
  checkTogether(endpoint, fault);
  if (endpoint.protocol === 'tcp') checkTcp(endpoint, fault);
  else faults.push(...checkOperations(at, endpoint));
  checkPath(endpoint, fault);
  checkSigning(endpoint, fault);
  return faults;
}

function hostFault(endpoint: Endpoint): string | undefined {
  const { host, protocol } = endpoint;
  if (host.trim() === '') {
    if (protocol === 'tcp' || protocol === 'mcp') return `is needed where protocol is ${protocol}`;
    return endpoint.allowedIps.length === 0 ? 'is needed unless allowed_ips is given' : undefined;
  }
  if (parseIp(host) !== undefined)
    return protocol === 'tcp' ? 'must be a DNS name where protocol is tcp' : undefined;
  const message = hostPatternFault(host);
  if (message !== undefined) return message;
  return isAddressLike(host) ? 'is no address in dotted-decimal form and no name' : undefined;
}

type Report = (key: string, message: string) => void;

function checkTogether(endpoint: Endpoint, fault: Report): void {
  const { protocol, access } = endpoint;
  const [ruled, denying] = [endpoint.rules.length > 0, endpoint.denyRules.length > 0];
  const rpc = protocol === 'json-rpc' || protocol === 'mcp';
  if (ruled && access !== undefined) fault('rules', 'excludes access');
  if (protocol === 'opaque' && (ruled || denying || access !== undefined))
    fault('protocol', 'must name a request protocol, such as rest, for rules or access to mean anything');
  if (rpc && access !== undefined)
    fault('access', `means nothing to ${protocol}; write rules that name methods`);
  const needsRules =
    protocol === 'mcp'
      ? endpoint.mcp?.allowAllKnownMethods !== true
      : protocol !== 'opaque' && protocol !== 'tcp';
  if (needsRules && !ruled && access === undefined)
    fault('protocol', `needs ${rpc ? 'rules' : 'rules or access'}: without them nothing is allowed`);
  if (denying && protocol !== 'mcp' && protocol !== 'opaque' && !ruled && access === undefined)
    fault('deny_rules', 'needs rules or access to take from');
  if (endpoint.mcp !== undefined && protocol !== 'mcp') fault('mcp', 'is for protocol mcp alone');
  if (protocol !== 'opaque' && protocol !== 'tcp' && endpoint.tls === 'skip')
    fault('tls', 'must not be skip where requests are inspected');
  if (protocol === 'sql' && endpoint.enforcement === 'enforce')
    fault('enforcement', 'must be audit for sql, which is not inspected');
}

/** Whatever says something of requests says nothing to bytes. */
function checkTcp(endpoint: Endpoint, fault: Report): void {
  const given: readonly (readonly [string, boolean])[] = [
    ['rules', endpoint.rules.length > 0],
    ['deny_rules', endpoint.denyRules.length > 0],
    ['access', endpoint.access !== undefined],
    ['enforcement', endpoint.enforcement === 'enforce'],
    ['path', endpoint.path !== ''],
    ['allow_encoded_slash', endpoint.allowEncodedSlash],
    ['websocket_credential_rewrite', endpoint.websocketCredentialRewrite],
    ['request_body_credential_rewrite', endpoint.requestBodyCredentialRewrite],
    ['persisted_queries', endpoint.persistedQueries !== 'deny'],
    ['graphql_persisted_queries', Object.keys(endpoint.graphqlPersistedQueries).length > 0],
    ['credential_signing', endpoint.credentialSigning !== undefined],
    ['signing_service', endpoint.signingService !== ''],
    ['signing_region', endpoint.signingRegion !== ''],
    ['credential_binding', endpoint.credentialBinding !== undefined],
  ];
  for (const [key, present] of given)
    if (present) fault(key, 'means nothing where protocol is tcp, which is not inspected');
}

function checkPath(endpoint: Endpoint, fault: Report): void {
  const { path } = endpoint;
  if (path === '') return;
  if (!path.startsWith('/') && path !== '**') fault('path', 'must begin with a slash, or be **');
  const message = globFault(path, SCOPE_GLOB);
  if (message !== undefined) fault('path', message);
}

function checkSigning(endpoint: Endpoint, fault: Report): void {
  if (endpoint.credentialSigning === undefined) return;
  if (endpoint.signingService === '') fault('signing_service', 'is needed where credential_signing is given');
  if (endpoint.requestBodyCredentialRewrite)
    fault('request_body_credential_rewrite', 'excludes credential_signing, which signs the body as it came');
}
