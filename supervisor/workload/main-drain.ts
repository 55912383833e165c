import type { Clock } from '../clock.ts';
import type { MainStreams } from './main-streams.ts';

/** How long a process of the background may hold the output open, or the container's output make us wait. */
const DRAIN_MS = 2_000;
/** The last of it is for viewers alone: what the container's output has held back is read for them. */
const VIEWERS_MS = 100;

/**
 * Waits for the output of the main process after its end: settles when all of it is out, at most two seconds after `exited`.
 * Then, or as soon as everything has been read, viewers hear of the end.
 */
export async function drainMain(
  exited: Promise<unknown>,
  streams: Pick<MainStreams, 'read' | 'drained' | 'giveUpContainer' | 'end'>,
  clock: Clock,
): Promise<void> {
  await exited;
  const cancelGivingUp = clock.after(DRAIN_MS - VIEWERS_MS, () => streams.giveUpContainer());
  let cancelLate: (() => void) | undefined;
  const late = new Promise<void>((resolve) => {
    cancelLate = clock.after(DRAIN_MS, resolve);
  });
  void streams.read.then(() => streams.end());
  await Promise.race([streams.drained, late]);
  cancelGivingUp();
  cancelLate?.();
  streams.end();
}
