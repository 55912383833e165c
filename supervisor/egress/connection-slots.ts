import type { Socket } from 'node:net';

/** Left over for everything but the workload's connections: gateway, buffer, listeners, /proc. */
const RESERVED_DESCRIPTORS = 512;
const MIN_SLOTS = 64;
/** A connection costs some 30 KiB, so all of them together cost some 130 MiB. */
const MAX_SLOTS = 4096;

/** How many connections there may be where a process may open so many descriptors: each takes two. */
export const slotsFor = (descriptors: number): number =>
  Math.min(MAX_SLOTS, Math.max(MIN_SLOTS, Math.floor((descriptors - RESERVED_DESCRIPTORS) / 2)));

/** The soft limit of open files in the text of /proc/self/limits; `unlimited` is as many as anybody needs. */
export function openFilesLimit(limits: string): number {
  const soft = /^Max open files\s+(\S+)/m.exec(limits)?.[1];
  return soft === undefined || !/^\d+$/.test(soft) ? Number.MAX_SAFE_INTEGER : Number(soft);
}

/** The place of one connection. */
export interface Slot {
  /** The client has said what it wants: from now on it does not go for another one's sake. */
  busy(): void;
}

/** Each stage on a connection's way wants to hear of its end; a message of a plain WebSocket passes eleven. */
const MAX_LISTENERS = 16;

/**
 * Bounds the workload's connections, whatever adapter they come by. When all slots are taken, the client that has been silent
 * for longest goes; where every one has said what it wants, the new one is turned away.
 */
export class ConnectionSlots {
  readonly #max: number;
  readonly #taken = new Set<Socket>();
  /** In the order in which they came. */
  readonly #silent = new Set<Socket>();

  constructor(max: number) {
    this.#max = max;
  }

  get max(): number {
    return this.#max;
  }

  get size(): number {
    return this.#taken.size;
  }

  /** A slot until the socket closes; undefined when there is none. */
  take(socket: Socket): Slot | undefined {
    if (this.#taken.size >= this.#max) {
      const [oldest] = this.#silent;
      if (oldest === undefined) return undefined;
      this.#leave(oldest);
      oldest.resetAndDestroy();
    }
    this.#taken.add(socket);
    this.#silent.add(socket);
    socket.setMaxListeners(MAX_LISTENERS);
    socket.once('close', () => this.#leave(socket));
    return { busy: () => void this.#silent.delete(socket) };
  }

  #leave(socket: Socket): void {
    this.#taken.delete(socket);
    this.#silent.delete(socket);
  }
}
