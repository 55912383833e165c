import { connect, isIP, type Socket } from 'node:net';
import type { Clock } from '../clock.ts';
import { err, ok, type Result } from '../result.ts';

export interface DialRequest {
  /** An IP literal; a name is refused, because Node would hand it to getaddrinfo. */
  readonly address: string;
  readonly port: number;
  readonly timeoutMs: number;
  readonly clock: Clock;
  readonly signal: AbortSignal;
}

/** Opens a TCP connection, or says why not. The socket is half-open capable; its errors are swallowed until its owner listens. */
export type Dial = (request: DialRequest) => Promise<Result<Socket, string>>;

/** Connects to one address with a time limit. */
export const dial: Dial = ({ address, port, timeoutMs, clock, signal }) => {
  if (isIP(address) === 0) return Promise.resolve(err(`${address} is not an IP address`));
  if (signal.aborted) return Promise.resolve(err('the client went away'));
  return new Promise((resolve) => {
    const socket = connect({ host: address, port, allowHalfOpen: true, noDelay: true });
    const settle = (result: Result<Socket, string>): void => {
      cancel();
      signal.removeEventListener('abort', onAbort);
      socket.removeListener('error', onError);
      socket.removeListener('connect', onConnect);
      // An error may follow before the new owner listens, or while a connecting socket is destroyed;
      // without a listener it would end the process.
      socket.on('error', ignore);
      if (!result.ok) socket.destroy();
      resolve(result);
    };
    const onConnect = (): void => settle(ok(socket));
    const onError = (error: NodeJS.ErrnoException): void =>
      settle(err(`connecting to ${address} port ${port} failed: ${error.code ?? error.message}`));
    const onAbort = (): void => settle(err('the client went away'));
    const cancel = clock.after(timeoutMs, () =>
      settle(err(`connecting to ${address} port ${port} took longer than ${Math.round(timeoutMs)} ms`)),
    );
    socket.once('connect', onConnect);
    socket.once('error', onError);
    signal.addEventListener('abort', onAbort, { once: true });
  });
};

function ignore(): void {}
