import { type Clock, systemClock } from '../../supervisor/clock.ts';

/** The machine's clock, running `factor` times as fast: for real sockets under delays of half a minute. */
export function fastClock(factor: number): Clock {
  const [wall, monotonic] = [systemClock.now(), systemClock.monotonic()];
  return {
    now: () => wall + (systemClock.now() - wall) * factor,
    monotonic: () => monotonic + (systemClock.monotonic() - monotonic) * factor,
    after: (delayMs, task) => systemClock.after(delayMs / factor, task),
  };
}
