import type { Clock } from '../clock.ts';
import { MainAttachment, type MainProcessView, statusOf } from './main-attachment.ts';
import type { SubsystemContext, SubsystemStarter } from './session-channel.ts';

/** Everybody who is attached to the main process: the subsystem `openshell-main` (contract.md, 6). */
export class MainAttachments {
  readonly #clock: Clock;
  readonly #view: MainProcessView | undefined;
  #exitStatus: number | undefined;
  readonly #open = new Set<MainAttachment>();
  #noneLeft: () => void = () => undefined;

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
    const attachment = new MainAttachment(context, {
      clock: this.#clock,
      view: this.#view,
      exitStatus: () => this.#exitStatus,
    });
    this.#open.add(attachment);
    context.onClosed(() => {
      this.#open.delete(attachment);
      if (this.#open.size === 0) this.#noneLeft();
    });
  };

  /**
   * The main process has ended. Settles when all clients have got the rest of its output and its exit status, and have closed
   * their channels, at most after `limitMs`: who has not got the rest after two thirds of that gets the status alone.
   */
  async closed(limitMs: number): Promise<void> {
    if (this.#open.size === 0) return;
    const cancelCut = this.#clock.after((limitMs * 2) / 3, () => {
      for (const attachment of this.#open) attachment.cut();
    });
    let cancelLimit: (() => void) | undefined;
    await new Promise<void>((resolve) => {
      this.#noneLeft = resolve;
      cancelLimit = this.#clock.after(limitMs, resolve);
    });
    cancelCut();
    cancelLimit?.();
  }
}
