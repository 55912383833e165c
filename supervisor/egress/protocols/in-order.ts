type Task = () => undefined | Promise<void>;

/** Runs tasks one after the other: at once where none is under way. What rejects does not hold up the others. */
export class InOrder {
  readonly #waiting: Task[] = [];
  #busy: Promise<void> | undefined;

  run(task: Task): void {
    if (this.#busy !== undefined) {
      this.#waiting.push(task);
      return;
    }
    const begun = task();
    if (begun !== undefined) this.#busy = this.#drain(begun);
  }

  /** Resolves when nothing is under way. */
  async idle(): Promise<void> {
    while (this.#busy !== undefined) await this.#busy;
  }

  async #drain(first: Promise<void>): Promise<void> {
    await first.catch(() => undefined);
    for (let next = this.#waiting.shift(); next !== undefined; next = this.#waiting.shift())
      await next()?.catch(() => undefined);
    this.#busy = undefined;
  }
}
