import type { Clock } from '../clock.ts';
import { CallError, STATUS } from './status.ts';

/** The promise, or a CallError of DEADLINE_EXCEEDED when it takes longer than `limitMs`; it is left to itself then. */
export async function within<T>(clock: Clock, limitMs: number, promise: Promise<T>): Promise<T> {
  let cancel: (() => void) | undefined;
  const late = new Promise<never>((_, reject) => {
    cancel = clock.after(limitMs, () =>
      reject(new CallError(STATUS.DEADLINE_EXCEEDED, `not within ${Math.round(limitMs)} ms`)),
    );
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    cancel?.();
  }
}
