import { createServer, type Socket } from 'node:net';
import { Fault } from '../../../supervisor/fault.ts';
import { faultOf } from './failure.ts';
import { GatewayClient } from './gateway-client.ts';
import type { Place } from './place.ts';

/** What a forwarded port tells a person. */
export interface ForwardReport {
  readonly listens: (line: string) => void;
  /** A connection has failed; the others go on. */
  readonly failed: (reason: string) => void;
}

/** The local and the remote port of `8000`, `9000:8000` or `0:8000`, which takes a free one of this machine. */
export function portsOf(text: string): readonly [number, number] {
  const [, local = '', remote = local] = /^(\d{1,5})(?::(\d{1,5}))?$/.exec(text) ?? [];
  const ports = [Number(local), Number(remote)] as const;
  if (local === '' || ports[1] === 0 || ports.some((port) => port > 65_535))
    throw new Fault('usage', `the ports must be PORT or LOCAL:PORT, is ${JSON.stringify(text)}`);
  return ports;
}

/** Listens on this machine's loopback, and leads each connection to a port inside a sandbox, until `stopped` settles. */
export async function forwardPort<T>(
  { gateway, sandbox }: Place,
  [localPort, remotePort]: readonly [number, number],
  report: ForwardReport,
  stopped: Promise<T>,
): Promise<T> {
  const client = new GatewayClient(gateway);
  const target = { $case: 'tcp' as const, value: { host: '127.0.0.1', port: remotePort } };
  let over = false;
  const fail = (error: Error): void => {
    if (!over) report.failed(faultOf(error, gateway).message);
  };
  const serve = async (socket: Socket): Promise<void> => {
    const stream = await client.forward(sandbox, target);
    if (socket.destroyed) return void stream.destroy();
    stream.once('error', (error: Error) => {
      fail(error);
      socket.resetAndDestroy();
    });
    socket.once('close', () => {
      // Where both have said their last, what was sent still arrives.
      if (!stream.writableEnded || !stream.readableEnded) stream.destroy();
    });
    socket.pipe(stream);
    stream.pipe(socket);
  };
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    socket.on('error', () => undefined); // its close tells; it may break off before there is a stream
    serve(socket).catch((error: Error) => {
      fail(error);
      socket.destroy();
    });
  });
  try {
    const name = await client.sandboxOf(sandbox);
    const port = await listen(server, localPort, remotePort);
    report.listens(`127.0.0.1:${port} leads to port ${remotePort} of ${name}`);
    return await stopped;
  } finally {
    over = true;
    server.close();
    client.close();
  }
}

async function listen(
  server: ReturnType<typeof createServer>,
  local: number,
  remote: number,
): Promise<number> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      const why = error.code === 'EADDRINUSE' ? 'is taken' : `cannot be had (${error.message})`;
      reject(new Fault('listen', `port ${local} of this machine ${why}: choose another, as in 0:${remote}`));
    });
    server.listen(local, '127.0.0.1', () => resolve());
  });
  const address = server.address();
  return typeof address === 'object' && address !== null ? address.port : local;
}
