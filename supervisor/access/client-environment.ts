/**
 * What a client may set (RFC 4254, 6.4): how it wants to be spoken to and what time it lives in. Nothing that a loader,
 * a shell or a proxy client obeys is among it, so a client cannot lead a process of the sandbox around its policy.
 */
const ALLOWED = /^(?:LANG|LANGUAGE|LC_[A-Z]{1,32}|TZ|COLORTERM|NO_COLOR|TERM_PROGRAM|TERM_PROGRAM_VERSION)$/;
/** Asks an attachment to the main process to be one that only watches (contract.md, 6); no process sees it. */
export const READ_ONLY = 'OPENSHELL_MAIN_READ_ONLY';

const MAX_VARIABLES = 32;
const MAX_VALUE = 256;

/** The variables that a client has set for one session. */
export class ClientEnvironment {
  readonly #variables = new Map<string, string>();
  #readOnly = false;

  /** Whether the variable was taken. */
  set(name: string, value: string): boolean {
    if (name === READ_ONLY) {
      this.#readOnly = value === '1';
      return true;
    }
    if (!ALLOWED.test(name) || value.length > MAX_VALUE || /\p{Cc}/u.test(value)) return false;
    if (!this.#variables.has(name) && this.#variables.size >= MAX_VARIABLES) return false;
    this.#variables.set(name, value);
    return true;
  }

  get variables(): ReadonlyMap<string, string> {
    return this.#variables;
  }

  get readOnly(): boolean {
    return this.#readOnly;
  }
}

/** The name of the client's terminal, or one that every program can do with. */
export const terminalName = (name: string): string =>
  /^[A-Za-z0-9][A-Za-z0-9+._-]{0,63}$/.test(name) ? name : 'vt100';
