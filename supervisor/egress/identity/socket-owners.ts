import { heldSockets, listProcesses, type ProcessFacts, readProcess, realUser } from './process-table.ts';

/** Who holds a socket, or why that cannot be told. */
export type Owners =
  | { readonly kind: 'found'; readonly owners: readonly ProcessFacts[] }
  | { readonly kind: 'hidden'; readonly reason: string };

export interface SocketOwnersOptions {
  /** Where proc is mounted: `/proc`. */
  readonly proc: string;
  /** Processes that are never the caller. */
  readonly excluded: ReadonlySet<number>;
  /** Processes of ours that hide while they are our own program, and hold no socket of the workload's then. */
  readonly hiding?: ReadonlySet<number>;
  /** The workload's user id, where the supervisor has another: a process of ours cannot hold its sockets. */
  readonly workloadUid?: number;
}

/**
 * Finds the processes that hold a socket: all of them, for it may have been inherited or passed on. That takes a look at every
 * descriptor there is, so one look serves everybody who asks until it begins: many connections at once cost as
 * much as one. What is asked for later waits for the next look, for an answer must not be older than its question.
 */
export class SocketOwners {
  readonly #options: SocketOwnersOptions;
  #asked: Map<number, ((owners: Owners) => void)[]> | undefined;

  constructor(options: SocketOwnersOptions) {
    this.#options = options;
  }

  find(inode: number): Promise<Owners> {
    return new Promise((resolve) => {
      if (this.#asked === undefined) {
        this.#asked = new Map();
        setImmediate(() => this.#look());
      }
      const waiting = this.#asked.get(inode);
      if (waiting === undefined) this.#asked.set(inode, [resolve]);
      else waiting.push(resolve);
    });
  }

  #look(): void {
    const asked = this.#asked ?? new Map();
    this.#asked = undefined;
    const found = this.#ownersOf([...asked.keys()]);
    for (const [inode, waiting] of asked)
      for (const resolve of waiting) resolve(found.get(inode) ?? { kind: 'found', owners: [] });
  }

  /** One pass over all processes: one that hides its descriptors may share a socket, so it denies. */
  #ownersOf(inodes: readonly number[]): ReadonlyMap<number, Owners> {
    const { proc, excluded } = this.#options;
    const wanted = new Map(inodes.map((inode) => [`socket:[${inode}]`, inode]));
    const result = new Map<
      number,
      { kind: 'found'; owners: ProcessFacts[] } | Extract<Owners, { kind: 'hidden' }>
    >(inodes.map((inode) => [inode, { kind: 'found', owners: [] }]));
    const hide = (inode: number, reason: string): void => {
      if (result.get(inode)?.kind === 'found') result.set(inode, { kind: 'hidden', reason });
    };
    for (const pid of listProcesses(proc)) {
      if (excluded.has(pid)) continue;
      const { held, hidden } = heldSockets(proc, pid, wanted);
      for (const inode of held) {
        const facts = readProcess(proc, pid);
        const so = result.get(inode);
        if (facts === undefined)
          hide(inode, `process ${pid} holds the socket, but what it runs cannot be read`);
        else if (so?.kind === 'found') so.owners.push(facts);
      }
      if (!hidden || this.#isOurs(pid)) continue;
      for (const inode of inodes)
        if (!held.has(inode))
          hide(inode, `process ${pid} hides its descriptors and may share the socket of the caller`);
    }
    return result;
  }

  /** Who runs as another user was not started by the workload, which cannot change its own; the others we have started. */
  #isOurs(pid: number): boolean {
    const { proc, workloadUid, hiding } = this.#options;
    if (hiding?.has(pid) === true) return true;
    return workloadUid !== undefined && realUser(proc, pid) === 0 && workloadUid !== 0;
  }
}
