import { GetInferenceBundleResponse } from '../../../proto/generated/openshell/inference/v1/inference.ts';
import type { Clock, Random } from '../../clock.ts';
import { type InferenceRoute, readRoute, WORKLOAD_ROUTE } from './route.ts';

export interface RouteTableOptions {
  readonly clock: Clock;
  readonly random: Random;
  /** Asks the gateway; rejects with what it says. Undefined where the routes are a file's. */
  readonly fetch: (() => Promise<GetInferenceBundleResponse>) | undefined;
  readonly onChange: (routes: readonly InferenceRoute[]) => void;
  /** A route cannot be used, or the gateway cannot be asked; each once until it is another. */
  readonly onFault: (message: string) => void;
}

/** Contract.md, 9. */
const REFRESH_MS = 5_000;
const MAX_RETRY_MS = 60_000;
const MAX_ROUTES = 64;

/**
 * The routes of inference.local, kept in step with the gateway's: asked for every 5 s, give or take a seventh. What cannot be
 * fetched leaves the last ones in force, and is tried again more and more seldom.
 */
export class RouteTable {
  readonly #options: RouteTableOptions;
  #routes: readonly InferenceRoute[] = [];
  /** The bundle that was taken last: its revision, or where it has none, all of it. */
  #taken: string | undefined;
  #retryMs = REFRESH_MS;
  #told = '';
  #cancel: (() => void) | undefined;
  #stopped = false;

  constructor(options: RouteTableOptions) {
    this.#options = options;
  }

  /** The route of an API; `none` says that there are routes, but none for it. */
  find(protocol: string): InferenceRoute | 'none' | 'no-routes' {
    if (this.#routes.length === 0) return 'no-routes';
    return this.#routes.find(({ protocols }) => protocols.has(protocol)) ?? 'none';
  }

  /** Takes the routes of a file, or of anybody else but the gateway. */
  set(routes: readonly InferenceRoute[]): void {
    this.#routes = routes;
    this.#options.onChange(routes);
  }

  /** Asks now, and then again and again. Settles with the first answer, or without one. */
  async start(): Promise<void> {
    const { clock, random, fetch } = this.#options;
    if (fetch === undefined || this.#stopped) return;
    try {
      const bundle = await fetch();
      this.#told = '';
      this.#take(bundle);
      this.#retryMs = REFRESH_MS;
    } catch (error) {
      this.#tell(`the routes cannot be fetched: ${error instanceof Error ? error.message : String(error)}`);
      this.#retryMs = Math.min(MAX_RETRY_MS, this.#retryMs * 2);
    }
    if (this.#stopped) return;
    this.#cancel = clock.after(this.#retryMs * (6 / 7 + (random() * 2) / 7), () => void this.start());
  }

  stop(): void {
    this.#stopped = true;
    this.#cancel?.();
  }

  #take(bundle: GetInferenceBundleResponse): void {
    const taken = bundle.revision === '' ? contentOf(bundle) : `revision ${bundle.revision}`;
    if (taken === this.#taken) return;
    this.#taken = taken;
    const { routes } = bundle;
    const read = routes
      // The others are for the supervisor's own calls (contract.md, 1.8).
      .filter(({ name }) => name === WORKLOAD_ROUTE)
      .slice(0, MAX_ROUTES)
      .map(readRoute);
    const faults = read.flatMap((one) => (one.ok ? [] : [one.error]));
    if (faults.length > 0) this.#tell(faults.join('; '));
    this.set(read.flatMap((one) => (one.ok ? [one.value] : [])));
  }

  #tell(message: string): void {
    if (message !== this.#told) this.#options.onFault(message);
    this.#told = message;
  }
}

/** When it was made says nothing about what is in it. */
const contentOf = (bundle: GetInferenceBundleResponse): string =>
  Buffer.from(GetInferenceBundleResponse.encode({ ...bundle, generatedAtMs: 0n }).finish()).toString(
    'latin1',
  );
