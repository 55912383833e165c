import type { ServerConnection } from 'ssh2';
import type { Clock } from '../clock.ts';
import { PacketReader } from './packet-reader.ts';
import { parseTerminalModes } from './terminal-modes.ts';

/** Why a channel cannot be opened (RFC 4254, 5.1). */
export interface OpenRefusal {
  readonly code: typeof PROHIBITED | typeof RESOURCE_SHORTAGE;
  readonly reason: string;
}
export const PROHIBITED = 1;
export const RESOURCE_SHORTAGE = 4;

/** What ssh2 1.17 keeps of a connection. */
interface Protocol {
  /** Ours, from the first message of a key exchange to its last one. */
  readonly _kexinit: unknown;
  channelOpenFail(remote: number, code: number, reason: string): void;
  channelSuccess(remote: number): void;
  channelFailure(remote: number): void;
  channelClose(remote: number): void;
}

/** And of a session channel; other channels have no `_chanInfo`. */
interface SessionState {
  _ending: boolean;
  readonly _channel: object | undefined;
  readonly _chanInfo: {
    readonly incoming: { readonly id: number };
    readonly outgoing: { readonly id: number; readonly state: string };
  };
  emit(event: string, ...values: readonly unknown[]): boolean;
}

interface Connection {
  readonly authenticated: boolean;
  readonly _protocol: Protocol;
  readonly _chanMgr: { get(id: number): unknown; remove(id: number): void };
}

/** A channel that a client wants to open. */
export type WantedChannel =
  | { readonly kind: 'session' }
  | { readonly kind: 'forward'; readonly host: string; readonly port: number };

export interface ConnectionGuardOptions {
  readonly clock: Clock;
  /** Says no to a channel. */
  readonly judge: (wanted: WantedChannel) => OpenRefusal | undefined;
  /** Ends the connection. */
  readonly drop: (reason: string) => void;
}

/** Below this a kilobyte costs so many packets that a client could keep us busy with little. */
const MIN_PACKET = 1024;
const KEY_EXCHANGE_MS = 10_000;

const [KEXINIT, CHANNEL_OPEN, CHANNEL_CLOSE, CHANNEL_REQUEST] = [20, 90, 97, 98] as const;

/**
 * Keeps one client to the protocol where ssh2 1.17 does not, and serves what it leaves unanswered:
 *
 * - a channel whose packets may hold nothing would make ssh2 send packets without end, within one call;
 * - what is sent during a key exchange waits in ssh2 without a bound, for a client that never finishes it;
 * - a session that is closed before a program was started in it is neither answered nor forgotten;
 * - requests that come after the start of a program, or after the end of the client's input, are not answered
 *   (RFC 4254, 5.4), and windows, signals and OpenSSH's "eow" among them not delivered;
 * - terminal modes are read one byte too late;
 * - a forward can be refused with one reason alone.
 */
export class ConnectionGuard {
  readonly #options: ConnectionGuardOptions;
  readonly #connection: Connection;
  readonly #idle = new Set<() => void>();
  #cancel: (() => void) | undefined;
  #modes: Readonly<Record<string, number>> = {};

  constructor(client: ServerConnection, options: ConnectionGuardOptions) {
    this.#options = options;
    this.#connection = client as unknown as Connection;
    guards.set(this.#connection._protocol, this);
    client.on('handshake', () => this.#exchanged());
  }

  /** The modes of the terminal that the client is asking for at this moment. */
  get modes(): Readonly<Record<string, number>> {
    return this.#modes;
  }

  /** Whether keys are being exchanged: what is sent now waits in memory. */
  get exchanging(): boolean {
    return this.#connection._protocol._kexinit !== undefined;
  }

  /** Calls `listener` once, at the end of the key exchange; the function that it returns takes it back. */
  onExchanged(listener: () => void): () => void {
    this.#idle.add(listener);
    return () => this.#idle.delete(listener);
  }

  /** The connection has gone. */
  close(): void {
    this.#cancel?.();
    this.#idle.clear();
  }

  /** True when the message has been dealt with. */
  take(type: number, payload: Buffer): boolean {
    switch (type) {
      case KEXINIT:
        this.#cancel ??= this.#options.clock.after(KEY_EXCHANGE_MS, () =>
          this.#options.drop('it did not finish its key exchange within 10 s'),
        );
        return false;
      case CHANNEL_OPEN:
        return this.#connection.authenticated && this.#open(new PacketReader(payload, 1));
      case CHANNEL_CLOSE:
        return this.#close(new PacketReader(payload, 1));
      case CHANNEL_REQUEST:
        return this.#request(new PacketReader(payload, 1));
      default:
        return false;
    }
  }

  #exchanged(): void {
    this.#cancel?.();
    this.#cancel = undefined;
    for (const listener of [...this.#idle]) listener();
    this.#idle.clear();
  }

  #open(reader: PacketReader): boolean {
    const type = reader.text();
    const [sender, , largest] = [reader.uint32(), reader.uint32(), reader.uint32()];
    if (sender === undefined || largest === undefined) return false;
    const refuse = ({ code, reason }: OpenRefusal): boolean => {
      this.#connection._protocol.channelOpenFail(sender, code, reason);
      return true;
    };
    if (largest < MIN_PACKET)
      return refuse({ code: RESOURCE_SHORTAGE, reason: `packets of ${largest} bytes are too small` });
    const wanted = wantedOf(type, reader);
    const refusal = wanted && this.#options.judge(wanted);
    return refusal !== undefined && refuse(refusal);
  }

  /** Of a session in which nothing was started: ssh2 knows no channel of it that it could close. */
  #close(reader: PacketReader): boolean {
    const session = this.#session(reader.uint32());
    if (session === undefined || session._channel !== undefined) return false;
    const { incoming, outgoing } = session._chanInfo;
    session._ending = true;
    this.#connection._chanMgr.remove(incoming.id);
    this.#connection._protocol.channelClose(outgoing.id);
    session.emit('close');
    return true;
  }

  #request(reader: PacketReader): boolean {
    const session = this.#session(reader.uint32());
    const [name, answered] = [reader.text(), reader.bool()];
    if (answered === undefined || session === undefined) return false;
    if (session._channel === undefined && !session._ending) {
      if (name === 'pty-req') this.#modes = modesOf(reader);
      return false;
    }
    const { outgoing } = session._chanInfo;
    if (outgoing.state !== 'open' && outgoing.state !== 'eof') return true; // nothing may follow our close
    const served = name !== undefined && serve(session, name, reader);
    if (answered && served) this.#connection._protocol.channelSuccess(outgoing.id);
    else if (answered) this.#connection._protocol.channelFailure(outgoing.id);
    return true;
  }

  #session(id: number | undefined): SessionState | undefined {
    const found = id === undefined ? undefined : this.#connection._chanMgr.get(id);
    return typeof found === 'object' && found !== null && '_chanInfo' in found
      ? (found as SessionState)
      : undefined;
  }
}

/** What is none of these, or not whole, is left to ssh2, which refuses it. */
function wantedOf(type: string | undefined, reader: PacketReader): WantedChannel | undefined {
  if (type === 'session') return { kind: 'session' };
  const [host, port] = [reader.text(), reader.uint32()];
  if (type !== 'direct-tcpip' || host === undefined || port === undefined) return undefined;
  return { kind: 'forward', host, port };
}

/** The terminal modes of a "pty-req" (RFC 4254, 6.2), behind its first three fields; none when it is not whole. */
function modesOf(reader: PacketReader): Readonly<Record<string, number>> {
  reader.string();
  for (let n = 0; n < 4; n++) reader.uint32();
  const modes = reader.string();
  return modes === undefined ? {} : parseTerminalModes(modes);
}

/** Serves what may come while a program runs; false when it is none of that. */
function serve(session: SessionState, name: string, reader: PacketReader): boolean {
  switch (name) {
    case 'window-change': {
      const [cols, rows, width, height] = [
        reader.uint32(),
        reader.uint32(),
        reader.uint32(),
        reader.uint32(),
      ];
      return (
        height !== undefined &&
        session.emit('window-change', undefined, undefined, { cols, rows, width, height })
      );
    }
    case 'signal': {
      const signal = reader.text();
      return signal !== undefined && session.emit('signal', undefined, undefined, { name: signal });
    }
    // Of OpenSSH's clients (its PROTOCOL, 2.1): nobody reads the output any more.
    case 'eow@openssh.com':
      return session.emit('eow');
    default:
      return false;
  }
}

const guards = new WeakMap<object, ConnectionGuard>();

/** What handles a message of a connection, in ssh2: by message number, for all connections of the process. */
type Handlers = Record<number, (protocol: object, payload: Buffer) => unknown>;

/** Lets the guard of each connection see these messages before ssh2 does. Call it once for ssh2's table of handlers. */
export function guardMessages(handlers: Handlers): void {
  for (const type of [KEXINIT, CHANNEL_OPEN, CHANNEL_CLOSE, CHANNEL_REQUEST]) {
    const original = handlers[type];
    if (original === undefined) continue;
    handlers[type] = (protocol, payload) =>
      guards.get(protocol)?.take(type, payload) === true ? undefined : original(protocol, payload);
  }
}
