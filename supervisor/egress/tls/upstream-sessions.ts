/** Servers whose latest session is kept. */
const MAX_SERVERS = 256;
/** For so long, in milliseconds, a server need not show its certificate again. */
const MAX_AGE_MS = 600_000;

interface Session {
  readonly ticket: Buffer;
  readonly since: number;
}

/**
 * TLS sessions of servers that have been verified (RFC 8446, 2.2): the next connection to one goes on from there, without
 * certificates and their signatures. Keeps one for each of at most 256 servers, the latest used ones, and each for ten
 * minutes. `now` is monotonic milliseconds.
 */
export class UpstreamSessions {
  readonly #sessions = new Map<string, Session>();
  readonly #now: () => number;

  constructor(now: () => number) {
    this.#now = now;
  }

  /** The session with a server, by a name of its own; undefined when there is none, or it is too old. */
  of(server: string): Buffer | undefined {
    const found = this.#sessions.get(server);
    this.#sessions.delete(server);
    if (found === undefined || this.#now() - found.since > MAX_AGE_MS) return undefined;
    this.#sessions.set(server, found);
    return found.ticket;
  }

  /** Keeps the session with a server that was verified just now, by its certificate. */
  keep(server: string, ticket: Buffer): void {
    this.#sessions.delete(server);
    this.#sessions.set(server, { ticket, since: this.#now() });
    const [oldest] = this.#sessions.keys();
    if (this.#sessions.size > MAX_SERVERS && oldest !== undefined) this.#sessions.delete(oldest);
  }
}
