import { isDeepStrictEqual } from 'node:util';

const PAUSE_MS = 500;
const TRIES = 20;

/** What `read` says as soon as it says the same twice, half a second apart: what is still on its way is no measure. */
export async function settled<Value>(read: () => Value): Promise<Value> {
  let last = read();
  for (let tries = 0; tries < TRIES; tries++) {
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    const now = read();
    if (isDeepStrictEqual(now, last)) return now;
    last = now;
  }
  return last;
}
