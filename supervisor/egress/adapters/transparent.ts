import type { Server, Socket } from 'node:net';
import { ConnectionSlots } from '../connection-slots.ts';
import { firstBytes } from '../first-bytes.ts';
import type { Listen } from '../listen.ts';
import { answerText, type ProxyAnswer } from '../responses.ts';
import type { WayOut } from './way-out.ts';

export interface TransparentOptions {
  readonly listen: Listen;
  readonly wayOut: WayOut;
  /** The name that a synthetic address stands for. */
  readonly nameOf: (address: string) => string | undefined;
  /** An address cannot be listened on. */
  readonly onUnavailable: (address: string, port: number, reason: string) => void;
  readonly onTooMany: () => void;
  /** Too many listeners are open: closes an address that nobody uses, if there is one. */
  readonly makeRoom: () => boolean;
  /** Listeners at once, 1024 by default: each is a descriptor. */
  readonly maxListeners?: number;
  /** Connections at once, 1024 by default; one without a slot is reset. */
  readonly slots?: ConnectionSlots;
}

const MAX_LISTENERS = 1024;
/** How long a denied client has to show that it speaks HTTP, and so can be told why. */
const TELL_MS = 250;
const HTTP = /^[A-Z]{3,16} \S{1,64}/;

/** A port that listens, or is about to. */
interface Slot {
  /** Whether it came to listen. */
  ready: Promise<boolean>;
  server: Server | undefined;
  wanted: boolean;
}

/** The listeners of one synthetic address, by port; and how many connections came by it. */
interface Place {
  readonly ports: Map<number, Slot>;
  connections: number;
}

/**
 * Listens on synthetic addresses for clients that know nothing of a proxy: the address that one connects to tells the
 * name it wants. From there on the connection is like any other: identified, decided, dialled and carried.
 */
export class TransparentListeners {
  readonly #options: TransparentOptions;
  readonly #places = new Map<string, Place>();
  readonly #sockets = new Set<Socket>();
  readonly #slots: ConnectionSlots;
  #listeners = 0;

  constructor(options: TransparentOptions) {
    this.#options = options;
    this.#slots = options.slots ?? new ConnectionSlots(1024);
  }

  get openConnections(): number {
    return this.#sockets.size;
  }

  isBusy(address: string): boolean {
    return (this.#places.get(address)?.connections ?? 0) > 0;
  }

  /**
   * Makes an address listen at exactly these ports. Resolves with whether it does at one of them at least; what could not be
   * listened on is tried again the next time.
   */
  async set(address: string, ports: readonly number[]): Promise<boolean> {
    const place = this.#places.get(address) ?? { ports: new Map(), connections: 0 };
    this.#places.set(address, place);
    for (const port of [...place.ports.keys()]) if (!ports.includes(port)) this.#closePort(place, port);
    for (const port of ports)
      if (!place.ports.has(port)) place.ports.set(port, this.#listen(address, place, port));
    const ready = await Promise.all([...place.ports.values()].map((slot) => slot.ready));
    return ready.includes(true);
  }

  /** Closes an address's listeners. Its connections go on. */
  close(address: string): void {
    const place = this.#places.get(address);
    if (place === undefined) return;
    for (const port of [...place.ports.keys()]) this.#closePort(place, port);
    this.#places.delete(address);
  }

  stop(): void {
    for (const address of [...this.#places.keys()]) this.close(address);
    for (const socket of this.#sockets) socket.destroy();
  }

  #closePort(place: Place, port: number): void {
    const slot = place.ports.get(port);
    if (slot === undefined) return;
    place.ports.delete(port);
    slot.wanted = false;
    this.#release(slot);
  }

  #release(slot: Slot): void {
    if (slot.server === undefined) return;
    slot.server.close(); // its connections go on
    slot.server = undefined;
    this.#listeners -= 1;
  }

  #listen(address: string, place: Place, port: number): Slot {
    const slot: Slot = { ready: Promise.resolve(false), server: undefined, wanted: true };
    slot.ready = this.#fill(slot, address, place, port).then((reason) => {
      if (reason === undefined) return true;
      if (place.ports.get(port) === slot) place.ports.delete(port);
      this.#options.onUnavailable(address, port, reason);
      return false;
    });
    return slot;
  }

  /** Returns why not, when it cannot listen. */
  async #fill(slot: Slot, address: string, place: Place, port: number): Promise<string | undefined> {
    const { listen, makeRoom, maxListeners = MAX_LISTENERS } = this.#options;
    while (this.#listeners >= maxListeners) if (!makeRoom()) return `${maxListeners} listeners are open`;
    this.#listeners += 1;
    const made = await listen(address, port);
    if (!made.ok) {
      this.#listeners -= 1;
      return made.error;
    }
    const server = made.value;
    server.on('connection', (socket) => this.#accept(socket, address, place, port));
    server.on('error', () => undefined); // running out of descriptors passes
    slot.server = server;
    if (!slot.wanted) this.#release(slot);
    return undefined;
  }

  #accept(socket: Socket, address: string, place: Place, port: number): void {
    const { onTooMany, nameOf } = this.#options;
    socket.on('error', () => undefined); // 'close' follows
    const host = nameOf(address);
    const slot = host === undefined ? undefined : this.#slots.take(socket);
    if (host === undefined || slot === undefined) {
      if (host !== undefined) onTooMany();
      socket.resetAndDestroy();
      return;
    }
    slot.busy(); // the address that it came to says what it wants
    socket.setNoDelay(true);
    socket.allowHalfOpen = true;
    this.#sockets.add(socket);
    place.connections += 1;
    socket.once('close', () => {
      this.#sockets.delete(socket);
      place.connections -= 1;
    });
    this.#open(socket, host, port).catch(() => socket.resetAndDestroy());
  }

  async #open(socket: Socket, host: string, port: number): Promise<void> {
    const { wayOut } = this.#options;
    const granted = await wayOut.open({ host, port, via: 'transparent' }, socket);
    if (!granted.ok) return refuse(socket, granted.error);
    if (socket.destroyed) granted.value.abandon();
    else granted.value.carry(socket, Buffer.alloc(0));
  }
}

/** Tells a client that speaks HTTP why; any other one gets a reset, as from a server that wants no connection. */
async function refuse(socket: Socket, answer: ProxyAnswer): Promise<void> {
  const first = await firstBytes(socket, TELL_MS);
  if (socket.destroyed) return;
  if (first === undefined || !HTTP.test(first.toString('latin1', 0, 80)))
    return void socket.resetAndDestroy();
  socket.resume(); // unread bytes would turn our end into a reset
  socket.end(answerText(answer));
  socket.setTimeout(TELL_MS * 4, () => socket.destroy());
}
