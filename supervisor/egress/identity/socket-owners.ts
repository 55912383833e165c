import { readdirSync, readlinkSync } from 'node:fs';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { readStat } from './process.ts';

/** Who holds a descriptor of a socket, and who may. */
export interface SocketOwners {
  readonly pids: readonly number[];
  /** Live processes whose descriptors the kernel hides from us; any of them may hold the socket too. */
  readonly hidden: readonly number[];
  /** The scan stopped at its bound. */
  readonly incomplete: boolean;
}

/** Links read in one scan at most: 1024 processes of 256 descriptors. */
const MAX_LINKS = 262_144;
/** How long a scan keeps the event loop before it yields. */
const TURN_MS = 2;

/**
 * Finds the processes that hold sockets, by their descriptors in /proc. One scan runs at a time and
 * answers everybody who asked before it began, so a burst of connections costs two scans, not one
 * each. Every thread is looked at: clone(2) without CLONE_FILES gives a thread a table of its own,
 * and the leader's directory is empty once the leader has ended (proc_pid_task(5)).
 */
export class SocketOwnerScanner {
  readonly #proc: string;
  readonly #excluded: ReadonlySet<number>;
  #waiting = new Map<string, ((owners: SocketOwners) => void)[]>();
  #running = false;

  /** `excluded` are the supervisor and its init: they hold sockets only on behalf of others. */
  constructor(proc: string, excluded: Iterable<number>) {
    this.#proc = proc;
    this.#excluded = new Set(excluded);
  }

  /** The owners of the socket with this inode, as seen by a scan that begins after the call. */
  find(inode: string): Promise<SocketOwners> {
    return new Promise((resolve) => {
      const waiters = this.#waiting.get(inode);
      if (waiters === undefined) this.#waiting.set(inode, [resolve]);
      else waiters.push(resolve);
      if (!this.#running) void this.#run();
    });
  }

  async #run(): Promise<void> {
    this.#running = true;
    while (this.#waiting.size > 0) {
      const batch = this.#waiting;
      this.#waiting = new Map();
      const { owners, hidden, incomplete } = await this.#scan(new Set(batch.keys()));
      for (const [inode, waiters] of batch) {
        const found: SocketOwners = { pids: owners.get(inode) ?? [], hidden, incomplete };
        for (const resolve of waiters) resolve(found);
      }
    }
    this.#running = false;
  }

  async #scan(
    inodes: ReadonlySet<string>,
  ): Promise<{ owners: Map<string, number[]>; hidden: number[]; incomplete: boolean }> {
    const owners = new Map<string, number[]>();
    const hidden: number[] = [];
    let links = 0;
    let turn = performance.now();
    for (const entry of list(this.#proc) ?? []) {
      const pid = Number(entry);
      if (!Number.isInteger(pid) || this.#excluded.has(pid)) continue;
      let unreadable = false;
      const held = new Set<string>();
      for (const task of list(`${this.#proc}/${pid}/task`) ?? []) {
        const directory = `${this.#proc}/${pid}/task/${task}/fd`;
        const descriptors = list(directory);
        if (descriptors === undefined) {
          unreadable ||= isAlive(this.#proc, pid, task);
          continue;
        }
        for (const descriptor of descriptors) {
          const inode = socketInode(`${directory}/${descriptor}`);
          if (inode !== undefined && inodes.has(inode)) held.add(inode);
        }
        links += descriptors.length;
        if (links > MAX_LINKS) return { owners, hidden, incomplete: true };
        if (performance.now() - turn > TURN_MS) {
          await nextTurn();
          turn = performance.now();
        }
      }
      if (unreadable) hidden.push(pid);
      for (const inode of held) owners.set(inode, [...(owners.get(inode) ?? []), pid]);
    }
    return { owners, hidden, incomplete: false };
  }
}

function list(directory: string): readonly string[] | undefined {
  try {
    return readdirSync(directory);
  } catch {
    return undefined;
  }
}

function socketInode(link: string): string | undefined {
  try {
    const target = readlinkSync(link);
    return target.startsWith('socket:[') ? target.slice(8, -1) : undefined;
  } catch {
    // Closed since the directory was read.
    return undefined;
  }
}

/** A zombie has no descriptors, and the kernel shows its directory to root only. */
function isAlive(proc: string, pid: number, task: string): boolean {
  const stat = readStat(`${proc}/${pid}/task`, Number(task));
  return stat !== undefined && stat.state !== 'Z' && stat.state !== 'X';
}
