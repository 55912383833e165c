import { readFileSync } from 'node:fs';
import type { Clock, Random } from '../clock.ts';
import { Fault } from '../fault.ts';
import { err, ok, type Result } from '../result.ts';
import { codeOf, describeCallError, STATUS } from '../rpc/status.ts';
import type { ReadSecret } from './tls.ts';

/** Where the token comes from, in the contract's order (contract.md, 3). */
export type TokenSource =
  | { readonly kind: 'env'; readonly reveal: () => string }
  | { readonly kind: 'file'; readonly path: string }
  | { readonly kind: 'kubernetes'; readonly path: string }
  | { readonly kind: 'none' };

export interface IssuedToken {
  readonly token: string;
  /** Milliseconds since the Unix epoch; 0 means that it does not expire. */
  readonly expiresAtMs: number;
}

/** The two calls that give tokens. */
export interface TokenCalls {
  issue(bearer: string): Promise<IssuedToken>;
  refresh(bearer: string): Promise<IssuedToken>;
}

const UNKNOWN_LIFETIME_MS = 6 * 3_600_000;
const MAX_DELAY_MS = 12 * 3_600_000;
const RETRY_MS = 10_000;
const REFUSED_MS = 30_000;
const MAX_RETRY_MS = 600_000;
/** A timer does not count while the machine sleeps, so the wall clock is looked at this often. */
const LOOK_MS = 60_000;

/**
 * When to refresh a token that expires at `expiresAtMs`: uniformly between half and nine tenths of what is
 * left, so that sandboxes that got theirs together do not come back together, and a tenth remains for trying
 * again. At least 1 s, at most 12 h; 3 to 6 h when the expiry is not known.
 */
export function refreshDelay(expiresAtMs: number, nowMs: number, random: Random): number {
  if (expiresAtMs <= 0) return UNKNOWN_LIFETIME_MS * (0.5 + 0.5 * random());
  const left = expiresAtMs - nowMs;
  return Math.min(MAX_DELAY_MS, Math.max(1_000, left * (0.5 + 0.4 * random())));
}

/** The `exp` of a JWT in milliseconds, unverified; 0 when there is none: it only plans the refresh. */
export function jwtExpiry(token: string): number {
  try {
    const payload: unknown = JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString('utf8'));
    const exp = typeof payload === 'object' && payload !== null && 'exp' in payload ? payload.exp : 0;
    return typeof exp === 'number' && Number.isFinite(exp) ? exp * 1000 : 0;
  } catch {
    return 0;
  }
}

/**
 * Holds the current token in memory. Reads files again whenever the gateway refuses it, because the
 * kubelet and the driver rotate them; never writes it anywhere.
 */
export class TokenHolder {
  readonly #source: TokenSource;
  readonly #calls: TokenCalls;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #readSecret: ReadSecret;
  #token = '';
  #expiresAtMs = 0;
  #failures = 0;
  /** The token is known to be refused, and its replacement is being sought. */
  #recovering = false;
  #cancel: (() => void) | undefined;
  #acquiring: Promise<Result<void, Fault>> | undefined;
  #stopped = false;

  constructor(
    source: TokenSource,
    calls: TokenCalls,
    clock: Clock,
    random: Random,
    readSecret: ReadSecret = readFileSync,
  ) {
    this.#readSecret = readSecret;
    this.#source = source;
    this.#calls = calls;
    this.#clock = clock;
    this.#random = random;
  }

  /** The token to send now; empty when there is none. */
  current(): string {
    return this.#token;
  }

  /** Whether the token's own word says that it is over. An outage may outlast it. */
  expired(): boolean {
    return this.#expiresAtMs > 0 && this.#clock.now() >= this.#expiresAtMs;
  }

  /** A token to dial with: what is held unless there is none or it has expired. */
  async ensure(): Promise<Result<void, Fault>> {
    return this.#token !== '' && !this.expired() ? ok(undefined) : this.acquire();
  }

  /** Reads the source, and exchanges a service-account token. Also what to do after a refusal. */
  acquire(): Promise<Result<void, Fault>> {
    this.#acquiring ??= this.#acquire().finally(() => {
      this.#acquiring = undefined;
    });
    return this.#acquiring;
  }

  /**
   * The gateway refused a call that carried this token. Another one is fetched from the source after 15 to
   * 30 s, and up to 10 min while that does not help, however often this is said.
   */
  refused(token: string): void {
    if (token !== this.#token || this.#recovering || this.#source.kind === 'none') return;
    this.#recovering = true;
    this.#plan(this.#retryDelay(REFUSED_MS), () => this.#recover());
  }

  stop(): void {
    this.#stopped = true;
    this.#cancel?.();
    this.#cancel = undefined;
  }

  async #acquire(): Promise<Result<void, Fault>> {
    const read = this.#read();
    if (!read.ok) return read;
    let issued: IssuedToken = { token: read.value, expiresAtMs: jwtExpiry(read.value) };
    if (this.#source.kind === 'kubernetes') {
      try {
        issued = await this.#calls.issue(read.value);
      } catch (cause) {
        const why = describeCallError(cause);
        const message = `the gateway did not exchange the service-account token: ${why}`;
        return err(new Fault('gateway', message, { cause }));
      }
    }
    this.#adopt(issued);
    return ok(undefined);
  }

  #read(): Result<string, Fault> {
    switch (this.#source.kind) {
      case 'none':
        return ok('');
      case 'env':
        return ok(this.#source.reveal());
      case 'file':
        return readToken(this.#source.path, 'OPENSHELL_SANDBOX_TOKEN_FILE', this.#readSecret);
      case 'kubernetes':
        return readToken(this.#source.path, 'OPENSHELL_K8S_SA_TOKEN_FILE', this.#readSecret);
    }
  }

  #adopt({ token, expiresAtMs }: IssuedToken): void {
    // The source of env and file may hold a token that is over: a refreshed one must not be lost to it.
    const stale = expiresAtMs > 0 && this.#clock.now() >= expiresAtMs;
    if (stale && this.#token !== '' && !this.expired()) return;
    // The same token again is no progress: what asks for it must go on slowing down.
    if (token !== this.#token && !stale) {
      this.#failures = 0;
      this.#recovering = false;
    }
    if (this.#recovering && token === this.#token) return;
    this.#token = token;
    this.#expiresAtMs = expiresAtMs;
    if (token === '') return;
    this.#plan(
      stale ? this.#retryDelay(REFUSED_MS) : refreshDelay(expiresAtMs, this.#clock.now(), this.#random),
    );
  }

  /** Runs the task when either clock says so: the wall clock jumps, the other one stops during sleep. */
  #plan(delayMs: number, task: () => Promise<void> = () => this.#refresh()): void {
    this.#cancel?.();
    this.#cancel = undefined;
    if (this.#stopped) return;
    const clock = this.#clock;
    const [wall, monotonic] = [clock.now() + delayMs, clock.monotonic() + delayMs];
    const look = (): void => {
      const left = Math.min(wall - clock.now(), monotonic - clock.monotonic());
      if (left <= 0) void task();
      else this.#cancel = clock.after(Math.min(LOOK_MS, left), look);
    };
    this.#cancel = clock.after(Math.min(LOOK_MS, delayMs), look);
  }

  async #refresh(): Promise<void> {
    const before = this.#token;
    try {
      if (this.expired()) throw new Fault('credentials', 'the token has expired');
      const issued = await this.#calls.refresh(before);
      if (this.#token === before && !this.#stopped) this.#adopt(issued);
    } catch (error) {
      if (this.#token !== before || this.#stopped) return;
      const gone = error instanceof Fault || GONE.has(codeOf(error));
      if (gone) await this.#recover();
      else this.#plan(this.#retryDelay(RETRY_MS));
    }
  }

  /** What was refused or has run out comes anew from its source; one that has no other is tried again. */
  async #recover(): Promise<void> {
    const before = this.#token;
    await this.acquire();
    if (this.#token !== before || this.#stopped) return;
    this.#recovering = true;
    if (this.#source.kind !== 'kubernetes' && !this.expired()) {
      try {
        const issued = await this.#calls.refresh(before);
        if (this.#token === before && !this.#stopped) this.#adopt(issued);
      } catch {
        // The gateway said no, or is away: either way the next try is planned below.
      }
      if (this.#token !== before) return;
    }
    this.#plan(this.#retryDelay(REFUSED_MS), () => this.#recover());
  }

  /** Half-jittered, doubling from `baseMs` to 10 min. */
  #retryDelay(baseMs: number): number {
    const range = Math.min(MAX_RETRY_MS, baseMs * 2 ** Math.min(this.#failures++, 10));
    return range * (0.5 + 0.5 * this.#random());
  }
}

/** Answers to a refresh after which asking again is in vain. */
const GONE: ReadonlySet<number> = new Set([
  STATUS.UNAUTHENTICATED,
  STATUS.PERMISSION_DENIED,
  STATUS.UNIMPLEMENTED,
]);

function readToken(path: string, variable: string, readSecret: ReadSecret): Result<string, Fault> {
  try {
    const token = readSecret(path).toString('utf8').trim();
    if (token !== '') return ok(token);
    return err(new Fault('credentials', `the token file ${path} is empty; ${variable} names it`));
  } catch (cause) {
    return err(
      new Fault('credentials', `cannot read the token file ${path}, which ${variable} names`, { cause }),
    );
  }
}
