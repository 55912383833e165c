import type { Fault } from './fault.ts';
import type { Logger } from './observability/log.ts';
import type { Result } from './result.ts';

/** Unwraps a step's result, or throws its fault with the step's name in the log. */
export type Need = <T>(step: string, result: Result<T, Fault>) => T;

/** Steps of the start, told in `log`. */
export const neededBy =
  (log: Logger): Need =>
  (step, result) => {
    if (result.ok) {
      log.debug(`done: ${step}`);
      return result.value;
    }
    log.error(`cannot ${step}: ${result.error.message}`, { kind: result.error.kind });
    throw result.error;
  };
