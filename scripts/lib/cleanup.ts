/**
 * What must be undone when the process is interrupted. Each entry is undone at most once, the latest first.
 */
const pending: Array<() => Promise<void>> = [];
let listening = false;

const interrupted = (code: number) => (): void => {
  const undo = async (): Promise<void> => {
    for (let one = pending.pop(); one !== undefined; one = pending.pop()) {
      await one().catch((error: unknown) => console.error(String(error)));
    }
    process.exit(code);
  };
  void undo();
};

/**
 * Registers `undo` for SIGINT, SIGTERM and SIGHUP, and returns a function that undoes it now.
 * What a killed process leaves is collected by the next one (owner.ts).
 */
export const undoAtExit = (undo: () => Promise<void>): (() => Promise<void>) => {
  if (!listening) {
    listening = true;
    process.once('SIGINT', interrupted(130));
    process.once('SIGTERM', interrupted(143));
    process.once('SIGHUP', interrupted(129));
  }
  pending.push(undo);
  return async () => {
    const at = pending.indexOf(undo);
    if (at === -1) return;
    pending.splice(at, 1);
    await undo();
  };
};
