import { randomBytes } from 'node:crypto';

/** Contract.md, 1.10. */
const TTL_MS = 3_600_000;
const PER_TOKEN = 3;
const PER_SANDBOX = 20;
const MAX_SESSIONS = 1_000;

interface SshSession {
  readonly sandboxId: string;
  readonly expiresAtMs: number;
  connections: number;
}

/** Tokens of users for connections into a sandbox. */
export class SshSessions {
  readonly #sessions = new Map<string, SshSession>();

  create(sandboxId: string): { readonly token: string; readonly expiresAtMs: number } {
    const token = randomBytes(32).toString('base64url');
    const expiresAtMs = Date.now() + TTL_MS;
    this.#sessions.set(token, { sandboxId, expiresAtMs, connections: 0 });
    const [oldest] = this.#sessions.keys();
    if (this.#sessions.size > MAX_SESSIONS && oldest !== undefined) this.#sessions.delete(oldest);
    return { token, expiresAtMs };
  }

  revoke(token: string): boolean {
    return this.#sessions.delete(token);
  }

  /** A connection by a token; what it returns ends it. Undefined when the token is none, and `full` when it has enough. */
  connect(token: string, sandboxId: string): (() => void) | 'full' | undefined {
    const session = this.#sessions.get(token);
    if (session === undefined || session.sandboxId !== sandboxId || session.expiresAtMs < Date.now())
      return undefined;
    const ofSandbox = [...this.#sessions.values()]
      .filter((one) => one.sandboxId === sandboxId)
      .reduce((sum, { connections }) => sum + connections, 0);
    if (session.connections >= PER_TOKEN || ofSandbox >= PER_SANDBOX) return 'full';
    session.connections += 1;
    let open = true;
    return () => {
      if (open) session.connections -= 1;
      open = false;
    };
  }
}
