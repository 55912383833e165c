import { parseIp, parseRange } from './addresses.ts';
import type { Endpoint, PolicyDocument, PolicyFault } from './document.ts';
import { compileHostPattern, hostPatternFault, isHostGlob } from './host-pattern.ts';

const MAX_PATHS = 256;
const MAX_PATH_LENGTH = 4096;
const MAX_ID = 4_294_967_294;

/** Checks what a shape cannot: the rules of contract.md, 7.2. Returns every fault that it finds. */
export function validatePolicy(document: PolicyDocument): readonly PolicyFault[] {
  const faults: PolicyFault[] = [];
  checkFiles(document, faults);
  checkIdentity('process.run_as_user', document.process?.runAsUser, faults);
  checkIdentity('process.run_as_group', document.process?.runAsGroup, faults);
  for (const [key, rule] of Object.entries(document.networkPolicies)) {
    const path = `network_policies.${key}`;
    for (const [index, endpoint] of rule.endpoints.entries())
      checkEndpoint(`${path}.endpoints[${index}]`, endpoint, faults);
    for (const [index, binary] of rule.binaries.entries())
      if (!binary.startsWith('/') && !binary.startsWith('*'))
        faults.push({
          path: `${path}.binaries[${index}].path`,
          message: 'must be an absolute path or a glob',
        });
  }
  checkAmbiguity(document, faults);
  return faults;
}

function checkFiles(document: PolicyDocument, faults: PolicyFault[]): void {
  const files = document.filesystem;
  if (files === undefined) return;
  if (files.readOnly.length + files.readWrite.length > MAX_PATHS)
    faults.push({ path: 'filesystem_policy', message: `has more than ${MAX_PATHS} paths` });
  for (const [name, paths] of [
    ['read_only', files.readOnly],
    ['read_write', files.readWrite],
  ] as const)
    for (const [index, path] of paths.entries()) {
      const message = pathFault(path, name === 'read_write');
      if (message !== undefined) faults.push({ path: `filesystem_policy.${name}[${index}]`, message });
    }
}

function pathFault(path: string, writable: boolean): string | undefined {
  if (!path.startsWith('/')) return 'must be an absolute path';
  if (path.length > MAX_PATH_LENGTH) return `is longer than ${MAX_PATH_LENGTH} characters`;
  if (path.includes('\0')) return 'holds a NUL byte';
  if (path.split('/').includes('..')) return 'must not climb with ..';
  if (writable && /^\/+\.?\/*$/.test(path)) return 'must not make the whole root writable';
  return undefined;
}

function checkIdentity(path: string, value: string | undefined, faults: PolicyFault[]): void {
  if (value === undefined || value === 'sandbox') return;
  if (!/^\d{1,10}$/.test(value) || Number(value) > MAX_ID || Number(value) < 1)
    faults.push({ path, message: `must be "sandbox" or a number from 1 to ${MAX_ID}; root is refused` });
}

function checkEndpoint(path: string, endpoint: Endpoint, faults: PolicyFault[]): void {
  const fault = (key: string, message: string) => faults.push({ path: `${path}.${key}`, message });
  if (endpoint.host === '') {
    if (endpoint.allowedIps.length === 0) fault('host', 'is needed unless allowed_ips is given');
  } else if (parseIp(endpoint.host) === undefined) {
    const message = hostPatternFault(endpoint.host);
    if (message !== undefined) fault('host', message);
    else if (/^[0-9.]+$/.test(endpoint.host) || /^0x/i.test(endpoint.host))
      fault('host', 'is no address in dotted-decimal form and no name');
  }
  if (endpoint.ports.length === 0) fault('port', 'is needed');
  if (endpoint.ports.some((port) => port < 1 || port > 65535)) fault('port', 'must be between 1 and 65535');
  for (const [index, text] of endpoint.allowedIps.entries())
    if (parseRange(text) === undefined) fault(`allowed_ips[${index}]`, 'must be an address or a CIDR block');
  if (endpoint.hasRules && endpoint.access !== undefined) fault('rules', 'excludes access');
  if (endpoint.hasDenyRules && !endpoint.hasRules && endpoint.access === undefined)
    fault('deny_rules', 'needs rules or access to take from');
  const inspected = endpoint.protocol !== 'opaque' && endpoint.protocol !== 'tcp';
  if (!inspected && (endpoint.hasRules || endpoint.access !== undefined || endpoint.hasDenyRules))
    fault('protocol', 'must name a request protocol, such as rest, for rules or access to mean anything');
  if (inspected && endpoint.tls === 'skip') fault('tls', 'must not be skip where requests are inspected');
  if (endpoint.protocol === 'tcp' && (isHostGlob(endpoint.host) || parseIp(endpoint.host) !== undefined))
    fault('host', 'must be a DNS name where protocol is tcp');
  if (endpoint.protocol === 'sql' && endpoint.enforcement === 'enforce')
    fault('enforcement', 'must be audit for sql, which is not inspected');
}

/** Endpoints that overlap in host and port must agree on what is done with the connection. */
function checkAmbiguity(document: PolicyDocument, faults: PolicyFault[]): void {
  const all = Object.entries(document.networkPolicies).flatMap(([key, rule]) =>
    rule.endpoints.map((endpoint, index) => ({
      endpoint,
      path: `network_policies.${key}.endpoints[${index}]`,
    })),
  );
  for (const [index, first] of all.entries())
    for (const second of all.slice(index + 1)) {
      const [a, b] = [first.endpoint, second.endpoint];
      if (!a.ports.some((port) => b.ports.includes(port)) || !overlap(a.host, b.host)) continue;
      const differs = conflict(a, b);
      if (differs !== undefined)
        faults.push({
          path: second.path,
          message: `differs in ${differs} from ${first.path}, which covers the same host and port`,
        });
    }
}

function conflict(a: Endpoint, b: Endpoint): string | undefined {
  if ((a.protocol === 'tcp') !== (b.protocol === 'tcp')) return 'protocol';
  if (a.tls !== b.tls) return 'tls';
  if ([...a.allowedIps].sort().join() !== [...b.allowedIps].sort().join()) return 'allowed_ips';
  if (a.advisorProposed !== b.advisorProposed) return 'advisor_proposed';
  if (a.path === b.path && a.protocol !== b.protocol) return 'protocol';
  if (a.path === b.path && a.enforcement !== b.enforcement) return 'enforcement';
  return undefined;
}

function overlap(a: string, b: string): boolean {
  if (a === '' || b === '') return a === b;
  const [lowerA, lowerB] = [a.toLowerCase(), b.toLowerCase()];
  return lowerA === lowerB || compileHostPattern(a)(lowerB) || compileHostPattern(b)(lowerA);
}
