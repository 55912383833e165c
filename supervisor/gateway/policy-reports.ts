import type { ReportPolicyStatusRequest } from '../../proto/generated/openshell/v1/openshell.ts';
import type { Clock } from '../clock.ts';
import { isTransient } from './channel.ts';

const MAX_WAITING = 64;
const FIRST_RETRY_MS = 1_000;
const LAST_RETRY_MS = 32_000;

/**
 * Delivers policy reports one after the other, in order, retrying transient failures after 1 s doubling
 * to 32 s. At most 64 wait; then the oldest goes, because a newer report supersedes it at the gateway.
 */
export class PolicyReports {
  readonly #send: (report: ReportPolicyStatusRequest) => Promise<unknown>;
  readonly #clock: Clock;
  readonly #waiting: ReportPolicyStatusRequest[] = [];
  #running = false;
  #stopped = false;

  constructor(send: (report: ReportPolicyStatusRequest) => Promise<unknown>, clock: Clock) {
    this.#send = send;
    this.#clock = clock;
  }

  push(report: ReportPolicyStatusRequest): void {
    if (this.#waiting.length >= MAX_WAITING) this.#waiting.shift();
    this.#waiting.push(report);
    if (!this.#running) void this.#run();
  }

  stop(): void {
    this.#stopped = true;
  }

  async #run(): Promise<void> {
    this.#running = true;
    let retryMs = FIRST_RETRY_MS;
    while (!this.#stopped) {
      const [report] = this.#waiting;
      if (report === undefined) break;
      try {
        await this.#send(report);
      } catch (error) {
        if (isTransient(error)) {
          const wait = retryMs;
          retryMs = Math.min(LAST_RETRY_MS, retryMs * 2);
          await new Promise<void>((resolve) => void this.#clock.after(wait, resolve));
          continue;
        }
      }
      retryMs = FIRST_RETRY_MS;
      if (this.#waiting[0] === report) this.#waiting.shift();
    }
    this.#running = false;
  }
}
