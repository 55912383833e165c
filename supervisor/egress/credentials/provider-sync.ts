import type { GetSandboxProviderEnvironmentResponse } from '../../../proto/generated/openshell/v1/openshell.ts';
import type { Clock, Random } from '../../clock.ts';
import type { CredentialStore } from './credential-store.ts';

export interface ProviderSyncOptions {
  readonly clock: Clock;
  readonly random: Random;
  readonly store: CredentialStore;
  /** Asks the gateway; rejects with what it says. */
  readonly fetch: () => Promise<GetSandboxProviderEnvironmentResponse>;
  readonly onError: (message: string) => void;
}

const FIRST_RETRY_MS = 1_000;
const LAST_RETRY_MS = 60_000;

/**
 * Keeps the credentials in step with the gateway's. A fetch that fails, or an answer that contradicts itself, revokes
 * them at once and is tried again: a revision that changed may be a revocation.
 */
export class ProviderSync {
  readonly #options: ProviderSyncOptions;
  #wanted = 0n;
  #busy = false;
  #retryMs = FIRST_RETRY_MS;
  #cancel: (() => void) | undefined;
  #stopped = false;

  constructor(options: ProviderSyncOptions) {
    this.#options = options;
  }

  /** The revision that a configuration names; settles when it was fetched, or could not be this time. */
  async follow(revision: bigint): Promise<void> {
    if (revision === this.#wanted && revision === this.#options.store.revision) return;
    this.#wanted = revision;
    await this.#fetch();
  }

  stop(): void {
    this.#stopped = true;
    this.#cancel?.();
  }

  async #fetch(): Promise<void> {
    if (this.#busy || this.#stopped) return;
    this.#busy = true;
    this.#cancel?.();
    const { store, fetch, onError } = this.#options;
    try {
      const taken = store.update(await fetch());
      if (!taken.ok) throw new Error(`the credentials contradict themselves: ${taken.error}`);
      this.#retryMs = FIRST_RETRY_MS;
    } catch (error) {
      store.revoke();
      onError(error instanceof Error ? error.message : String(error));
      this.#retry();
    } finally {
      this.#busy = false;
    }
  }

  #retry(): void {
    const { clock, random } = this.#options;
    const delayMs = this.#retryMs * (0.5 + random() / 2);
    this.#retryMs = Math.min(LAST_RETRY_MS, this.#retryMs * 2);
    this.#cancel = clock.after(delayMs, () => void this.#fetch());
  }
}
