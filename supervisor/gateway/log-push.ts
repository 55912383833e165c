import type { PushSandboxLogsRequest, SandboxLogLine } from '../../proto/generated/openshell/v1/openshell.ts';
import type { Entry } from '../buffer/record.ts';
import type { Batch, RecordBuffer } from '../buffer/record-buffer.ts';
import type { Clock, Random } from '../clock.ts';
import { describeCallError } from './channel.ts';

export interface LogPushOptions {
  readonly clock: Clock;
  readonly random: Random;
  readonly sandboxId: string;
  readonly buffer: RecordBuffer;
  /** Sends one batch and settles when the gateway has taken it. */
  readonly send: (request: PushSandboxLogsRequest) => Promise<void>;
  readonly onError: (message: string) => void;
}

/** The gateway keeps 100 lines of a batch; we send half of that (contract.md, 1.6 and 11). */
const MAX_LINES = 50;
const MAX_BYTES = 256 * 1024;
const INTERVAL_MS = 500;
const LAST_RETRY_MS = 30_000;

/**
 * Delivers what the buffer holds: a batch is forgotten only when the gateway has answered for it, so an
 * outage loses nothing but what the buffer's bound forces out, and that is delivered as a gap.
 */
export class LogPush {
  readonly #options: LogPushOptions;
  #cancel: (() => void) | undefined;
  #retryMs = INTERVAL_MS;
  #sending: Promise<boolean> | undefined;

  constructor(options: LogPushOptions) {
    this.#options = options;
  }

  start(): void {
    this.#schedule(INTERVAL_MS);
  }

  stop(): void {
    this.#cancel?.();
    this.#cancel = undefined;
  }

  /** Sends until the buffer is empty or `deadlineMs` has passed. Returns whether it is empty. */
  async drain(deadlineMs: number): Promise<boolean> {
    this.stop();
    const end = this.#options.clock.monotonic() + deadlineMs;
    while (this.#options.buffer.stats().entries > 0) {
      if (this.#options.clock.monotonic() >= end || !(await this.#flush())) return false;
    }
    return true;
  }

  #schedule(delayMs: number): void {
    const { clock, random } = this.#options;
    this.#cancel = clock.after(delayMs, () => {
      void this.#flush().then((sent) => {
        if (this.#cancel === undefined) return;
        this.#retryMs = sent ? INTERVAL_MS : Math.min(LAST_RETRY_MS, this.#retryMs * 2);
        this.#schedule(sent ? this.#retryMs : this.#retryMs * (0.5 + random() / 2));
      });
    });
  }

  /** One batch. False when the gateway did not take it. */
  #flush(): Promise<boolean> {
    this.#sending ??= this.#sendOne().finally(() => {
      this.#sending = undefined;
    });
    return this.#sending;
  }

  async #sendOne(): Promise<boolean> {
    const { buffer, clock, sandboxId, send, onError } = this.#options;
    const batch: Batch | undefined = buffer.nextBatch({ maxEntries: MAX_LINES, maxBytes: MAX_BYTES });
    if (batch === undefined) return true;
    try {
      await send({ sandboxId, logs: batch.entries.map((entry) => toLine(entry, sandboxId, clock.now())) });
      buffer.ack(batch);
      return true;
    } catch (error) {
      onError(describeCallError(error));
      return false;
    }
  }
}

function toLine(entry: Entry, sandboxId: string, nowMs: number): SandboxLogLine {
  const base = { sandboxId, source: 'sandbox' } as const;
  if (entry.type === 'record' && entry.record.kind === 'log') {
    const { at, level, target, message, fields } = entry.record;
    return { ...base, timestampMs: BigInt(Math.round(at)), level, target, message, fields };
  }
  if (entry.type === 'record') throw new Error(`no line is made of a record of kind ${entry.record.kind}`);
  const { first, last, count, lostBytes, reason } = entry;
  const fields = {
    class: entry.class,
    first: `${first}`,
    last: `${last}`,
    count: `${count}`,
    bytes: `${lostBytes}`,
  };
  const message = `${count} records of class ${entry.class} were lost: ${reason}`;
  return {
    ...base,
    timestampMs: BigInt(Math.round(nowMs)),
    level: 'WARN',
    target: 'buffer',
    message,
    fields,
  };
}
