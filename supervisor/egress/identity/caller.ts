import type { CallerIdentity } from '../../policy/intent.ts';
import { err, ok, type Result } from '../../result.ts';
import { ExecutableHashes } from './executable-hash.ts';
import {
  holdsSocket,
  listProcesses,
  type ProcessFacts,
  readAncestors,
  readCommandLine,
  readProcess,
  realUser,
} from './process-table.ts';
import { type Connection, clientInode } from './socket-table.ts';

export interface CallerOptions {
  /** Where proc is mounted: `/proc`. */
  readonly proc: string;
  /** Processes that are never the caller: the supervisor, init and the anchor. */
  readonly excluded: ReadonlySet<number>;
  /** Waits so many milliseconds. */
  readonly pause: (ms: number) => Promise<void>;
  /** Finds the inode of a client's socket faster than the tables of /proc, or not at all. */
  readonly findSocket?: (connection: Connection) => Promise<number | undefined>;
  /** The workload's user id, where the supervisor has another: a process of ours cannot hold its sockets. */
  readonly workloadUid?: number;
}

/** Who holds a socket, or why that cannot be told. */
type Owners =
  | { readonly kind: 'found'; readonly owners: readonly ProcessFacts[] }
  | { readonly kind: 'hidden'; readonly reason: string };

/** A session is hidden for less than a millisecond between fork(2) and execve(2). */
const RETRIES = 4;
const RETRY_MS = 3;

/** Tells which process is behind a connection to one of our listeners. */
export class CallerIdentification {
  readonly #options: CallerOptions;
  readonly #hashes = new ExecutableHashes();

  constructor(options: CallerOptions) {
    this.#options = options;
  }

  /**
   * Identifies the caller, or says why it cannot be: then the connection must be denied. `mainPid` is where
   * the chain of ancestors ends. A socket that several processes hold counts only if all of them run the
   * same executable with the same ancestors.
   */
  async identify(connection: Connection, mainPid: number): Promise<Result<CallerIdentity, string>> {
    const { proc, findSocket } = this.#options;
    // The tables of the workload's network namespace, which need not be that of this thread.
    const inode = (await findSocket?.(connection)) ?? clientInode(`${proc}/${mainPid}`, connection);
    if (inode === undefined) return err('the socket of the caller is not in the TCP tables');
    let found = this.#owners(inode);
    // A session that is just being started hides itself for a moment; so look again before denying.
    for (let tries = 0; found.kind === 'hidden' && tries < RETRIES; tries++) {
      await this.#options.pause(RETRY_MS);
      found = this.#owners(inode);
    }
    if (found.kind !== 'found') return err(found.reason);
    const { owners } = found;
    if (owners.length === 0) return err('no process that can be read holds the socket of the caller');
    let identity: CallerIdentity | undefined;
    for (const owner of owners) {
      const ancestors = readAncestors(proc, owner, mainPid);
      const hashed = await this.#hashes.check(proc, owner.pid, owner.executable);
      if (!hashed.ok) return hashed;
      if (identity === undefined) {
        const cmdline = readCommandLine(proc, owner.pid);
        identity = { pid: owner.pid, binary: owner.executable, ancestors, cmdline, sha256: hashed.value };
      } else if (
        identity.binary !== owner.executable ||
        !agree(identity.ancestors, ancestors, owner.executable)
      ) {
        return err(`different programs share the socket: ${identity.binary} and ${owner.executable}`);
      }
      // The pid may have been reused, or the process replaced by execve(2), while we looked.
      const again = readProcess(proc, owner.pid);
      if (again?.startTime !== owner.startTime || again.executable !== owner.executable)
        return err('the caller ended or changed while it was being identified');
    }
    return identity === undefined ? err('the caller is unknown') : ok(identity);
  }

  /** Who runs as another user was not started by the workload, which cannot change its own. */
  #isOurs(pid: number): boolean {
    const { proc, workloadUid } = this.#options;
    return workloadUid !== undefined && realUser(proc, pid) === 0 && workloadUid !== 0;
  }

  /** One pass over all processes: one that hides its descriptors may share the socket, so it denies. */
  #owners(inode: number): Owners {
    const { proc, excluded } = this.#options;
    const owners: ProcessFacts[] = [];
    for (const pid of listProcesses(proc)) {
      if (excluded.has(pid)) continue;
      const holding = holdsSocket(proc, pid, inode);
      if (holding === 'not') continue;
      if (holding === 'unreadable' && this.#isOurs(pid)) continue;
      if (holding === 'unreadable')
        return {
          kind: 'hidden',
          reason: `process ${pid} hides its descriptors and may share the socket of the caller`,
        };
      const facts = readProcess(proc, pid);
      if (facts === undefined)
        return { kind: 'hidden', reason: `process ${pid} holds the socket, but what it runs cannot be read` };
      owners.push(facts);
    }
    return { kind: 'found', owners };
  }
}

/** A forked child of the caller has the caller itself as one more ancestor; that is no disagreement. */
function agree(first: readonly string[], second: readonly string[], executable: string): boolean {
  const strip = (ancestors: readonly string[]): string =>
    ancestors.filter((path) => path !== executable).join('\n');
  return strip(first) === strip(second);
}
