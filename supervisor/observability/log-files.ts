import { createWriteStream, readdirSync, rmSync, type WriteStream } from 'node:fs';
import { join } from 'node:path';

/** Files of one kind that are kept, the day's own included. */
const KEEP = 3;
/** Of a day's file; what comes later that day is left out and counted. */
const MAX_FILE_BYTES = 16 << 20;
/** Of lines that the disk has not taken yet. */
const MAX_WAITING_BYTES = 1 << 20;

/** The two kinds of files (contract.md, 11). */
export type LogFileKind = 'openshell' | 'openshell-ocsf';

interface Open {
  readonly day: string;
  readonly stream: WriteStream;
  bytes: number;
}

/**
 * Lines by day in `<kind>.<date>.log`, three files of a kind, 16 MiB each. A disk that takes nothing, or is not
 * there, costs lines, which are counted, and nothing else.
 */
export class LogFiles {
  readonly #directory: string;
  readonly #now: () => number;
  /** Told once for each time that it begins to fail. */
  readonly #onFailure: (reason: string) => void;
  readonly #open = new Map<LogFileKind, Open>();
  readonly #failedDay = new Map<LogFileKind, string>();
  #dropped = 0;

  constructor(directory: string, now: () => number, onFailure: (reason: string) => void) {
    this.#directory = directory;
    this.#now = now;
    this.#onFailure = onFailure;
  }

  /** Lines that are in no file. */
  get dropped(): number {
    return this.#dropped;
  }

  /** `line` without its end; line breaks in it become blanks. */
  write(kind: LogFileKind, line: string): void {
    const text = `${line.replaceAll(/[\r\n]+/g, ' ')}\n`;
    const open = this.#file(kind);
    if (
      open === undefined ||
      open.bytes + text.length > MAX_FILE_BYTES ||
      open.stream.writableLength > MAX_WAITING_BYTES
    ) {
      this.#dropped += 1;
      return;
    }
    open.bytes += text.length;
    open.stream.write(text);
  }

  close(): Promise<void> {
    const ended = [...this.#open.values()].map(
      ({ stream }) => new Promise<void>((resolve) => void stream.end(() => resolve())),
    );
    this.#open.clear();
    return Promise.all(ended).then(() => undefined);
  }

  #file(kind: LogFileKind): Open | undefined {
    const day = new Date(this.#now()).toISOString().slice(0, 10);
    const open = this.#open.get(kind);
    if (open?.day === day) return open;
    if (this.#failedDay.get(kind) === day) return undefined;
    open?.stream.end();
    const path = join(this.#directory, `${kind}.${day}.log`);
    const stream = createWriteStream(path, { flags: 'a', mode: 0o640 });
    const next: Open = { day, stream, bytes: 0 };
    stream.once('open', (fd) => {
      void fd;
      this.#removeOld(kind);
    });
    stream.on('error', (error: NodeJS.ErrnoException) => {
      if (this.#failedDay.get(kind) !== day)
        this.#onFailure(`${path} cannot be written: ${error.code ?? error.message}`);
      this.#failedDay.set(kind, day);
      this.#open.delete(kind);
      stream.destroy();
    });
    this.#open.set(kind, next);
    return next;
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
