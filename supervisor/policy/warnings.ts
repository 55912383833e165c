import { isBlockedRange, isBroadRange, parseRange } from './addresses.ts';
import type { Endpoint, OperationPattern, PolicyDocument } from './document.ts';
import { faultAt, type Place, type PolicyFault } from './fault.ts';

/** What is valid and probably not meant. Has the form of faults, but refuses nothing. */
export function policyWarnings(document: PolicyDocument): readonly PolicyFault[] {
  return Object.entries(document.networkPolicies).flatMap(([key, rule]) => {
    const at = ['network_policies', key];
    const warnings = rule.endpoints.flatMap((endpoint, index) =>
      endpointWarnings([...at, 'endpoints', index], endpoint),
    );
    if (rule.binaries.length === 0)
      warnings.push(faultAt(at, 'names no binaries, so it lets nothing through'));
    if (key.startsWith('_provider_'))
      warnings.push(faultAt(at, 'begins with _provider_, which is kept for rules that the gateway composes'));
    return warnings;
  });
}

function endpointWarnings(at: Place, endpoint: Endpoint): PolicyFault[] {
  const warnings: PolicyFault[] = [];
  const warn = (where: Place, message: string): void => {
    warnings.push(faultAt([...at, ...where], message));
  };
  for (const [index, text] of endpoint.allowedIps.entries()) {
    const range = parseRange(text.trim());
    if (range === undefined) continue;
    if (isBlockedRange(range))
      warn(['allowed_ips', index], 'can never be allowed, so no address of this endpoint is');
    else if (isBroadRange(range)) warn(['allowed_ips', index], 'is broader than a /16');
  }
  for (const what of endpoint.deprecated)
    warn([what.split(':', 1)[0] ?? ''], `${what} means nothing any more: TLS is found out by itself`);
  const { protocol } = endpoint;
  if (endpoint.websocketCredentialRewrite && protocol !== 'rest' && protocol !== 'websocket')
    warn(['websocket_credential_rewrite'], 'means nothing unless protocol is rest or websocket');
  if (endpoint.requestBodyCredentialRewrite && protocol !== 'rest')
    warn(['request_body_credential_rewrite'], 'means nothing unless protocol is rest');
  const savedQueries = Object.keys(endpoint.graphqlPersistedQueries).length;
  if (savedQueries > 0 && protocol !== 'graphql' && protocol !== 'websocket')
    warn(['graphql_persisted_queries'], 'means nothing unless protocol is graphql or websocket');
  else if (savedQueries > 0 && endpoint.persistedQueries === 'deny')
    warn(['graphql_persisted_queries'], 'means nothing unless persisted_queries is allow_registered');
  for (const [index, rule] of endpoint.rules.entries())
    for (const message of operationWarnings(protocol, rule)) warn(['rules', index, 'allow'], message);
  for (const [index, rule] of endpoint.denyRules.entries())
    for (const message of operationWarnings(protocol, rule)) warn(['deny_rules', index], message);
  return warnings;
}

const HTTP_METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS', '*'];
const WEBSOCKET_METHODS = ['GET', 'WEBSOCKET_TEXT', '*'];

function operationWarnings(protocol: Endpoint['protocol'], rule: OperationPattern): readonly string[] {
  if (protocol !== 'rest' && protocol !== 'websocket') return [];
  const graphql = rule.operationType !== '' || rule.operationName !== '' || rule.fields.length > 0;
  if (graphql && protocol === 'websocket') return [];
  const warnings: string[] = [];
  if (graphql) warnings.push('names GraphQL fields, which mean nothing to rest');
  if (rule.method === '' || rule.path === '') warnings.push('matches nothing: it needs both method and path');
  const known = protocol === 'rest' ? HTTP_METHODS : WEBSOCKET_METHODS;
  if (rule.method !== '' && !known.includes(rule.method.toUpperCase()))
    warnings.push(`names the method ${rule.method}; the usual ones are ${known.join(', ')}`);
  return warnings;
}
