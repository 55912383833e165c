import { readFileSync } from 'node:fs';
import type { Clock, Random } from '../clock.ts';
import { Fault } from '../fault.ts';
import { err, ok, type Result } from '../result.ts';
import type { ReadSecret } from './tls.ts';

/** Where the token comes from, in the contract's order (contract.md, 3). */
export type TokenSource =
  | { readonly kind: 'env'; readonly reveal: () => string }
  | { readonly kind: 'file'; readonly path: string }
  | { readonly kind: 'kubernetes'; readonly path: string }
  | { readonly kind: 'none' };

/** The two calls that give tokens; `expiresAtMs` 0 means that it does not expire. */
export interface TokenCalls {
  issue(bearer: string): Promise<{ readonly token: string; readonly expiresAtMs: number }>;
  refresh(bearer: string): Promise<{ readonly token: string; readonly expiresAtMs: number }>;
}

const UNKNOWN_LIFETIME_MS = 6 * 3_600_000;
const MAX_DELAY_MS = 12 * 3_600_000;
const RETRY_MS = 10_000;

/** When to refresh a token that expires at `expiresAtMs`: after 80 to 90 % of what is left. */
export function refreshDelay(expiresAtMs: number, nowMs: number, random: Random): number {
  if (expiresAtMs <= 0) return UNKNOWN_LIFETIME_MS;
  const left = expiresAtMs - nowMs;
  return Math.min(MAX_DELAY_MS, Math.max(1_000, left * (0.8 + 0.1 * random())));
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
  #cancel: (() => void) | undefined;

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

  /** Reads the source, and exchanges a service-account token. Also what to do after a refusal. */
  async acquire(): Promise<Result<void, Fault>> {
    const read = this.#read();
    if (!read.ok) return read;
    let expiresAtMs = jwtExpiry(read.value);
    let token = read.value;
    if (this.#source.kind === 'kubernetes') {
      try {
        ({ token, expiresAtMs } = await this.#calls.issue(read.value));
      } catch (cause) {
        return err(new Fault('gateway', 'the gateway did not exchange the service-account token', { cause }));
      }
    }
    this.#adopt(token, expiresAtMs);
    return ok(undefined);
  }

  stop(): void {
    this.#cancel?.();
    this.#cancel = undefined;
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

  #adopt(token: string, expiresAtMs: number): void {
    this.#token = token;
    this.stop();
    if (token === '') return;
    this.#plan(refreshDelay(expiresAtMs, this.#clock.now(), this.#random));
  }

  #plan(delayMs: number): void {
    this.#cancel = this.#clock.after(delayMs, () => {
      this.#calls.refresh(this.#token).then(
        ({ token, expiresAtMs }) => this.#adopt(token, expiresAtMs),
        () => this.#plan(RETRY_MS * (1 + this.#random())),
      );
    });
  }
}

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
