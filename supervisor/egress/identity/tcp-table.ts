import { closeSync, openSync, readSync } from 'node:fs';
import { isIP } from 'node:net';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { err, ok, type Result } from '../../result.ts';

/** One end of a TCP connection: an IP literal and a port. */
export interface Endpoint {
  readonly address: string;
  readonly port: number;
}

/** A connection as its client sees it. */
export interface ClientConnection {
  /** The client's own end: our socket's remote address. */
  readonly client: Endpoint;
  /** The end that it connected to: our socket's local address. */
  readonly server: Endpoint;
}

const CHUNK_BYTES = 65_536;
const MAX_TABLE_BYTES = 16 * 1024 * 1024;
/** Bytes read before other work of the supervisor gets a turn. */
const BYTES_A_TURN = 1024 * 1024;

/**
 * The inode of the client's socket, from the tables of its network namespace
 * (`/proc/<pid>/net/tcp` and `tcp6`, proc_pid_net(5)): state ESTABLISHED and both addresses equal.
 * A socket of family AF_INET6 that speaks IPv4 stands in tcp6 with mapped addresses.
 * `netDirectory` is that `net` directory.
 */
export async function findSocketInode(
  netDirectory: string,
  connection: ClientConnection,
): Promise<Result<string, string>> {
  const client = foldMapped(connection.client);
  const server = foldMapped(connection.server);
  const family = isIP(client.address);
  if (family === 0 || family !== isIP(server.address)) return err('the connection has no usable addresses');
  if (family === 4) {
    const inode = await searchTable(`${netDirectory}/tcp`, `${hexV4(client)} ${hexV4(server)} 01 `);
    if (!inode.ok || inode.value !== undefined) return settle(inode);
  }
  const hex = family === 4 ? hexMapped : hexV6;
  return settle(await searchTable(`${netDirectory}/tcp6`, `${hex(client)} ${hex(server)} 01 `));
}

function settle(found: Result<string | undefined, string>): Result<string, string> {
  if (!found.ok) return found;
  // Inode 0 is a socket that no descriptor refers to any more.
  if (found.value === undefined || found.value === '0') {
    return err("the client's socket is not in the kernel's table of established connections");
  }
  return ok(found.value);
}

/** Reads the table piecewise and stops at the line: it can hold every connection of the pod. */
async function searchTable(path: string, needle: string): Promise<Result<string | undefined, string>> {
  let descriptor: number;
  try {
    descriptor = openSync(path, 'r');
  } catch (error) {
    const code = codeOf(error);
    // Without IPv6 in the kernel there is no tcp6.
    return code === 'ENOENT' && path.endsWith('6') ? ok(undefined) : err(`cannot read ${path}: ${code}`);
  }
  try {
    const buffer = Buffer.allocUnsafe(CHUNK_BYTES);
    let rest = '';
    for (let total = 0; total < MAX_TABLE_BYTES; ) {
      const count = readSync(descriptor, buffer);
      if (count === 0) return ok(undefined);
      const lines = (rest + buffer.toString('latin1', 0, count)).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) {
        if (line.includes(needle)) return ok(line.trim().split(/\s+/)[9]);
      }
      if (Math.floor(total / BYTES_A_TURN) !== Math.floor((total + count) / BYTES_A_TURN)) await nextTurn();
      total += count;
    }
    return err(`${path} is larger than ${MAX_TABLE_BYTES} bytes`);
  } catch (error) {
    return err(`cannot read ${path}: ${codeOf(error)}`);
  } finally {
    closeSync(descriptor);
  }
}

function foldMapped({ address, port }: Endpoint): Endpoint {
  const match = /^::ffff:([0-9.]+)$/i.exec(address);
  return { address: match?.[1] ?? address, port };
}

/** The kernel prints each 32-bit word in the byte order of the machine; both our targets are little-endian. */
function hexV4({ address, port }: Endpoint): string {
  return `${hexWord(address.split('.').map(Number))}:${hexPort(port)}`;
}

function hexMapped(endpoint: Endpoint): string {
  return `0000000000000000FFFF0000${hexV4(endpoint)}`;
}

function hexV6({ address, port }: Endpoint): string {
  const [head = '', tail] = (address.split('%')[0] ?? '').split('::');
  const left = groups(head);
  const right = tail === undefined ? [] : groups(tail);
  const all = [...left, ...new Array<number>(Math.max(0, 8 - left.length - right.length)).fill(0), ...right];
  let text = '';
  for (let index = 0; index < 8; index += 2) {
    const [high = 0, low = 0] = all.slice(index, index + 2);
    text += hexWord([high >> 8, high & 255, low >> 8, low & 255]);
  }
  return `${text}:${hexPort(port)}`;
}

const groups = (text: string): number[] =>
  text === '' ? [] : text.split(':').map((group) => Number.parseInt(group, 16));

const hexWord = (bytes: readonly number[]): string =>
  bytes
    .toReversed()
    .map((byte) => byte.toString(16).padStart(2, '0'))
    .join('')
    .toUpperCase();

const hexPort = (port: number): string => port.toString(16).padStart(4, '0').toUpperCase();

const codeOf = (error: unknown): string =>
  error instanceof Error && 'code' in error ? String(error.code) : String(error);
