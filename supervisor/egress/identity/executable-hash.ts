import { createHash } from 'node:crypto';
import { type BigIntStats, createReadStream, fstatSync, openSync, statSync } from 'node:fs';
import { err, ok, type Result } from '../../result.ts';

const MAX_ENTRIES = 1024;

interface Entry {
  readonly key: string;
  readonly digest: string;
}

/**
 * Trust on first use for executables (contract.md, 7.5): the SHA-256 of a path is taken when it is first
 * used; the same path with other contents is denied from then on. At most 1024 paths are remembered;
 * the next new one is refused, because forgetting an old one would let it change unseen.
 */
export class ExecutableHashes {
  readonly #entries = new Map<string, Entry>();

  /**
   * The SHA-256 of the file that a process runs, in hexadecimal; or why it must be denied. Looked at and opened at once, and
   * not by another thread: those become root whenever this one does (privileges.ts), and root without CAP_SYS_PTRACE
   * may not look at the workload's processes.
   */
  async check(proc: string, pid: number, path: string): Promise<Result<string, string>> {
    const file = `${proc}/${pid}/exe`;
    try {
      const before = this.#entries.get(path);
      if (before?.key === keyOf(statSync(file, { bigint: true }))) return ok(before.digest);
      const fd = openSync(file, 'r');
      const key = keyOf(fstatSync(fd, { bigint: true }));
      const digest = await sha256(fd);
      // Looked up only now: another connection may have been the first use while we read.
      const known = this.#entries.get(path);
      if (known !== undefined && known.digest !== digest)
        return err(`the binary ${path} has changed since it was first used`);
      if (known === undefined && this.#entries.size >= MAX_ENTRIES)
        return err(`more than ${MAX_ENTRIES} different binaries have used the network`);
      this.#entries.set(path, { key, digest });
      return ok(digest);
    } catch {
      return err(`the binary ${path} cannot be read`);
    }
  }
}

const keyOf = ({ size, mtimeNs, ctimeNs, dev, ino }: BigIntStats): string =>
  `${size}:${mtimeNs}:${ctimeNs}:${dev}:${ino}`;

/** Of all that can be read from a descriptor, which is closed then. */
function sha256(fd: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const hash = createHash('sha256');
    createReadStream('', { fd, highWaterMark: 256 * 1024 })
      .on('error', reject)
      .on('data', (chunk) => hash.update(chunk))
      .on('end', () => resolve(hash.digest('hex')));
  });
}
