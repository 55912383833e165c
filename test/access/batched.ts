import { Duplex } from 'node:stream';

/** Longer than a server needs for all that it says at once. */
const HELD_MS = 30;

/**
 * A stream that hands over in one piece what comes within some milliseconds, as one TCP segment or one HTTP/2 frame may; from
 * the time on that `begun` says, for ssh2's client cannot read the first encrypted packets together with the exchange of keys.
 */
export function batched(inner: Duplex, begun: () => boolean): Duplex {
  let held: Buffer[] = [];
  const stream = new Duplex({
    read: () => undefined,
    write: (chunk: Buffer, _encoding, done) => void inner.write(chunk, () => done()),
    final: (done) => void inner.end(done),
    destroy(error, done) {
      inner.destroy();
      done(error);
    },
  });
  const release = (): void => {
    if (held.length > 0) stream.push(Buffer.concat(held));
    held = [];
  };
  inner.on('data', (chunk: Buffer) => {
    if (!begun()) return void stream.push(chunk);
    if (held.length === 0) setTimeout(release, HELD_MS);
    held.push(chunk);
  });
  inner.once('end', () => {
    release();
    stream.push(null);
  });
  inner.once('close', () => stream.destroy());
  return stream;
}
