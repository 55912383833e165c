import type { Clock } from '../clock.ts';
import { MainAttachment, type MainProcessView, statusOf } from './main-attachment.ts';
import type { SubsystemContext, SubsystemStarter } from './session-channel.ts';

/** Everybody who is attached to the main process: the subsystem `openshell-main` (contract.md, 6). */
export class MainAttachments {
  readonly #clock: Clock;
  readonly #view: MainProcessView | undefined;
  #exitStatus: number | undefined;

  /** Without a view everybody is refused. */
  constructor(clock: Clock, view: MainProcessView | undefined) {
    this.#clock = clock;
    this.#view = view;
    // Once for all: each of them would stay on the list of who waits for it.
    void view?.exitCode.then((code) => {
      this.#exitStatus = statusOf(code);
    });
  }

  readonly start: SubsystemStarter = (context: SubsystemContext) => {
    new MainAttachment(context, {
      clock: this.#clock,
      view: this.#view,
      exitStatus: () => this.#exitStatus,
    });
  };
}
