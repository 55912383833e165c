/** Bounds of contract.md, 8.2. */
const SLOTS = 32;
const WAITING = 64;
export const ASSEMBLY_IDLE_MS = 30_000;
export const ASSEMBLY_TOTAL_MS = 120_000;

export interface AssemblyOptions {
  readonly slots?: number;
  readonly waiting?: number;
  /** Between two pieces of a message, milliseconds. */
  readonly idleMs?: number;
  /** From its first piece to its last. */
  readonly totalMs?: number;
}

/**
 * Bounds what the unfinished messages of all WebSockets together hold: so many large ones at a time, and so many clients that
 * wait for one of them to be finished.
 */
export class MessageAssembly {
  readonly idleMs: number;
  readonly totalMs: number;
  #free: number;
  readonly #maxWaiting: number;
  readonly #waiting: (() => void)[] = [];

  constructor({ slots = SLOTS, waiting = WAITING, idleMs, totalMs }: AssemblyOptions = {}) {
    this.#free = slots;
    this.#maxWaiting = waiting;
    this.idleMs = idleMs ?? ASSEMBLY_IDLE_MS;
    this.totalMs = totalMs ?? ASSEMBLY_TOTAL_MS;
  }

  /** A slot, as soon as there is one; what it settles with gives it back. Undefined when too many wait already. */
  async take(): Promise<(() => void) | undefined> {
    if (this.#free === 0) {
      if (this.#waiting.length >= this.#maxWaiting) return undefined;
      await new Promise<void>((resolve) => void this.#waiting.push(resolve));
    } else this.#free -= 1;
    let held = true;
    return () => {
      if (!held) return;
      held = false;
      const next = this.#waiting.shift();
      if (next === undefined) this.#free += 1;
      else next();
    };
  }
}

/** Ends a message that is not finished in time. */
export class AssemblyWatch {
  readonly #assembly: MessageAssembly;
  readonly #onLate: (reason: string) => void;
  #idle: NodeJS.Timeout | undefined;
  #total: NodeJS.Timeout | undefined;

  constructor(assembly: MessageAssembly, onLate: (reason: string) => void) {
    this.#assembly = assembly;
    this.#onLate = onLate;
  }

  /** A piece has come, and more must. */
  unfinished(): void {
    const { idleMs, totalMs } = this.#assembly;
    const late = (what: string) => (): void => {
      this.finished();
      this.#onLate(`a message was not finished: ${what}`);
    };
    if (this.#idle === undefined) {
      this.#idle = setTimeout(late(`nothing came for ${idleMs / 1000} s`), idleMs).unref();
      this.#total = setTimeout(late(`it took more than ${totalMs / 1000} s`), totalMs).unref();
    } else this.#idle.refresh();
  }

  finished(): void {
    clearTimeout(this.#idle);
    clearTimeout(this.#total);
    this.#idle = undefined;
    this.#total = undefined;
  }
}
