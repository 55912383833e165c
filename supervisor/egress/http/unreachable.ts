import type { Upstream } from './upstream.ts';

/** A server that cannot be spoken to: each request is answered with why. */
export function unreachable(why: string): Upstream {
  return {
    send: () => ({ answer: Promise.reject(new Error(why)), abort: () => undefined }),
    close: () => undefined,
  };
}
