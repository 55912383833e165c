import type { RequestListener, Server } from 'node:http';
import { createServer as createHttp } from 'node:http';
import { type ClientHttp2Session, connect as connectHttp2, createSecureServer } from 'node:http2';
import { createServer as createTls } from 'node:https';
import { connect, type Socket } from 'node:net';
import { connect as connectTls, type SecureContext, type TLSSocket } from 'node:tls';
import type { ExplicitProxyOptions } from '../../supervisor/egress/proxy.ts';
import {
  type CertificateAuthority,
  createCertificateAuthority,
} from '../../supervisor/egress/tls/certificate-authority.ts';
import { upstreamTrust } from '../../supervisor/egress/tls/upstream.ts';
import { compilePolicy } from '../../supervisor/policy/compilation.ts';
import { decide } from '../../supervisor/policy/decision.ts';
import { parsePolicyYaml } from '../../supervisor/policy/yaml.ts';
import { startProxy } from './proxy-fixture.ts';

/** The sandbox's authority and that of the world outside; made once for all tests of a file. */
export interface Authorities {
  readonly sandbox: CertificateAuthority;
  readonly world: CertificateAuthority;
}
export const makeAuthorities = async (): Promise<Authorities> => ({
  sandbox: await createCertificateAuthority(Date.now),
  world: await createCertificateAuthority(Date.now),
});

/** A proxy under a policy in YAML whose names all lead to this machine. */
export async function startInspectingProxy(
  authorities: Authorities,
  yaml: string,
  options: Partial<ExplicitProxyOptions> = {},
) {
  const parsed = parsePolicyYaml(yaml);
  if (!parsed.ok) throw new Error(JSON.stringify(parsed.error));
  let generation = 1;
  const compiled = compilePolicy(parsed.value, { generation });
  const started = await startProxy({
    authorize: (intent, identity) => ({ ...decide(compiled, intent, identity), generation }),
    generation: () => generation,
    interception: { authority: authorities.sandbox, trust: upstreamTrust(authorities.world.certificate) },
    ...options,
  });
  return {
    ...started,
    port: started.proxy.port,
    /** A policy that says the same replaces the one in force. */
    replacePolicy() {
      generation += 1;
      started.proxy.closeStale(generation);
    },
    requests: () => started.events.filter((event) => event.kind === 'request').map(({ request }) => request),
  };
}

/** Answers with what it received, as JSON. */
export const echo: RequestListener = (request, response) => {
  const chunks: Buffer[] = [];
  request.on('data', (chunk: Buffer) => chunks.push(chunk));
  request.on('end', () => {
    const { method, url, headers, trailers } = request;
    response.setHeader('Content-Type', 'application/json');
    if (request.httpVersion === '2.0') response.addTrailers({ 'x-sum': '7' });
    response.end(
      request.method === 'HEAD'
        ? undefined
        : JSON.stringify({ method, url, headers, trailers, body: Buffer.concat(chunks).toString('latin1') }),
    );
  });
};

export interface Started {
  readonly port: number;
  stop(): void;
}

const listen = async (
  server: Pick<Server, 'listen' | 'address' | 'close'>,
  sockets: Set<Socket>,
): Promise<Started> => {
  await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', () => resolve()));
  const address = server.address();
  return {
    port: typeof address === 'object' && address !== null ? address.port : 0,
    stop() {
      for (const socket of sockets) socket.destroy();
      server.close();
    },
  };
};
const follow = (server: {
  on(event: 'connection', listener: (socket: Socket) => void): unknown;
}): Set<Socket> => {
  const sockets = new Set<Socket>();
  server.on('connection', (socket) => sockets.add(socket));
  return sockets;
};

export async function startHttp(
  listener: RequestListener,
  prepare: (server: Server) => void = () => undefined,
) {
  const server = createHttp(listener);
  prepare(server);
  return listen(server, follow(server));
}

/** HTTPS with HTTP/2 and HTTP/1.1, as `host` whatever name is asked for; without a host as the one asked for. */
export async function startHttps(
  authorities: Authorities,
  listener: RequestListener,
  options: { readonly http2?: boolean; readonly host?: string; readonly by?: CertificateAuthority } = {},
) {
  const by = options.by ?? authorities.world;
  const SNICallback = (name: string, callback: (error: Error | null, context?: SecureContext) => void) => {
    by.leaf(options.host ?? name).then(
      (context) => callback(null, context),
      (error: Error) => callback(error),
    );
  };
  // createSecureServer offers h2 whatever ALPNProtocols says.
  const server =
    options.http2 === false
      ? createTls({ SNICallback, ALPNProtocols: ['http/1.1'] }, listener)
      : createSecureServer({ allowHTTP1: true, SNICallback }, listener as never);
  return listen(server as never, follow(server as never));
}

/** A tunnel through the proxy; resolves with the socket behind the proxy's 200. */
export function tunnel(proxyPort: number, authority: string): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ port: proxyPort, host: '127.0.0.1' });
    socket.once('error', reject);
    socket.once('data', (chunk) => {
      const text = chunk.toString('latin1');
      if (!text.startsWith('HTTP/1.1 200')) reject(new Error(text));
      else resolve(socket);
    });
    socket.write(`CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\n\r\n`);
  });
}

/** TLS through a tunnel, as a client that trusts the sandbox's authority. */
export async function secure(
  proxyPort: number,
  host: string,
  port: number,
  authorities: Authorities,
  options: { readonly protocols?: readonly string[]; readonly servername?: string } = {},
): Promise<TLSSocket> {
  const socket = await tunnel(proxyPort, `${host}:${port}`);
  return new Promise((resolve, reject) => {
    const secured = connectTls({
      socket,
      servername: options.servername ?? host,
      ca: authorities.sandbox.certificate,
      ALPNProtocols: [...(options.protocols ?? ['http/1.1'])],
    });
    secured.once('error', reject);
    secured.once('secureConnect', () => resolve(secured));
  });
}

/** A client's HTTP/2 session in such TLS. */
export async function openHttp2(
  proxyPort: number,
  host: string,
  port: number,
  authorities: Authorities,
): Promise<ClientHttp2Session> {
  const socket = await secure(proxyPort, host, port, authorities, { protocols: ['h2'] });
  const session = connectHttp2(`https://${host}:${port}`, { createConnection: () => socket });
  session.on('error', () => undefined);
  return session;
}

/** Writes bytes and collects what comes until the connection ends. */
export function collect(
  socket: Socket,
  bytes: string | Buffer,
): Promise<{ readonly text: string; readonly end: 'end' | 'reset' }> {
  return new Promise((resolve) => {
    let text = '';
    let end: 'end' | 'reset' = 'reset';
    socket.on('data', (chunk) => {
      text += chunk.toString('latin1');
    });
    socket.on('end', () => {
      end = 'end';
    });
    socket.on('error', () => undefined);
    socket.on('close', () => resolve({ text, end }));
    socket.write(bytes);
  });
}

/** The JSON body of a raw answer. */
export const bodyOf = (text: string): Record<string, unknown> =>
  JSON.parse(text.slice(text.indexOf('\r\n\r\n') + 4)) as Record<string, unknown>;
