/**
 * Every way in which the supervisor can fail to start or be forced to stop, with the exit
 * code that the container then ends with. The codes follow sysexits.h where one fits, so that
 * they do not look like a common workload's; 124, 126 and 127 follow env(1) and timeout(1).
 */
export const EXIT_CODE = {
  /** Unknown or malformed flags. */
  usage: 64,
  /** The policy does not parse or does not validate. */
  policy: 65,
  /** The gateway cannot be reached or refuses us, and there is nothing to fall back on. */
  gateway: 69,
  /** A defect of the supervisor. */
  internal: 70,
  /** The kernel or the container does not allow the confinement that the policy demands. */
  confinement: 71,
  /** An address that the supervisor must listen on is taken or not allowed. */
  listen: 73,
  /** The token or a certificate is missing, empty or unreadable. */
  credentials: 77,
  /** The environment or a configuration file is malformed. */
  config: 78,
  /** `--timeout` ended the main process. */
  timeout: 124,
  /** The workload's binary exists and cannot be executed. */
  notExecutable: 126,
  /** The workload's binary does not exist. */
  notFound: 127,
} as const;

export type FaultKind = keyof typeof EXIT_CODE;

/** A failure that ends the start: one clear sentence, its exit code, and what caused it. */
export class Fault extends Error {
  readonly kind: FaultKind;

  constructor(kind: FaultKind, message: string, options?: { readonly cause?: unknown }) {
    super(message, options);
    this.name = 'Fault';
    this.kind = kind;
  }

  /** The exit code that the container ends with. */
  get exitCode(): number {
    return EXIT_CODE[this.kind];
  }
}
