import type { Clock } from '../../supervisor/clock.ts';

interface Task {
  readonly at: number;
  /** Tasks of the same instant run in the order in which they were planned. */
  readonly order: number;
  run: (() => void) | undefined;
}

/** A clock that stands still until it is told to run; tasks fire in the order of their instants. */
export class VirtualClock implements Clock {
  #now: number;
  #offset = 0;
  #planned = 0;
  /** A binary heap: ten thousand sessions plan some millions of tasks. */
  readonly #heap: Task[] = [];

  /** Begins at this instant, milliseconds since the Unix epoch and since the monotonic clock's zero. */
  constructor(now = 0) {
    this.#now = now;
  }

  now(): number {
    return this.#now + this.#offset;
  }

  monotonic(): number {
    return this.#now;
  }

  /** Steps the wall clock alone, as a time server does, or a suspend in which the monotonic clock rests. */
  leap(ms: number): void {
    this.#offset += ms;
  }

  /** Lets time pass in which no task runs, as for a process that is frozen; they are late then. */
  freeze(ms: number): void {
    this.#now += ms;
  }

  after(delayMs: number, run: () => void): () => void {
    const task: Task = { at: this.#now + Math.max(0, delayMs), order: this.#planned++, run };
    this.#push(task);
    return () => {
      task.run = undefined;
    };
  }

  run(durationMs: number): void {
    const end = this.#now + durationMs;
    for (;;) {
      const next = this.#heap[0];
      if (next === undefined || next.at > end) break;
      this.#pop();
      if (next.run === undefined) continue;
      this.#now = Math.max(this.#now, next.at);
      next.run();
    }
    this.#now = end;
  }

  #push(task: Task): void {
    const heap = this.#heap;
    let index = heap.length;
    heap.push(task);
    while (index > 0) {
      const parent = (index - 1) >> 1;
      const above = heap[parent];
      if (above === undefined || !before(task, above)) break;
      heap[index] = above;
      index = parent;
    }
    heap[index] = task;
  }

  #pop(): void {
    const heap = this.#heap;
    const last = heap.pop();
    if (last === undefined || heap.length === 0) return;
    let index = 0;
    for (;;) {
      const left = 2 * index + 1;
      const [a, b] = [heap[left], heap[left + 1]];
      if (a === undefined) break;
      const child = b !== undefined && before(b, a) ? left + 1 : left;
      const least = child === left ? a : b;
      if (least === undefined || !before(least, last)) break;
      heap[index] = least;
      index = child;
    }
    heap[index] = last;
  }
}

const before = (a: Task, b: Task): boolean => (a.at === b.at ? a.order < b.order : a.at < b.at);
