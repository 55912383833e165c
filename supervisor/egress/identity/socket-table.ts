import { readFileSync } from 'node:fs';

/** Both ends of a TCP connection, as the accepting side sees them. */
export interface Connection {
  readonly localAddress: string;
  readonly localPort: number;
  readonly remoteAddress: string;
  readonly remotePort: number;
}

/**
 * States of net/tcp_states.h in which the client still owns its end: established, and half-closed by the
 * client itself (FIN_WAIT1, FIN_WAIT2), which some clients are right after they have sent their request.
 */
const OWNED: ReadonlySet<string> = new Set(['01', '04', '05']);

/**
 * Finds the inode of the *client's* socket of a loopback connection in the text of /proc/net/tcp or tcp6
 * (proc_pid_net(5), Documentation/networking/proc_net_tcp.rst). An IPv4-mapped address counts as IPv4.
 */
export function findClientInode(table: string, connection: Connection): number | undefined {
  const client = endpointKey(connection.remoteAddress, connection.remotePort);
  const server = endpointKey(connection.localAddress, connection.localPort);
  let start = table.indexOf('\n') + 1;
  while (start > 0 && start < table.length) {
    const newline = table.indexOf('\n', start);
    const line = table.slice(start, newline < 0 ? undefined : newline);
    start = newline < 0 ? 0 : newline + 1;
    const fields = line.trim().split(/\s+/);
    if (!OWNED.has(fields[3] ?? '')) continue;
    if (decodeEndpoint(fields[1] ?? '') !== client || decodeEndpoint(fields[2] ?? '') !== server) continue;
    const inode = Number(fields[9]);
    return Number.isSafeInteger(inode) && inode > 0 ? inode : undefined;
  }
  return undefined;
}

/** Reads both tables of a process's folder in proc and finds the client's inode. */
export function clientInode(processFolder: string, connection: Connection): number | undefined {
  for (const name of ['tcp', 'tcp6']) {
    let table: string;
    try {
      table = readFileSync(`${processFolder}/net/${name}`, 'latin1');
    } catch {
      continue; // a kernel without IPv6 has no tcp6
    }
    const inode = findClientInode(table, connection);
    if (inode !== undefined) return inode;
  }
  return undefined;
}

const endpointKey = (address: string, port: number): string =>
  `${address.startsWith('::ffff:') && address.includes('.') ? address.slice(7) : address}|${port}`;

/** "0100007F:0C38" → "127.0.0.1|3128". Each 32-bit word is printed in the machine's byte order. */
function decodeEndpoint(text: string): string {
  const [hex = '', port = ''] = text.split(':');
  const bytes: number[] = [];
  for (let word = 0; word < hex.length; word += 8)
    for (let i = 6; i >= 0; i -= 2) bytes.push(Number.parseInt(hex.slice(word + i, word + i + 2), 16));
  const mapped =
    bytes.length === 16 && bytes.slice(0, 10).every((b) => b === 0) && bytes[10] === 255 && bytes[11] === 255;
  const address =
    bytes.length === 4 || mapped
      ? bytes.slice(-4).join('.')
      : bytes.every((b, i) => b === (i === 15 ? 1 : 0))
        ? '::1'
        : hex;
  return `${address}|${Number.parseInt(port, 16)}`;
}
