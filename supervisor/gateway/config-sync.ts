import type { GetSandboxConfigResponse } from '../../proto/generated/openshell/sandbox/v1/sandbox.ts';
import type { Clock, Random } from '../clock.ts';
import { Fault } from '../fault.ts';
import { err, ok, type Result } from '../result.ts';
import { describeCallError, isTransient } from './channel.ts';

export interface ConfigSyncOptions {
  readonly clock: Clock;
  readonly random: Random;
  readonly pollIntervalMs: number;
  readonly fetch: () => Promise<GetSandboxConfigResponse>;
  /** A configuration whose revision differs from the last one; applied one at a time. */
  readonly onConfig: (config: GetSandboxConfigResponse) => Promise<void>;
  readonly onError: (message: string) => void;
}

/** Waits before the second to the fifth attempt of the first fetch, in milliseconds (contract.md, 7.3). */
const START_DELAYS_MS = [1_000, 2_000, 4_000, 4_000] as const;

/** Keeps the configuration in step with the gateway's by polling. */
export class ConfigSync {
  readonly #options: ConfigSyncOptions;
  #revision: bigint | undefined;
  #cancel: (() => void) | undefined;
  #stopped = false;

  constructor(options: ConfigSyncOptions) {
    this.#options = options;
  }

  /**
   * The first configuration: five attempts, and none after an answer that trying again cannot change.
   * `prepare` comes before each, to connect.
   */
  async initial(
    prepare: () => Promise<void> = async () => undefined,
  ): Promise<Result<GetSandboxConfigResponse, Fault>> {
    for (let attempt = 0; ; attempt++) {
      try {
        await prepare();
        const config = await this.#options.fetch();
        this.#revision = config.configRevision;
        return ok(config);
      } catch (error) {
        const delayMs = START_DELAYS_MS[attempt];
        if (!isTransient(error) || delayMs === undefined)
          return err(
            new Fault(
              'gateway',
              `no configuration from the gateway: ${describeCallError(error)}; check OPENSHELL_ENDPOINT and the token`,
              {
                cause: error,
              },
            ),
          );
        await new Promise<void>((resolve) => void this.#options.clock.after(delayMs, resolve));
      }
    }
  }

  /** Polls until stopped, each time after 6/7 to 8/7 of the interval. */
  start(): void {
    const { clock, random, pollIntervalMs } = this.#options;
    this.#cancel = clock.after(pollIntervalMs * (6 / 7 + (random() * 2) / 7), () => {
      void this.#poll().then(() => {
        if (!this.#stopped) this.start();
      });
    });
  }

  stop(): void {
    this.#stopped = true;
    this.#cancel?.();
  }

  async #poll(): Promise<void> {
    try {
      const config = await this.#options.fetch();
      if (config.configRevision === this.#revision || this.#stopped) return;
      await this.#options.onConfig(config);
      this.#revision = config.configRevision; // only now: a failure is tried again at the next poll
    } catch (error) {
      this.#options.onError(describeCallError(error));
    }
  }
}
