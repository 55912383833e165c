import type { Clock } from '../clock.ts';

/**
 * Calls `onIdle` once `progress` has stood still for `idleMs` to one and a half times that.
 * Counters are compared twice in the period instead of a timer being moved for each chunk.
 * The returned function stops watching.
 */
export function watchIdle(
  clock: Clock,
  idleMs: number,
  progress: () => number,
  onIdle: () => void,
): () => void {
  let last = progress();
  let still = 0;
  let cancel = clock.after(idleMs / 2, check);
  function check(): void {
    const now = progress();
    still = now === last ? still + 1 : 0;
    last = now;
    if (still >= 2) onIdle();
    else cancel = clock.after(idleMs / 2, check);
  }
  return () => cancel();
}
