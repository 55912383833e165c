import type { CallerIdentity } from '../../policy/intent.ts';
import { err, ok, type Result } from '../../result.ts';
import { ExecutableHashes } from './executable-hash.ts';
import { readAncestors, readCommandLine, readProcess } from './process-table.ts';
import { SocketOwners } from './socket-owners.ts';
import { type Connection, clientInode } from './socket-table.ts';

export interface CallerOptions {
  /** Where proc is mounted: `/proc`. */
  readonly proc: string;
  /** Processes that are never the caller: the supervisor, init and the anchor. */
  readonly excluded: ReadonlySet<number>;
  /** Processes of ours that hide while they become the workload's. */
  readonly hiding?: ReadonlySet<number>;
  /** Waits so many milliseconds. */
  readonly pause: (ms: number) => Promise<void>;
  /** Finds the inode of a client's socket faster than the tables of /proc, or not at all. */
  readonly findSocket?: (connection: Connection) => Promise<number | undefined>;
  /** The workload's user id, where the supervisor has another: a process of ours cannot hold its sockets. */
  readonly workloadUid?: number;
}

/**
 * A session is hidden for less than a millisecond between fork(2) and execve(2), and for as long as its processor is
 * somebody else's meanwhile. After this many looks, and 127 ms, whoever still hides means to.
 */
const RETRIES = 7;
const FIRST_RETRY_MS = 1;

/** Tells which process is behind a connection to one of our listeners. */
export class CallerIdentification {
  readonly #options: CallerOptions;
  readonly #hashes = new ExecutableHashes();
  readonly #owners: SocketOwners;

  constructor(options: CallerOptions) {
    this.#options = options;
    this.#owners = new SocketOwners(options);
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
    let found = await this.#owners.find(inode);
    // A session that is just being started hides itself for a moment; so look again before denying.
    for (let tries = 0; found.kind === 'hidden' && tries < RETRIES; tries++) {
      await this.#options.pause(FIRST_RETRY_MS << tries);
      found = await this.#owners.find(inode);
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
}

/** A forked child of the caller has the caller itself as one more ancestor; that is no disagreement. */
function agree(first: readonly string[], second: readonly string[], executable: string): boolean {
  const strip = (ancestors: readonly string[]): string =>
    ancestors.filter((path) => path !== executable).join('\n');
  return strip(first) === strip(second);
}
