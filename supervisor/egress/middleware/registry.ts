import type { SupervisorMiddlewareService } from '../../../proto/generated/openshell/sandbox/v1/sandbox.ts';
import { SupervisorMiddlewareService as Wire } from '../../../proto/generated/openshell/sandbox/v1/sandbox.ts';
import type { Clock, Random } from '../../clock.ts';
import { err } from '../../result.ts';
import { describeCallError } from '../../rpc/status.ts';
import type { Resolve } from '../resolver.ts';
import { type Registration, readManifest, readRegistration } from './manifest.ts';
import { REGEX_BINDINGS, REGEX_NAME, RegexMiddleware } from './regex.ts';
import type { Bindings, MiddlewareService } from './service.ts';
import { ServiceClient } from './service-client.ts';

/** A middleware that can be asked. */
export interface Available {
  readonly name: string;
  readonly service: MiddlewareService;
  readonly bindings: Bindings;
}

export interface RegistryOptions {
  readonly clock: Clock;
  readonly random: Random;
  readonly resolve: Resolve;
  /** The credential that the gateway minted for a service. */
  readonly credential: (service: string) => string | undefined;
  /** What can be asked has changed: decisions of before are not to be gone by. */
  readonly onChange: () => void;
  /** One sentence for the operator. */
  readonly onProblem: (message: string) => void;
}

const MAX_SERVICES = 64;
const FIRST_RETRY_MS = 1_000;
const LAST_RETRY_MS = 60_000;

interface Entry {
  readonly registration: Registration;
  readonly client: ServiceClient;
  bindings: Bindings | undefined;
  /** Resolved when it has been asked once, with its credential where it needs one. */
  readonly asked: PromiseWithResolvers<void>;
  failures: number;
  cancel: (() => void) | undefined;
}

/**
 * The middlewares that there are: the built-in at once, the gateway's services once they have described themselves. A
 * service that cannot be reached, or whose manifest is refused, is asked again after 0.5 to 1 s, and up to a minute.
 */
export class MiddlewareRegistry {
  readonly #options: RegistryOptions;
  readonly #builtIns: ReadonlyMap<string, Available>;
  #services = new Map<string, Entry>();
  #told = '';

  constructor(options: RegistryOptions) {
    this.#options = options;
    const regex = { name: REGEX_NAME, service: new RegexMiddleware(), bindings: REGEX_BINDINGS };
    this.#builtIns = new Map([[REGEX_NAME, regex]]);
  }

  /** Undefined for what is not registered, or has not described itself yet. */
  find(name: string): Available | undefined {
    const builtIn = this.#builtIns.get(name);
    if (builtIn !== undefined) return builtIn;
    const entry = this.#services.get(name);
    return entry?.bindings === undefined
      ? undefined
      : { name, service: entry.client, bindings: entry.bindings };
  }

  /** Services whose calls carry a credential of the gateway's. */
  get authenticated(): readonly string[] {
    return [...this.#services.values()]
      .filter(({ registration }) => registration.authenticated)
      .map(({ registration }) => registration.name);
  }

  /**
   * Makes these the services that there are; nothing happens when they are the same as before. One that is wrong is
   * left out and said in the log, so that whatever must pass it is refused, and nothing else.
   */
  replace(services: readonly SupervisorMiddlewareService[], authentication: boolean): void {
    const told = JSON.stringify([
      authentication,
      services.map((one) => Buffer.from(Wire.encode(one).finish()).toString('base64')),
    ]);
    if (told === this.#told || (this.#told === '' && services.length === 0)) return;
    this.#told = told;
    this.#close();
    for (const service of services.slice(0, MAX_SERVICES)) this.#register(service, authentication);
    if (services.length > MAX_SERVICES)
      this.#options.onProblem(`only the first ${MAX_SERVICES} of ${services.length} middlewares are used`);
    this.#options.onChange();
    for (const entry of this.#services.values()) void this.#describe(entry);
  }

  /** Resolves when each service has been asked once, or after so many milliseconds. */
  async settled(withinMs: number): Promise<void> {
    const waited = [...this.#services.values()].map(({ asked }) => asked.promise);
    if (waited.length === 0) return;
    await new Promise<void>((resolve) => {
      const cancel = this.#options.clock.after(withinMs, resolve);
      void Promise.all(waited).then(() => {
        cancel();
        resolve();
      });
    });
  }

  /** Credentials have come: whoever waited for one is asked now. */
  retry(): void {
    for (const entry of this.#services.values()) {
      if (entry.bindings !== undefined || entry.cancel === undefined) continue;
      entry.cancel();
      entry.cancel = undefined;
      void this.#describe(entry);
    }
  }

  stop(): void {
    this.#close();
  }

  #register(service: SupervisorMiddlewareService, authentication: boolean): void {
    const { clock, random, resolve, credential, onProblem } = this.#options;
    const name = service.name.slice(0, 128);
    const read = this.#services.has(name)
      ? err('another one has the same name')
      : readRegistration(service, authentication);
    if (!read.ok) {
      onProblem(`the middleware ${name} cannot be used: ${read.error}`);
      return;
    }
    const registration = read.value;
    try {
      const client = new ServiceClient({
        clock,
        random,
        resolve,
        registration,
        credential: () => credential(name),
      });
      this.#services.set(name, {
        registration,
        client,
        asked: Promise.withResolvers(),
        bindings: undefined,
        failures: 0,
        cancel: undefined,
      });
    } catch {
      onProblem(`the middleware ${name} cannot be used: its tls_ca_cert_pem is no certificate`);
    }
  }

  async #describe(entry: Entry): Promise<void> {
    const { clock, random, credential, onChange, onProblem } = this.#options;
    const { name, authenticated } = entry.registration;
    // One that has just been named waits for its credential, which is no news.
    const waits = authenticated && credential(name) === undefined;
    const problem = await this.#problemOf(entry);
    if (!this.#inUse(entry)) return;
    if (!waits) entry.asked.resolve();
    if (problem === undefined) return onChange();
    if (entry.failures === (waits ? 1 : 0)) onProblem(`the middleware ${name} cannot be asked: ${problem}`);
    const range = Math.min(LAST_RETRY_MS, FIRST_RETRY_MS * 2 ** Math.min(entry.failures++, 10));
    entry.cancel = clock.after(range * (0.5 + 0.5 * random()), () => void this.#describe(entry));
  }

  /** Asks a service what it offers; says why that cannot be known. */
  async #problemOf(entry: Entry): Promise<string | undefined> {
    try {
      const bindings = readManifest(await entry.client.describe(), entry.registration);
      if (!bindings.ok) return bindings.error;
      entry.bindings = bindings.value;
      return undefined;
    } catch (error) {
      return describeCallError(error);
    }
  }

  #inUse(entry: Entry): boolean {
    return this.#services.get(entry.registration.name) === entry;
  }

  #close(): void {
    for (const { cancel, client } of this.#services.values()) {
      cancel?.();
      client.close();
    }
    this.#services = new Map();
  }
}
