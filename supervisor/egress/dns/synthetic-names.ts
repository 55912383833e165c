/** 127.64.0.0/10: loopback that nobody else uses, and room for four million names. */
const BASE = (127 << 24) | (64 << 16);
const SIZE = 1 << 22;
/** How many names have an address at once. */
export const MAX_NAMES = 1024;

export interface SyntheticNamesOptions {
  /** Milliseconds of a monotonic clock. */
  readonly now: () => number;
  /** For so long after it was last asked for a name keeps its address whatever comes. */
  readonly keepMs: number;
  /** Whether connections to this address are open: then it stays as well. */
  readonly isBusy: (address: string) => boolean;
  /** A name has lost its address. */
  readonly onDropped: (address: string) => void;
  /** {@link MAX_NAMES} by default. */
  readonly maxNames?: number;
}

interface Entry {
  readonly name: string;
  readonly address: string;
  askedAt: number;
}

/**
 * Which name each synthetic address stands for. A name keeps its address while it is known here. An address that was
 * given up is given out again only after all others, so that a client with an old answer meets nobody rather
 * than another host.
 */
export class SyntheticNames {
  readonly #options: SyntheticNamesOptions;
  /** In the order in which they were last asked for. */
  readonly #byName = new Map<string, Entry>();
  readonly #byAddress = new Map<string, Entry>();
  #next = 1;

  constructor(options: SyntheticNamesOptions) {
    this.#options = options;
  }

  get size(): number {
    return this.#byName.size;
  }

  /** The name's address, a new one if it has none; undefined when all are in use. */
  assign(name: string): string | undefined {
    const { now, maxNames = MAX_NAMES } = this.#options;
    const known = this.#byName.get(name);
    if (known !== undefined) {
      known.askedAt = now();
      this.#byName.delete(name);
      this.#byName.set(name, known);
      return known.address;
    }
    if (this.#byName.size >= maxNames && !this.evict()) return undefined;
    const entry: Entry = { name, address: this.#free(), askedAt: now() };
    this.#byName.set(name, entry);
    this.#byAddress.set(entry.address, entry);
    return entry.address;
  }

  nameOf(address: string): string | undefined {
    return this.#byAddress.get(address)?.name;
  }

  /** Takes the address from a name. */
  drop(name: string): void {
    const entry = this.#byName.get(name);
    if (entry === undefined) return;
    this.#byName.delete(name);
    this.#byAddress.delete(entry.address);
    this.#options.onDropped(entry.address);
  }

  entries(): readonly { readonly name: string; readonly address: string }[] {
    return [...this.#byName.values()];
  }

  /** Gives up the name that was asked for the longest ago and that nobody can be using; false when there is none. */
  evict(): boolean {
    const { now, keepMs, isBusy } = this.#options;
    const before = now() - keepMs;
    for (const { name, address, askedAt } of this.#byName.values()) {
      if (askedAt > before) return false; // all that follow were asked for later
      if (isBusy(address)) continue;
      this.drop(name);
      return true;
    }
    return false;
  }

  #free(): string {
    let address: string;
    do {
      address = dotted(BASE + this.#next);
      this.#next = this.#next + 1 < SIZE ? this.#next + 1 : 1;
    } while (this.#byAddress.has(address));
    return address;
  }
}

const dotted = (number: number): string =>
  [number >>> 24, (number >>> 16) & 255, (number >>> 8) & 255, number & 255].join('.');
