import { createServer, type Socket } from 'node:net';
import { GatewayClient } from './gateway-client.ts';
import type { Place } from './place.ts';

const SSH = { $case: 'ssh' as const, value: {} };

/** Copies between this process's streams and the sandbox's SSH server: what OpenSSH's ProxyCommand does. */
export async function sshProxy({ gateway, sandbox }: Place): Promise<number> {
  const client = new GatewayClient(gateway);
  const stream = await client.forward(sandbox, SSH);
  return new Promise((resolve) => {
    const done = (code: number) => (): void => {
      client.close();
      resolve(code);
    };
    stream.once('end', done(0));
    stream.once('error', (error: Error) => {
      process.stderr.write(`dev-gateway: ${error.message}\n`);
      done(1)();
    });
    process.stdin.pipe(stream);
    stream.pipe(process.stdout);
  });
}

/** Listens on this machine's loopback, and leads each connection to a port inside a sandbox; until it is interrupted. */
export async function forwardPort(
  { gateway, sandbox }: Place,
  localPort: number,
  remotePort: number,
  say: (line: string) => void,
): Promise<void> {
  const client = new GatewayClient(gateway);
  const target = { $case: 'tcp' as const, value: { host: '127.0.0.1', port: remotePort } };
  const serve = async (socket: Socket): Promise<void> => {
    const stream = await client.forward(sandbox, target);
    stream.once('error', (error: Error) => {
      say(error.message);
      socket.resetAndDestroy();
    });
    socket.once('error', () => stream.destroy());
    socket.once('close', () => stream.destroy());
    socket.pipe(stream);
    stream.pipe(socket);
  };
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    serve(socket).catch((error: Error) => {
      say(error.message);
      socket.destroy();
    });
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject).listen(localPort, '127.0.0.1', () => resolve());
  });
  const address = server.address();
  const port = typeof address === 'object' && address !== null ? address.port : localPort;
  say(`127.0.0.1:${port} leads to port ${remotePort} of ${sandbox === '' ? 'the sandbox' : sandbox}`);
  await new Promise<void>((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => resolve());
  });
  server.close();
  client.close();
}
