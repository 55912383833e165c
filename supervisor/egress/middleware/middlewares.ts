import type { Clock } from '../../clock.ts';
import type { CompiledMiddleware } from '../../policy/compilation.ts';
import { type Release, SessionPlaces, WorkAdmission } from './admission.ts';
import { type ChainOutcome, type ChainRequest, runHttpChain } from './http-chain.ts';
import type { MiddlewareRegistry } from './registry.ts';
import { MiddlewareSession, type SessionOutcome, type SessionRequest } from './session.ts';
import { type Stage, stagesOf } from './stage.ts';
import type { SandboxName } from './subject.ts';

export interface MiddlewaresOptions {
  readonly clock: Clock;
  readonly registry: MiddlewareRegistry;
  readonly sandbox: () => SandboxName;
  readonly work?: WorkAdmission;
}

/** What requests and WebSockets pass before their credentials are put in. Its bounds hold for all of them together. */
export class Middlewares {
  readonly #options: MiddlewaresOptions;
  readonly #work: WorkAdmission;
  readonly #sessions = new SessionPlaces();

  constructor(options: MiddlewaresOptions) {
    this.#options = options;
    this.#work = options.work ?? new WorkAdmission();
  }

  get sandbox(): SandboxName {
    return this.#options.sandbox();
  }

  /** The stages that look at a request, in order; often none. */
  httpStages(middlewares: readonly CompiledMiddleware[]): readonly Stage[] {
    return middlewares.length === 0 ? [] : stagesOf(middlewares, this.#options.registry, 'http').stages;
  }

  /** The largest body that any of the stages would take; 0 when none can be asked. */
  static largestBody(stages: readonly Stage[]): number {
    return Math.max(0, ...stages.map(({ ready }) => (ready.ok ? ready.value.binding.maxPayloadBytes : 0)));
  }

  /** Undefined when too many evaluations wait already. */
  async evaluate(stages: readonly Stage[], request: ChainRequest): Promise<ChainOutcome | undefined> {
    const release = await this.#work.enter();
    if (release === undefined) return undefined;
    try {
      return await runHttpChain(this.#options.clock, stages, request);
    } finally {
      release();
    }
  }

  /**
   * Asks those that look at WebSockets whether they want to see this one, before the server is. Undefined when too many
   * evaluations wait already.
   */
  async preflight(
    middlewares: readonly CompiledMiddleware[],
    request: SessionRequest,
  ): Promise<SessionOutcome | undefined> {
    const { clock, registry } = this.#options;
    const { stages, unbound } = stagesOf(middlewares, registry, 'webSocket');
    for (const { name, service } of unbound)
      request.tell({
        middleware: name,
        service,
        operation: 'preflight',
        outcome: 'not-covered',
        code: 'binding_not_selected',
        findings: [],
      });
    if (stages.length === 0) return { kind: 'passed', session: undefined };
    const release = await this.#work.enter();
    if (release === undefined) return undefined;
    try {
      const enter = (): Promise<Release | undefined> => this.#work.enter();
      return await MiddlewareSession.open(clock, stages, request, this.#sessions.take(), enter);
    } finally {
      release();
    }
  }
}
