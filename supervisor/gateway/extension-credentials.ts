import type { ExtensionCredential } from '../../proto/generated/openshell/v1/openshell.ts';
import type { Clock, Random } from '../clock.ts';
import { describeCallError } from '../rpc/status.ts';
import { refreshDelay } from './token.ts';

export interface ExtensionCredentialsOptions {
  readonly clock: Clock;
  readonly random: Random;
  /** Asks the gateway for one credential for each service. */
  readonly mint: (services: readonly string[]) => Promise<readonly ExtensionCredential[]>;
  /** There are new ones. */
  readonly onFresh: () => void;
  readonly onError: (message: string) => void;
}

/** The gateway mints at most ten times a minute, for at most 64 services (contract.md, 3). */
const MAX_SERVICES = 64;
const FIRST_RETRY_MS = 10_000;
const LAST_RETRY_MS = 120_000;

/** The credentials that the gateway mints for middlewares of the operator's. In memory only. */
export class ExtensionCredentials {
  readonly #options: ExtensionCredentialsOptions;
  readonly #held = new Map<string, { readonly token: string; readonly expiresAtMs: number }>();
  #wanted: readonly string[] = [];
  #failures = 0;
  #round = 0;
  #cancel: (() => void) | undefined;

  constructor(options: ExtensionCredentialsOptions) {
    this.#options = options;
  }

  /** The credential for a service; undefined when there is none, or none that is still good. */
  current(service: string): string | undefined {
    const held = this.#held.get(service);
    if (held === undefined) return undefined;
    const over = held.expiresAtMs > 0 && this.#options.clock.now() >= held.expiresAtMs;
    return over ? undefined : held.token;
  }

  /** These services need one each, and no others. */
  want(services: readonly string[]): void {
    const wanted = [...new Set(services)].sort().slice(0, MAX_SERVICES);
    if (wanted.join(' ') === this.#wanted.join(' ')) return;
    this.#wanted = wanted;
    for (const name of this.#held.keys()) if (!wanted.includes(name)) this.#held.delete(name);
    this.#failures = 0;
    this.#cancel?.();
    if (wanted.length > 0) void this.#mint();
  }

  stop(): void {
    this.#wanted = [];
    this.#round += 1;
    this.#cancel?.();
  }

  async #mint(): Promise<void> {
    const { clock, random, mint, onFresh, onError } = this.#options;
    const round = ++this.#round;
    const wanted = this.#wanted;
    let delayMs: number;
    try {
      const minted = await mint(wanted);
      if (round !== this.#round) return;
      const names = minted.map(({ serviceName }) => serviceName).sort();
      if (names.join(' ') !== wanted.join(' ') || minted.some(({ token }) => token === ''))
        throw new Error('the gateway gave credentials for other services than were asked for');
      for (const { serviceName, token, expiresAtMs } of minted)
        this.#held.set(serviceName, { token, expiresAtMs: Number(expiresAtMs) });
      this.#failures = 0;
      const delays = minted.map(({ expiresAtMs }) => refreshDelay(Number(expiresAtMs), clock.now(), random));
      // Never so often that the gateway would refuse.
      delayMs = Math.max(FIRST_RETRY_MS, Math.min(...delays));
      onFresh();
    } catch (error) {
      if (round !== this.#round) return;
      if (this.#failures === 0) onError(`no credentials for middlewares: ${describeCallError(error)}`);
      const range = Math.min(LAST_RETRY_MS, FIRST_RETRY_MS * 2 ** Math.min(this.#failures++, 10));
      delayMs = range * (0.5 + 0.5 * random());
    }
    this.#cancel = clock.after(delayMs, () => void this.#mint());
  }
}
