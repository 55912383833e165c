import { createHash } from 'node:crypto';
import { type BigIntStats, statSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { err, ok, type Result } from '../../result.ts';
import type { Executable } from './process.ts';

/** Executables remembered. Beyond it new ones are refused: forgetting one would let it change unseen. */
const MAX_EXECUTABLES = 1024;
const CHUNK_BYTES = 256 * 1024;

interface Known {
  fingerprint: string;
  readonly sha256: string;
}

/**
 * Trust on first use: the first SHA-256 seen under a path is the one that this path keeps
 * (contract.md, 7.5). The file is read through /proc/<pid>/exe, so it is the one that runs, whatever
 * the path leads to by now; an unchanged fingerprint saves reading it again.
 */
export class ExecutableIntegrity {
  readonly #proc: string;
  readonly #limit: number;
  readonly #known = new Map<string, Known>();
  readonly #hashing = new Map<string, Promise<Result<string, string>>>();

  constructor(proc: string, limit: number = MAX_EXECUTABLES) {
    this.#proc = proc;
    this.#limit = limit;
  }

  /** Succeeds when the running executable is the one first seen under its path; the error is a reason. */
  async verify(pid: number, executable: Executable): Promise<Result<void, string>> {
    const link = `${this.#proc}/${pid}/exe`;
    const { path } = executable;
    let stats: BigIntStats;
    try {
      stats = statSync(link, { bigint: true });
    } catch (error) {
      return err(`cannot examine the executable ${path}: ${codeOf(error)}`);
    }
    // A process in a mount namespace of its own can lay any file over a path that policy trusts.
    if (!executable.deleted && isOtherFile(path, stats)) {
      return err(`process ${pid} runs another file than the one at ${path}`);
    }
    const fingerprint = fingerprintOf(stats);
    if (this.#known.get(path)?.fingerprint === fingerprint) return ok(undefined);
    const sha256 = await this.#hash(link, path, fingerprint);
    if (!sha256.ok) return sha256;
    const known = this.#known.get(path);
    if (known === undefined) {
      if (this.#known.size >= this.#limit) {
        return err(`more than ${this.#limit} different executables have used the proxy`);
      }
      this.#known.set(path, { fingerprint, sha256: sha256.value });
      return ok(undefined);
    }
    if (known.sha256 !== sha256.value) {
      return err(`the executable ${path} has changed since it first used the network`);
    }
    known.fingerprint = fingerprint;
    return ok(undefined);
  }

  /** Callers that run the same file at the same time share one reading of it. */
  #hash(link: string, path: string, fingerprint: string): Promise<Result<string, string>> {
    const key = `${path}\0${fingerprint}`;
    const running = this.#hashing.get(key);
    if (running !== undefined) return running;
    const hashing = hashFile(link, path, fingerprint).finally(() => this.#hashing.delete(key));
    this.#hashing.set(key, hashing);
    return hashing;
  }
}

async function hashFile(link: string, path: string, fingerprint: string): Promise<Result<string, string>> {
  let file: FileHandle | undefined;
  try {
    file = await open(link, 'r');
    const hash = createHash('sha256');
    const buffer = Buffer.allocUnsafe(CHUNK_BYTES);
    for (;;) {
      const { bytesRead } = await file.read(buffer, 0, CHUNK_BYTES);
      if (bytesRead === 0) break;
      hash.update(buffer.subarray(0, bytesRead));
    }
    if (fingerprintOf(await file.stat({ bigint: true })) !== fingerprint) {
      return err(`the executable ${path} changed while it was read`);
    }
    return ok(hash.digest('hex'));
  } catch (error) {
    return err(`cannot read the executable ${path}: ${codeOf(error)}`);
  } finally {
    await file?.close();
  }
}

function isOtherFile(path: string, running: BigIntStats): boolean {
  try {
    const here = statSync(path, { bigint: true });
    return here.dev !== running.dev || here.ino !== running.ino;
  } catch {
    // Not visible from here, for example in a private /tmp.
    return false;
  }
}

const fingerprintOf = (stats: BigIntStats): string =>
  `${stats.size} ${stats.mtimeNs} ${stats.ctimeNs} ${stats.dev} ${stats.ino}`;

const codeOf = (error: unknown): string =>
  error instanceof Error && 'code' in error ? String(error.code) : String(error);
