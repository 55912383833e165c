/** What a line holds at most, in bytes (contract.md, 10). */
const MAX_LINE_BYTES = 4096;
const MAX_LINES = 100;

/** The latest lines that say what was denied, at most a hundred of them, 4096 bytes each. */
export class DenialLines {
  #lines: string[] = [];

  /** Keeps a line of the log when it is a denial. */
  add(line: string): void {
    if (!line.includes(' DENIED ') || !/(^|\s)OCSF /.test(line)) return;
    const bytes = Buffer.from(line.replaceAll(/\?[^\s\]]*/g, '?[redacted]'));
    this.#lines.push(
      bytes.length > MAX_LINE_BYTES ? bytes.toString('utf8', 0, MAX_LINE_BYTES) : bytes.toString(),
    );
    if (this.#lines.length > MAX_LINES) this.#lines.shift();
  }

  /** The newest first. */
  last(count: number): readonly string[] {
    return this.#lines.slice(-count).reverse();
  }
}
