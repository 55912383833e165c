import { type Duplex, duplexPair } from 'node:stream';

/**
 * Two ends of a connection inside this process. As with a socket, who destroys one end takes the other one with it: Node's own
 * pair would only end it, so that a server waits for ever to write to who has gone. What an end has written before it
 * closed is still read at the other one.
 */
export function streamPair(): readonly [Duplex, Duplex] {
  const [one, other] = duplexPair();
  tie(one, other);
  tie(other, one);
  return [one, other];
}

function tie(from: Duplex, to: Duplex): void {
  from.once('close', () => {
    const written = from.writableFinished;
    // Cut off: there is no end that could still be told.
    if (!written || to.readableEnded) to.destroy();
    else to.once('end', () => to.destroy());
  });
}
