import { isIPv4, isIPv6, type Server, type Socket } from 'node:net';
import type { Intent } from '../../policy/intent.ts';
import { err, ok, type Result } from '../../result.ts';
import { parseAuthority } from '../authority.ts';
import { ConnectionSlots, type Slot } from '../connection-slots.ts';
import type { WayOut } from './way-out.ts';

export interface SocksOptions {
  readonly listener: Server;
  readonly wayOut: WayOut;
  /** A client spoke something else, or too many are connected. */
  readonly onRefused: (reason: 'malformed' | 'too-many-connections') => void;
  /** 1024 by default; one without a slot is reset. */
  readonly slots?: ConnectionSlots;
}

export interface SocksServer {
  readonly openConnections: () => number;
  stop(): void;
}

/** Reply codes (RFC 1928, 6). */
const REPLY = { granted: 0, failure: 1, notAllowed: 2, unreachable: 4, command: 7, addressType: 8 } as const;
type Reply = (typeof REPLY)[keyof typeof REPLY];

const VERSION = 5;
const NO_AUTHENTICATION = 0;
const USERNAME_PASSWORD = 2;
const NO_METHOD = 0xff;
const CONNECT = 1;
const ADDRESS = { v4: 1, name: 3, v6: 4 } as const;
/** From the connection to the end of its request. */
const HANDSHAKE_MS = 15_000;

/** What ends a handshake: an answer to send first, or none when the client speaks something else. */
type Failure = { readonly answer: Buffer | undefined };

/**
 * Serves SOCKS 5 (RFC 1928) on a listener: CONNECT by name, which is decided and resolved here, or by address. A name and
 * password (RFC 1929) are taken and not looked at: who calls is told by the kernel. BIND and UDP ASSOCIATE are refused.
 */
export function serveSocks(options: SocksOptions): SocksServer {
  const { listener, wayOut, onRefused, slots = new ConnectionSlots(1024) } = options;
  const sockets = new Set<Socket>();
  listener.on('error', () => undefined); // running out of descriptors passes
  listener.on('connection', (socket) => {
    socket.on('error', () => undefined); // 'close' follows
    const slot = slots.take(socket);
    if (slot === undefined) {
      onRefused('too-many-connections');
      socket.resetAndDestroy();
      return;
    }
    socket.setNoDelay(true);
    socket.allowHalfOpen = true;
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
    serve(socket, slot, wayOut, () => onRefused('malformed')).catch(() => socket.destroy());
  });
  return {
    openConnections: () => sockets.size,
    stop() {
      listener.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}

async function serve(socket: Socket, slot: Slot, wayOut: WayOut, onMalformed: () => void): Promise<void> {
  const timer = setTimeout(() => socket.destroy(), HANDSHAKE_MS);
  const asked = await handshake(socket);
  clearTimeout(timer);
  if (!asked.ok) {
    onMalformed();
    if (asked.error.answer === undefined) socket.destroy();
    else refuse(socket, asked.error.answer);
    return;
  }
  slot.busy();
  const granted = await wayOut.open(asked.value, socket);
  if (!granted.ok) {
    const code = granted.error.status === 403 ? REPLY.notAllowed : REPLY.unreachable;
    return refuse(socket, replyOf(code));
  }
  if (socket.destroyed) return granted.value.abandon();
  socket.write(replyOf(REPLY.granted));
  // Whatever the client has sent behind its request still waits in the socket.
  granted.value.carry(socket, Buffer.alloc(0));
}

/** RFC 1928, 6: closed within ten seconds after a refusal. */
function refuse(socket: Socket, answer: Buffer): void {
  socket.resume(); // unread bytes would turn our end into a reset, and take the answer with them
  socket.end(answer);
  socket.setTimeout(5_000, () => socket.destroy());
}

/** The address that a reply names is ours to choose: nothing is bound for the client. */
const replyOf = (code: Reply): Buffer => Buffer.from([VERSION, code, 0, ADDRESS.v4, 0, 0, 0, 0, 0, 0]);

const SILENT: Result<never, Failure> = err({ answer: undefined });
const refusal = (code: Reply): Result<never, Failure> => err({ answer: replyOf(code) });

async function handshake(socket: Socket): Promise<Result<Intent, Failure>> {
  const greeting = await take(socket, 2);
  if (greeting?.[0] !== VERSION) return SILENT;
  const methods = await take(socket, greeting[1] ?? 0);
  if (methods === undefined) return SILENT;
  if (methods.includes(NO_AUTHENTICATION)) socket.write(Buffer.from([VERSION, NO_AUTHENTICATION]));
  else if (methods.includes(USERNAME_PASSWORD)) {
    socket.write(Buffer.from([VERSION, USERNAME_PASSWORD]));
    if (!(await passwordTaken(socket))) return SILENT;
  } else return err({ answer: Buffer.from([VERSION, NO_METHOD]) });

  const head = await take(socket, 4);
  if (head?.[0] !== VERSION) return SILENT;
  const host = await readAddress(socket, head[3] ?? 0);
  if (!host.ok) return host;
  const port = (await take(socket, 2))?.readUInt16BE(0);
  if (port === undefined) return SILENT;
  if (head[1] !== CONNECT) return refusal(REPLY.command);
  // The same rules for what a host may look like as everywhere else.
  const authority = parseAuthority(isIPv6(host.value) ? `[${host.value}]:${port}` : `${host.value}:${port}`);
  return authority === undefined ? refusal(REPLY.failure) : ok({ ...authority, via: 'socks' });
}

/** Reads a name and a password (RFC 1929, 2), whatever they are. */
async function passwordTaken(socket: Socket): Promise<boolean> {
  const head = await take(socket, 2);
  if (head?.[0] !== 1 || (await take(socket, head[1] ?? 0)) === undefined) return false;
  const length = (await take(socket, 1))?.[0];
  if (length === undefined || (await take(socket, length)) === undefined) return false;
  socket.write(Buffer.from([1, 0]));
  return true;
}

async function readAddress(socket: Socket, type: number): Promise<Result<string, Failure>> {
  if (type === ADDRESS.v4) {
    const bytes = await take(socket, 4);
    return bytes === undefined ? SILENT : ok(bytes.join('.'));
  }
  if (type === ADDRESS.v6) {
    const bytes = await take(socket, 16);
    return bytes === undefined ? SILENT : ok(ipv6Text(bytes));
  }
  if (type !== ADDRESS.name) return refusal(REPLY.addressType);
  const length = (await take(socket, 1))?.[0];
  const bytes = length === undefined ? undefined : await take(socket, length);
  if (bytes === undefined) return SILENT;
  const name = bytes.toString('latin1');
  // Some clients send what they were given, an address too, as a name.
  return isIPv4(name) || isIPv6(name) || /^[A-Za-z0-9._-]{1,253}$/.test(name)
    ? ok(name)
    : refusal(REPLY.failure);
}

/** As RFC 5952 writes it, which is how policies are compared. */
function ipv6Text(bytes: Buffer): string {
  const groups = Array.from({ length: 8 }, (_, i) => bytes.readUInt16BE(2 * i).toString(16));
  return new URL(`http://[${groups.join(':')}]/`).hostname.slice(1, -1);
}

/** Exactly so many bytes, what follows left in the stream; undefined when the client ends before. */
function take(socket: Socket, count: number): Promise<Buffer | undefined> {
  if (count === 0) return Promise.resolve(Buffer.alloc(0));
  return new Promise((resolve) => {
    const done = (bytes: Buffer | undefined): void => {
      socket.off('readable', look);
      socket.off('end', none);
      socket.off('close', none);
      resolve(bytes);
    };
    const none = (): void => done(undefined);
    const look = (): void => {
      const bytes: Buffer | null = socket.read(count);
      if (bytes !== null) done(bytes.length === count ? bytes : undefined);
    };
    socket.on('readable', look);
    socket.once('end', none);
    socket.once('close', none);
    look();
  });
}
