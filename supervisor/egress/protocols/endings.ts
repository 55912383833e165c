import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';

const isSocket = (stream: Duplex): stream is Socket => 'resetAndDestroy' in stream && 'destroySoon' in stream;

/** Breaks a connection off, so that its peer cannot take what came for everything; TLS says that by a missing alert. */
export function breakOff(stream: Duplex): void {
  if (isSocket(stream) && !('encrypted' in stream)) stream.resetAndDestroy();
  else stream.destroy();
}

/** Closes a connection when all that was written has gone out. */
export function closeSoon(stream: Duplex): void {
  if (isSocket(stream)) stream.destroySoon();
  else stream.end(() => stream.destroy());
}

/** When one of two connections is gone so is the other: broken off if that was, else with what was written already. */
export function tieEnds(first: Duplex, second: Duplex): void {
  for (const [one, other] of [
    [first, second],
    [second, first],
  ] as const) {
    one.on('error', () => undefined); // 'close' follows and says that there was one
    one.once('close', (failed?: boolean) => (failed === true ? breakOff(other) : closeSoon(other)));
  }
}
