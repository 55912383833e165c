import { createHash } from 'node:crypto';
import {
  closeSync,
  constants,
  fsyncSync,
  lstatSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { GetSandboxConfigResponse } from '../proto/generated/openshell/sandbox/v1/sandbox.ts';
import { err, ok, type Result } from './result.ts';

/** Name of the file in the state directory. */
const FILE = 'last-good-config';
const MAGIC = Buffer.from('OSHCFG01', 'latin1');
const DIGEST_BYTES = 32;
/** A policy is at most 256 KiB (contract.md, 13); settings and the rest are small. */
const MAX_BYTES = 1 << 20;

/**
 * The last configuration that was applied, kept so that a supervisor that starts while the gateway is away
 * goes on under the policy it had. Credentials are not part of it: they come by another call.
 */
export class LastGoodConfig {
  readonly #directory: string;
  readonly #sandboxId: string;
  readonly #asOwner: <T>(act: () => T) => T;

  /** `directory` must be the supervisor's own, 0700; `asOwner` runs what touches it as the user it belongs to. */
  constructor(directory: string, sandboxId: string, asOwner: <T>(act: () => T) => T = (act) => act()) {
    this.#directory = directory;
    this.#sandboxId = sandboxId;
    this.#asOwner = asOwner;
  }

  /** Replaces the file by a whole new one, 0600 and synced. Fails with the reason. */
  save(config: GetSandboxConfigResponse): Result<void, string> {
    return this.#asOwner(() => this.#save(config));
  }

  #save(config: GetSandboxConfigResponse): Result<void, string> {
    const file = join(this.#directory, FILE);
    const next = `${file}.next`;
    try {
      const body = Buffer.from(GetSandboxConfigResponse.encode(config).finish());
      const head = Buffer.concat([MAGIC, digest(this.#sandboxId, body)]);
      rmSync(next, { force: true });
      const { O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW } = constants;
      const fd = openSync(next, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
      try {
        writeSync(fd, head);
        writeSync(fd, body);
        fsyncSync(fd);
      } finally {
        closeSync(fd);
      }
      renameSync(next, file);
      return ok(undefined);
    } catch (cause) {
      return err(reasonOf(cause));
    }
  }

  /** What was saved for this sandbox; fails with the reason when there is nothing whole. */
  load(): Result<GetSandboxConfigResponse, string> {
    return this.#asOwner(() => this.#load());
  }

  #load(): Result<GetSandboxConfigResponse, string> {
    const file = join(this.#directory, FILE);
    try {
      const status = lstatSync(file);
      if (!status.isFile()) return err('it is no regular file');
      if (status.uid !== process.geteuid?.()) return err('it belongs to another user');
      if (status.size > MAX_BYTES) return err(`it exceeds ${MAX_BYTES} bytes`);
      const bytes = readFileSync(file);
      const body = bytes.subarray(MAGIC.length + DIGEST_BYTES);
      if (!bytes.subarray(0, MAGIC.length).equals(MAGIC)) return err('it is of another version');
      if (!bytes.subarray(MAGIC.length, MAGIC.length + DIGEST_BYTES).equals(digest(this.#sandboxId, body)))
        return err('its checksum is wrong');
      return ok(GetSandboxConfigResponse.decode(body));
    } catch (cause) {
      return err(reasonOf(cause));
    }
  }
}

/** Over the sandbox's id too: a volume that has come from another sandbox brings no policy along. */
function digest(sandboxId: string, body: Buffer): Buffer {
  return createHash('sha256').update(sandboxId).update('\0').update(body).digest();
}

function reasonOf(cause: unknown): string {
  if (cause instanceof Error && 'code' in cause) return String(cause.code);
  return cause instanceof Error ? cause.message : String(cause);
}
