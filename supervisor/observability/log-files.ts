import {
  close,
  closeSync,
  constants,
  createWriteStream,
  fstatSync,
  openSync,
  readdirSync,
  rmSync,
  type WriteStream,
  write,
} from 'node:fs';
import { join } from 'node:path';

/** Files of one kind that are kept, the day's own included. */
const KEEP = 3;
/** Of a day's file; what comes later that day is left out and counted. */
const MAX_FILE_BYTES = 16 << 20;
/** Of lines that the disk has not taken yet. */
const MAX_WAITING_BYTES = 1 << 20;
/** After a failure. */
const RETRY_MS = 60_000;

/** The two kinds of files (contract.md, 11). */
export type LogFileKind = 'openshell' | 'openshell-ocsf';

export interface LogFilesOptions {
  readonly now: () => number;
  /** Told once, until a file of that kind could be opened again. */
  readonly onFailure: (reason: string) => void;
  readonly maxFileBytes?: number;
}

interface Open {
  readonly day: string;
  readonly stream: WriteStream;
  /** What the file holds already is known only once it is open. */
  readonly counted: { bytes: number };
}

interface Failure {
  readonly at: number;
}

/**
 * Lines by day in `<kind>.<date>.log`, three files of a kind, 16 MiB each. A disk that takes nothing, or is not
 * there, costs lines, which are counted, and nothing else; a minute later it is tried again.
 */
export class LogFiles {
  readonly #directory: string;
  readonly #options: LogFilesOptions;
  readonly #open = new Map<LogFileKind, Open>();
  readonly #failed = new Map<LogFileKind, Failure>();
  #dropped = 0;

  constructor(directory: string, options: LogFilesOptions) {
    this.#directory = directory;
    this.#options = options;
  }

  /** Lines that are in no file. */
  get dropped(): number {
    return this.#dropped;
  }

  /** `line` without its end; line breaks in it become blanks. */
  write(kind: LogFileKind, line: string): void {
    const text = `${line.replaceAll(/[\r\n]+/g, ' ')}\n`;
    const bytes = Buffer.byteLength(text);
    const file = this.#file(kind);
    const limit = this.#options.maxFileBytes ?? MAX_FILE_BYTES;
    if (
      file === undefined ||
      file.counted.bytes + bytes > limit ||
      file.stream.writableLength + bytes > MAX_WAITING_BYTES
    ) {
      this.#dropped += 1;
      return;
    }
    file.counted.bytes += bytes;
    // A line that was taken and then failed is in no file either.
    file.stream.write(text, (error) => {
      if (error) this.#dropped += 1;
    });
  }

  close(): Promise<void> {
    const ended = [...this.#open.values()].map(
      ({ stream }) =>
        new Promise<void>((resolve) => {
          stream.once('close', resolve);
          stream.end();
        }),
    );
    this.#open.clear();
    return Promise.all(ended).then(() => undefined);
  }

  #file(kind: LogFileKind): Open | undefined {
    const now = this.#options.now();
    const day = dayOf(now);
    const known = this.#open.get(kind);
    if (known?.day === day) return known;
    const failed = this.#failed.get(kind);
    // The clock may jump either way.
    if (failed !== undefined && Math.abs(now - failed.at) < RETRY_MS) return undefined;
    known?.stream.end();
    const path = join(this.#directory, `${kind}.${day}.log`);
    const counted = { bytes: 0 };
    const stream = createWriteStream(path, {
      fs: {
        ...DISK,
        open: openRegular((size) => {
          counted.bytes += size;
        }),
      },
    });
    const opened: Open = { day, stream, counted };
    this.#open.set(kind, opened);
    stream.once('open', () => {
      this.#failed.delete(kind);
      this.#removeOld(kind);
    });
    stream.on('error', (error: NodeJS.ErrnoException) => {
      if (this.#open.get(kind) === opened) this.#open.delete(kind);
      const told = this.#failed.has(kind);
      this.#failed.set(kind, { at: this.#options.now() });
      if (!told) this.#options.onFailure(`${path} cannot be written: ${error.code ?? error.message}`);
    });
    return opened;
  }

  #removeOld(kind: LogFileKind): void {
    try {
      const own = readdirSync(this.#directory)
        .filter((name) => new RegExp(`^${kind}\\.\\d{4}-\\d\\d-\\d\\d\\.log$`).test(name))
        .sort();
      for (const name of own.slice(0, -KEEP)) rmSync(join(this.#directory, name), { force: true });
    } catch {
      // older files stay
    }
  }
}

function dayOf(now: number): string {
  // A clock can be wrong by any amount, and a Date takes only some of it (ECMA-262, 21.4.1.1).
  const date = new Date(Number.isFinite(now) && Math.abs(now) <= 8.64e15 ? now : 0);
  return date.toISOString().slice(0, 10);
}

type OpenFile = (
  path: string,
  flags: unknown,
  mode: unknown,
  callback: (error: NodeJS.ErrnoException | null, fd: number) => void,
) => void;

const DISK = { write, close };

/**
 * A policy may let the workload write where we log. So no symbolic link is followed, or it would choose which file of
 * ours we write to (open(2), O_NOFOLLOW), and nothing but a file is waited for: a FIFO blocks who opens it until
 * somebody reads (fifo(7)). At once, and not by another thread, which becomes root whenever this one does: a file that
 * root has made we could not open again.
 */
function openRegular(onSize: (bytes: number) => void): OpenFile {
  const { O_WRONLY, O_APPEND, O_CREAT, O_NOFOLLOW, O_NONBLOCK } = constants;
  const flags = O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_NONBLOCK;
  return (path, _flags, _mode, callback) => {
    let fd = -1;
    try {
      fd = openSync(path, flags, 0o640);
      const facts = fstatSync(fd);
      if (!facts.isFile() || facts.nlink !== 1) throw new Error('it is not a file of its own');
      onSize(facts.size);
    } catch (error) {
      if (fd >= 0) closeSync(fd);
      callback(error as NodeJS.ErrnoException, -1);
      return;
    }
    callback(null, fd);
  };
}
