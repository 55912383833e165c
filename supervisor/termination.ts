import { Ending } from './ending.ts';
import type { Foundation } from './foundation.ts';
import type { GatewayPlane } from './gateway-plane.ts';
import type { MainProcess, MainProcessResult } from './workload/main-process.ts';

/** How long the exit report may take, beside the workload's own end. */
const EXIT_REPORT_MS = 10_000;

/** How a sandbox ends: it is asked to, its main process ends, and that is told. */
export class Termination {
  /** Shares out the time that is left. */
  readonly ending: Ending;
  readonly #foundation: Foundation;
  readonly #complain: (message: string) => void;
  #main: MainProcess | undefined;
  #waiting: NodeJS.Signals | undefined;

  /** `complain` writes the one line that says why a workload could not run. */
  constructor(foundation: Foundation, complain: (message: string) => void) {
    this.#foundation = foundation;
    this.#complain = complain;
    this.ending = new Ending(foundation.clock, foundation.config.graceMs);
  }

  /** A signal to the supervisor is meant for the workload from here on. */
  listen(): void {
    for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.on(signal, () => this.ask(signal));
  }

  /** This is the main process; what was asked before there was one has waited for it. */
  watch(main: MainProcess): void {
    this.#main = main;
    if (this.#waiting !== undefined) main.end(this.#waiting);
  }

  /** Asks for the end. A second time hurries. */
  ask(signal: NodeJS.Signals): void {
    const { log } = this.#foundation;
    if (this.ending.asked() === 'hurried') {
      log.warn(`${signal} again: killing the main process`);
      this.#main?.kill();
      return;
    }
    this.#waiting = signal;
    log.info(`${signal}: ending the main process`);
    this.#main?.end(signal);
  }

  /** Tells how the main process ended: whoever started the container, the log, and the gateway where there is one. */
  async tell(result: MainProcessResult, gateway: GatewayPlane | undefined): Promise<void> {
    const { log, logging, limiter, config } = this.#foundation;
    if (result.kind === 'not-started') {
      log.error(`the main process did not start: ${result.message}`);
      this.#complain(result.message);
    } else {
      const [name = ''] = config.main.argv;
      const [pid, exitCode] = [this.#main?.pid ?? 0, result.code];
      logging.ocsf({ class: 'process', activity: 'TERMINATE', severity: 'info', name, pid, exitCode });
    }
    limiter.flush();
    gateway?.denials.stop();
    if (gateway === undefined) return;
    const reported = gateway.link.reportExit(result.code, this.ending.left(EXIT_REPORT_MS));
    if (!(await this.ending.hurriedOr(reported, false)))
      log.warn('the gateway did not acknowledge the exit', { code: result.code });
  }
}
