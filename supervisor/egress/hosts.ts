import { isIP } from 'node:net';

/** Addresses by lower-case name, in the file's order. */
export type HostsTable = ReadonlyMap<string, readonly string[]>;

/** Lines beyond this many are ignored; the file comes from the image and may be anything. */
const MAX_LINES = 4096;

/**
 * Reads /etc/hosts (hosts(5)). Lines without a valid address are skipped, and so are scoped IPv6
 * addresses (`fe80::1%eth0`): a scope is meaningless to policy.
 */
export function parseHosts(text: string): HostsTable {
  const table = new Map<string, string[]>();
  for (const line of text.split('\n', MAX_LINES)) {
    const [address, ...names] = line.replace(/#.*/, '').trim().split(/\s+/);
    if (address === undefined || isIP(address) === 0 || address.includes('%')) continue;
    for (const name of names) {
      const key = name.toLowerCase().replace(/\.$/, '');
      const addresses = table.get(key);
      if (addresses === undefined) table.set(key, [address]);
      else if (!addresses.includes(address)) addresses.push(address);
    }
  }
  return table;
}
