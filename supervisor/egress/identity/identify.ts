import { existsSync } from 'node:fs';
import type { Clock } from '../../clock.ts';
import type { CallerIdentity } from '../../policy/intent.ts';
import { err, ok, type Result } from '../../result.ts';
import { ExecutableIntegrity } from './integrity.ts';
import { type Executable, readCommandLine, readExecutable, readStat } from './process.ts';
import { SocketOwnerScanner } from './socket-owners.ts';
import { type ClientConnection, findSocketInode } from './tcp-table.ts';

/** Names the process at the other end of a connection, or says why that cannot be known. Never rejects. */
export type IdentifyCaller = (connection: ClientConnection) => Promise<Result<CallerIdentity, string>>;

export interface IdentityOptions {
  /** The proc file system; `/proc` but for tests. */
  readonly proc: string;
  /** Undefined until the main process exists; until then nobody is identified. */
  readonly mainPid: () => number | undefined;
  /** The supervisor and its init. */
  readonly supervisorPids: readonly number[];
  readonly clock: Clock;
}

const MAX_ANCESTORS = 64;
const MAX_DEPTH = 1024;
/** A process that forks, execs or ends while we look gives a torn picture; a second look settles it. */
const ATTEMPTS = 3;
const RETRY_MS = 20;

/**
 * Identity by /proc (contract.md, 7.5): the peer's socket, the processes that hold it, their
 * executables and ancestors. Everything is read again at the end and must be unchanged, so that a
 * reused pid or an execve in between is noticed. When processes disagree, hide, or vanish, the
 * caller stays unknown, and unknown means denied.
 */
export function createIdentifier(options: IdentityOptions): IdentifyCaller {
  const scanner = new SocketOwnerScanner(options.proc, options.supervisorPids);
  const integrity = new ExecutableIntegrity(options.proc);
  return async (connection) => {
    for (let attempt = 1; ; attempt += 1) {
      const result = await identifyOnce(options, scanner, integrity, connection);
      if (result.ok || !result.error.transient || attempt === ATTEMPTS) {
        return result.ok ? result : err(result.error.reason);
      }
      await new Promise<void>((resolve) => {
        options.clock.after(RETRY_MS, resolve);
      });
    }
  };
}

interface Failure {
  readonly reason: string;
  /** Looking again may succeed. */
  readonly transient: boolean;
}

const final = (reason: string): Result<never, Failure> => err({ reason, transient: false });
const transient = (reason: string): Result<never, Failure> => err({ reason, transient: true });

async function identifyOnce(
  { proc, mainPid, supervisorPids, clock }: IdentityOptions,
  scanner: SocketOwnerScanner,
  integrity: ExecutableIntegrity,
  connection: ClientConnection,
): Promise<Result<CallerIdentity, Failure>> {
  const main = mainPid();
  if (main === undefined) return final('the main process has not been started');
  // The main process's tables are those of the workload's network namespace. Once it is a zombie
  // they are gone, and only then ours are looked at.
  const own = `${proc}/${main}/net`;
  const inode = await findSocketInode(existsSync(`${own}/tcp`) ? own : `${proc}/net`, connection);
  if (!inode.ok) return final(inode.error);

  const owners = await scanner.find(inode.value);
  if (owners.incomplete)
    return final('there are too many open descriptors to find the owner of the connection');
  const roots = new Set([main, ...supervisorPids]);
  for (const pid of owners.hidden) {
    if (!descendsFrom(proc, pid, roots)) continue;
    const name = readStat(proc, pid)?.name ?? '?';
    return transient(
      `process ${pid} (${name}) hides its descriptors (it is not dumpable, or its executable is not readable), ` +
        'so the owner of the connection cannot be known',
    );
  }
  if (owners.pids.length === 0) return transient('no process of the sandbox holds the connection');

  let first: Snapshot | undefined;
  for (const pid of owners.pids) {
    const snapshot = takeSnapshot(proc, pid, main, supervisorPids);
    if (!snapshot.ok) return transient(snapshot.error);
    if (first === undefined) first = snapshot.value;
    else if (!agree(first, snapshot.value)) {
      return transient(
        `the connection is shared by processes that differ: ${first.chain[0].executable.path} (${first.chain[0].pid}) ` +
          `and ${snapshot.value.chain[0].executable.path} (${pid})`,
      );
    }
  }
  if (first === undefined) return transient('no process of the sandbox holds the connection');

  const [caller, ...ancestors] = first.chain;
  for (const { pid, executable } of first.chain) {
    const verdict = await integrity.verify(pid, executable);
    if (!verdict.ok) return final(verdict.error);
  }
  const cmdline = await readCommandLine(proc, caller.pid, clock);
  const again = takeSnapshot(proc, caller.pid, main, supervisorPids);
  if (!again.ok) return transient(again.error);
  if (again.value.key !== first.key)
    return transient(`process ${caller.pid} changed while it was identified`);
  return ok({
    pid: caller.pid,
    binary: caller.executable.path,
    ancestors: ancestors.map(({ executable }) => executable.path),
    cmdline,
  });
}

interface Link {
  readonly pid: number;
  readonly startTime: string;
  readonly executable: Executable;
}

/** A process and its ancestors up to the main process, nearest first. */
interface Snapshot {
  readonly chain: readonly [Link, ...Link[]];
  /** Equal for equal snapshots: pids, start times, executables. */
  readonly key: string;
}

function takeSnapshot(
  proc: string,
  pid: number,
  main: number,
  supervisorPids: readonly number[],
): Result<Snapshot, string> {
  const first = readLink(proc, pid);
  if (!first.ok) return first;
  const chain: [Link, ...Link[]] = [first.value.link];
  let { parent } = first.value;
  let current = pid;
  while (
    current !== main &&
    parent > 1 &&
    !supervisorPids.includes(parent) &&
    chain.length <= MAX_ANCESTORS
  ) {
    const next = readLink(proc, parent);
    if (!next.ok) return next;
    chain.push(next.value.link);
    current = parent;
    parent = next.value.parent;
  }
  const key = chain.map((link) => `${link.pid} ${link.startTime} ${link.executable.path}`).join('\n');
  return ok({ chain, key });
}

/** The start time is read on both sides of the executable: between them the pid may have been reused. */
function readLink(proc: string, pid: number): Result<{ link: Link; parent: number }, string> {
  const before = readStat(proc, pid);
  if (before === undefined) return err(`process ${pid} has ended`);
  const executable = readExecutable(proc, pid);
  if (!executable.ok) return executable;
  const after = readStat(proc, pid);
  if (after?.startTime !== before.startTime) return err(`process ${pid} has ended`);
  return ok({
    link: { pid, startTime: before.startTime, executable: executable.value },
    parent: after.parent,
  });
}

function agree(a: Snapshot, b: Snapshot): boolean {
  return (
    a.chain.length === b.chain.length &&
    a.chain.every((link, index) => link.executable.path === b.chain[index]?.executable.path)
  );
}

/**
 * Whether a process belongs to the workload. Orphans are adopted by init, so every process of the
 * workload leads there; other containers of a shared pid namespace lead to 0 without passing it.
 */
function descendsFrom(proc: string, pid: number, roots: ReadonlySet<number>): boolean {
  let current = pid;
  for (let depth = 0; depth < MAX_DEPTH; depth += 1) {
    if (roots.has(current)) return true;
    if (current <= 0) return false;
    const stat = readStat(proc, current);
    // Gone meanwhile: it holds nothing. Gone as an ancestor: unclear, so it counts.
    if (stat === undefined) return current !== pid;
    current = stat.parent;
  }
  return true;
}
