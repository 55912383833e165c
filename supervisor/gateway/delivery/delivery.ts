import { entryBytes, RECORD_CLASSES, type RecordClass } from '../../buffer/record.ts';
import type { Batch, RecordBuffer } from '../../buffer/record-buffer.ts';
import type { Clock, Random } from '../../clock.ts';
import { describeCallError, retryAfterOf } from '../../rpc/status.ts';
import { Lane } from './lane.ts';
import { Pace } from './pace.ts';
import { judge } from './verdict.ts';
import { type Call, callFor, runLength } from './wire.ts';

export interface DeliveryOptions {
  readonly clock: Clock;
  readonly random: Random;
  readonly sandboxId: string;
  readonly buffer: RecordBuffer;
  /** Makes one call and settles when the gateway has answered; rejects with a CallError. */
  readonly send: (call: Call, manner: Manner) => Promise<void>;
  readonly onError: (message: string) => void;
}

export interface Manner {
  readonly timeoutMs: number;
  /** Whether this is the end, so that a connection is worth a dial. */
  readonly last: boolean;
}

/** The gateway keeps 100 lines of a batch; we send half of that (contract.md, 1.6 and 11). */
const MAX_LINES = 50;
/** Accounted; on the wire a line has its key and the sandbox's id on top, so a batch stays within 256 KiB. */
const MAX_BYTES = 232 * 1024;
const INTERVAL_MS = 500;
const CALL_MS = 10_000;
const LAST_CALL_MS = 250;
/** After a joint batch failed, so many go apart. */
const APART = 10;

type Step = 'sent' | 'idle' | { readonly waitMs: number };

/**
 * Delivers what the buffer holds, each kind by its call, and forgets a record only when the gateway has
 * answered for it. Status goes before audit and logs, which take turns when there is much of both. A record
 * that the gateway will not take is found by halving its batch, and given up when the gateway takes an empty
 * one at that moment.
 */
export class Delivery {
  readonly #options: DeliveryOptions;
  readonly #pace: Pace;
  readonly #status: Lane;
  readonly #audit: Lane;
  readonly #rest: Lane;
  #cancel: (() => void) | undefined;
  #started = false;
  #step: Promise<Step> | undefined;
  #auditsTurn = true;
  #apart = 0;

  constructor(options: DeliveryOptions) {
    this.#options = options;
    const { clock, random } = options;
    this.#pace = new Pace(() => clock.monotonic());
    this.#status = new Lane(['status'], clock, random);
    this.#audit = new Lane(['audit'], clock, random);
    this.#rest = new Lane(['logs', 'samples'], clock, random);
  }

  /** Begins, or goes on. */
  start(): void {
    if (this.#started) return;
    this.#started = true;
    this.#schedule(INTERVAL_MS);
  }

  stop(): void {
    this.#started = false;
    this.#cancel?.();
    this.#cancel = undefined;
  }

  /** Tries at once what waits: a session stands again, or something urgent was added. */
  hurry(): void {
    for (const lane of this.#lanes()) lane.hurry();
    if (this.#started && this.#step === undefined) this.#schedule(0);
  }

  /**
   * Sends until nothing of these classes is left or `deadlineMs` has passed, and says which. Ends early when
   * the gateway takes nothing from us. Regular delivery goes on afterwards if it was on.
   */
  async drain(deadlineMs: number, classes: readonly RecordClass[] = RECORD_CLASSES): Promise<boolean> {
    const { clock } = this.#options;
    const end = clock.monotonic() + deadlineMs;
    const left = (): number => end - clock.monotonic();
    const started = this.#started;
    this.stop();
    for (const lane of this.#lanes()) lane.hurry();
    while (this.#entries(classes) > 0 && left() > 0) {
      const step = await this.#once({
        classes,
        timeoutMs: Math.max(LAST_CALL_MS, Math.min(CALL_MS, left())),
      });
      if (step === 'sent') continue;
      const waitMs = step === 'idle' ? 0 : step.waitMs;
      if (waitMs >= left()) break;
      await new Promise<void>((resolve) => void clock.after(waitMs, resolve));
    }
    if (started) this.start();
    return this.#entries(classes) === 0;
  }

  #schedule(delayMs: number): void {
    this.#cancel?.();
    this.#cancel = this.#options.clock.after(delayMs, () => {
      void this.#once(undefined).then((step) => {
        if (!this.#started) return;
        // Few lines wait for more; a full batch or a status does not.
        const more = step === 'sent' && (this.#entries(['status']) > 0 || this.#entries() >= MAX_LINES);
        if (more) this.#schedule(0);
        else this.#schedule(typeof step === 'object' ? Math.min(INTERVAL_MS, step.waitMs) : INTERVAL_MS);
      });
    });
  }

  /** One step at a time: there is one batch out. */
  async #once(last: Last | undefined): Promise<Step> {
    while (this.#step !== undefined) await this.#step;
    this.#step = this.#deliver(last).finally(() => {
      this.#step = undefined;
    });
    return this.#step;
  }

  async #deliver(last: Last | undefined): Promise<Step> {
    const lanes = this.#choose(last?.classes ?? RECORD_CLASSES);
    const [lane] = lanes;
    if (lane === undefined) return this.#waiting(last?.classes ?? RECORD_CLASSES);
    const batch = this.#take(lanes);
    if (batch === undefined) return 'idle';
    const bytes = batch.entries.reduce((sum, entry) => sum + entryBytes(entry), 0);
    const waitMs = lane === this.#status ? 0 : this.#pace.wait(bytes);
    if (waitMs > 0) return { waitMs };
    this.#pace.sent(bytes);
    const { clock, sandboxId, send, buffer } = this.#options;
    const call = callFor(batch.entries, sandboxId, clock.now());
    try {
      await send(call, mannerOf(last));
    } catch (error) {
      return this.#failed(lanes, batch, call, error, last);
    }
    buffer.ack(batch);
    for (const one of lanes) one.delivered(batch.entries.length);
    this.#apart = Math.max(0, this.#apart - 1);
    return 'sent';
  }

  /** The leading entries that go in one call. */
  #take(lanes: readonly Lane[]): Batch | undefined {
    const { buffer } = this.#options;
    const classes = lanes.flatMap((lane) => lane.classes);
    const limits = { maxEntries: lanes[0]?.size ?? MAX_LINES, maxBytes: MAX_BYTES, classes };
    const batch = buffer.nextBatch(limits);
    if (batch === undefined) return undefined;
    const length = runLength(batch.entries);
    return length === batch.entries.length ? batch : buffer.nextBatch({ ...limits, maxEntries: length });
  }

  /** The lanes whose turn it is; two when what both hold fits one batch. */
  #choose(classes: readonly RecordClass[]): readonly Lane[] {
    const ready = this.#lanes().filter(
      (lane) => lane.classes.some((name) => classes.includes(name)) && this.#has(lane) && lane.waitMs() === 0,
    );
    if (ready.includes(this.#status)) return [this.#status];
    const [first, second] = ready;
    if (first === undefined || second === undefined) return ready;
    const few = this.#entries(['audit', 'logs', 'samples']) <= MAX_LINES;
    if (few && this.#apart === 0 && first.untroubled && second.untroubled) return ready;
    this.#auditsTurn = !this.#auditsTurn;
    return [this.#auditsTurn ? first : second];
  }

  async #failed(
    lanes: readonly Lane[],
    batch: Batch,
    call: Call,
    error: unknown,
    last: Last | undefined,
  ): Promise<Step> {
    const { buffer, onError } = this.#options;
    onError(`${call.kind}: ${describeCallError(error)}`);
    const askedMs = retryAfterOf(error);
    const hurried = last !== undefined;
    const verdict = judge(call.kind, error);
    const [lane] = lanes;
    if (lane === undefined) return 'idle';
    if (verdict === 'had') {
      buffer.ack(batch);
      for (const one of lanes) one.delivered(batch.entries.length);
      return 'sent';
    }
    if (verdict === 'again' || verdict === 'refused') {
      for (const one of lanes)
        if (verdict === 'again') one.again(askedMs, hurried);
        else one.refused(askedMs);
      return { waitMs: lane.waitMs() };
    }
    if (lanes.length > 1) {
      this.#apart = APART;
      if (verdict === 'strike') for (const one of lanes) one.again(askedMs, hurried);
      return verdict === 'strike' ? { waitMs: lane.waitMs() } : 'sent';
    }
    if (verdict === 'strike' && !lane.strike()) {
      lane.again(askedMs, hurried);
      return { waitMs: lane.waitMs() };
    }
    if (batch.entries.length > 1) {
      lane.narrow(batch.entries.length);
      return 'sent';
    }
    return this.#poisoned(lane, batch, verdict, last);
  }

  /** One record that is refused: given up when the gateway takes anything at all, else it is not the record. */
  async #poisoned(
    lane: Lane,
    batch: Batch,
    verdict: 'shrink' | 'strike',
    last: Last | undefined,
  ): Promise<Step> {
    const { sandboxId, send, buffer, onError } = this.#options;
    const probe: Call = { kind: 'lines', request: { sandboxId, logs: [] } };
    try {
      await send(probe, mannerOf(last));
    } catch (error) {
      if (verdict === 'strike' || judge('lines', error) === 'again')
        lane.again(retryAfterOf(error), last !== undefined);
      else lane.refused(retryAfterOf(error));
      return { waitMs: lane.waitMs() };
    }
    const [entry] = batch.entries;
    buffer.giveUp(batch, 'refused');
    lane.found();
    if (entry !== undefined) onError(`a ${entry.type} of class ${entry.class} was given up: it is refused`);
    return 'sent';
  }

  #waiting(classes: readonly RecordClass[]): Step {
    const waits = this.#lanes()
      .filter((lane) => lane.classes.some((name) => classes.includes(name)) && this.#has(lane))
      .map((lane) => lane.waitMs());
    return waits.length === 0 ? 'idle' : { waitMs: Math.min(...waits) };
  }

  #lanes(): readonly [Lane, Lane, Lane] {
    return [this.#status, this.#audit, this.#rest];
  }

  #has(lane: Lane): boolean {
    return this.#entries(lane.classes) > 0;
  }

  #entries(of: readonly RecordClass[] = RECORD_CLASSES): number {
    const { classes } = this.#options.buffer.stats();
    return of.reduce((sum, name) => sum + classes[name].entries, 0);
  }
}

/** The last deliveries before an end. */
interface Last {
  readonly classes: readonly RecordClass[];
  readonly timeoutMs: number;
}

const mannerOf = (last: Last | undefined): Manner => ({
  timeoutMs: last?.timeoutMs ?? CALL_MS,
  last: last !== undefined,
});
