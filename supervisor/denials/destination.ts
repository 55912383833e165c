import { classifyAddress, parseIp } from '../policy/addresses.ts';

/** Names of a cloud's metadata service; its address is link-local, and so blocked by itself. */
const METADATA_NAMES: ReadonlySet<string> = new Set(['metadata.google.internal']);

/** Whether nothing that a policy says would open this place, so that to propose it is in vain (contract.md, 7.6). */
export function isAlwaysBlocked(host: string): boolean {
  const name = host.toLowerCase().replace(/\.$/, '');
  const address = parseIp(name);
  if (address !== undefined) return classifyAddress(address) === 'blocked';
  return name === 'localhost' || name.endsWith('.localhost') || METADATA_NAMES.has(name);
}

/** Whether an address literal belongs to a network that is nobody's business outside it. */
export function isInternal(host: string): boolean {
  const address = parseIp(host);
  return address !== undefined && classifyAddress(address) === 'internal';
}
