import { createServer } from 'node:http';
import { Fault } from '../fault.ts';
import { err, ok, type Result } from '../result.ts';

export interface HealthOptions {
  readonly host: string;
  readonly port: number;
  /** Ready, or the reasons why not. */
  readonly readiness: () => { readonly ready: boolean; readonly reasons: readonly string[] };
  readonly metrics: () => Promise<string>;
}

export interface HealthServer {
  readonly port: number;
  stop(): Promise<void>;
}

const MAX_CONNECTIONS = 64;
const TIMEOUT_MS = 5_000;

/**
 * Serves /healthz, /readyz and /metrics on a port of their own: GET and HEAD only, at most 64 connections
 * (more are dropped), 5 s a request. Fails with a Fault of kind `listen` when the port is taken.
 */
export async function startHealthServer(options: HealthOptions): Promise<Result<HealthServer, Fault>> {
  const server = createServer(
    { requestTimeout: TIMEOUT_MS, headersTimeout: TIMEOUT_MS, maxHeaderSize: 8192 },
    (request, response) => {
      const send = (status: number, type: string, body: string): void => {
        response.writeHead(status, {
          'content-type': type,
          'content-length': Buffer.byteLength(body),
          connection: 'close',
        });
        response.end(request.method === 'HEAD' ? '' : body);
      };
      if (request.method !== 'GET' && request.method !== 'HEAD')
        return send(405, 'text/plain', 'GET or HEAD only\n');
      switch (request.url) {
        case '/healthz':
          return send(200, 'text/plain', 'ok\n');
        case '/readyz': {
          const { ready, reasons } = options.readiness();
          return send(ready ? 200 : 503, 'application/json', `${JSON.stringify({ ready, reasons })}\n`);
        }
        case '/metrics':
          options.metrics().then(
            (text) => send(200, 'text/plain; version=0.0.4', text),
            () => send(500, 'text/plain', 'the metrics cannot be read\n'),
          );
          return;
        default:
          return send(404, 'text/plain', 'there are /healthz, /readyz and /metrics\n');
      }
    },
  );
  server.maxConnections = MAX_CONNECTIONS;
  const failure = await new Promise<NodeJS.ErrnoException | undefined>((resolve) => {
    server.once('error', resolve);
    server.listen({ host: options.host, port: options.port }, () => resolve(undefined));
  });
  if (failure !== undefined) {
    const why = failure.code === 'EADDRINUSE' ? 'the port is taken' : (failure.code ?? failure.message);
    const message = `health cannot listen on ${options.host}:${options.port}: ${why}; choose another port with --health-port`;
    return err(new Fault('listen', message, { cause: failure }));
  }
  const address = server.address();
  server.removeAllListeners('error');
  server.on('error', () => undefined);
  return ok({
    port: typeof address === 'object' && address !== null ? address.port : options.port,
    stop: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  });
}
