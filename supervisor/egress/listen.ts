import { createServer, type Server } from 'node:net';
import { err, ok, type Result } from '../result.ts';

/**
 * Makes a TCP listener on a loopback address where the workload can reach it; the error says why not. Whoever asks takes
 * connections from it in the same turn of the event loop.
 */
export type Listen = (host: string, port: number) => Promise<Result<Server, string>>;

const LOW_PORTS = 1024;
const BACKLOG = 511;

/** Listens on this process's own loopback, which is the workload's too in the socket fence. */
export const listenHere: Listen = (host, port) =>
  new Promise((resolve) => {
    const server = createServer();
    server.once('error', (error: NodeJS.ErrnoException) => resolve(err(explain(error, host, port))));
    server.listen({ host, port, backlog: BACKLOG, exclusive: true }, () => {
      server.removeAllListeners('error');
      resolve(ok(server));
    });
  });

function explain({ code, message }: NodeJS.ErrnoException, host: string, port: number): string {
  if (code === 'EACCES' && port < LOW_PORTS)
    return `ports below ${LOW_PORTS} are closed to this user: set the pod's safe sysctl net.ipv4.ip_unprivileged_port_start to 0`;
  return code === 'EADDRINUSE' ? `${host}:${port} is taken` : (code ?? message);
}
