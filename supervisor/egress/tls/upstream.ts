import { isIP, type Socket } from 'node:net';
import { connect, createSecureContext, rootCertificates, type SecureContext, type TLSSocket } from 'node:tls';
import { err, ok, type Result } from '../../result.ts';
import { UpstreamSessions } from './upstream-sessions.ts';

const HANDSHAKE_MS = 10_000;

/**
 * What upstream servers are verified against: the roots that Node brings, and the operator's. Never the image's. Made
 * when it is first needed, because 150 roots take some megabytes.
 */
export function upstreamTrust(operatorRoots: string | undefined): () => SecureContext {
  let made: SecureContext | undefined;
  return () => {
    made ??= createSecureContext({
      // Without a list of its own a context takes Node's roots, which all contexts share.
      ...(operatorRoots === undefined ? {} : { ca: [...rootCertificates, operatorRoots] }),
      minVersion: 'TLSv1.2',
    });
    return made;
  };
}

/** What was verified against some roots says nothing of others. */
const SESSIONS = new WeakMap<SecureContext, UpstreamSessions>();

function sessionsOf(trust: SecureContext): UpstreamSessions {
  const known = SESSIONS.get(trust) ?? new UpstreamSessions(() => performance.now());
  SESSIONS.set(trust, known);
  return known;
}

/**
 * Speaks TLS over a dialled socket and verifies the server against `host`; there is no way to leave that out.
 * A server that was verified some minutes ago may show by its session that it is the same one (TLS 1.3 alone).
 * On failure the socket is gone, and the error says why in a few words.
 */
export function connectTls(
  socket: Socket,
  host: string,
  trust: SecureContext,
  protocols: readonly string[],
): Promise<Result<TLSSocket, string>> {
  const sessions = sessionsOf(trust);
  const server = `${host} ${socket.remotePort}`;
  return new Promise((resolve) => {
    const session = sessions.of(server);
    const secured = connect({
      socket,
      secureContext: trust,
      ...(session === undefined ? {} : { session }),
      ALPNProtocols: [...protocols],
      host,
      // A server name is a DNS name (RFC 6066, 3); an address is verified by `host`.
      ...(isIP(host) === 0 ? { servername: host } : {}),
      rejectUnauthorized: true,
    });
    const timer = setTimeout(() => secured.destroy(new Error('the TLS handshake timed out')), HANDSHAKE_MS);
    const failed = (error: Error): void => {
      clearTimeout(timer);
      secured.destroy();
      socket.destroy();
      const code = 'code' in error ? ` (${String(error.code)})` : '';
      resolve(err(`TLS with ${host}: ${error.message.split('\n', 1)[0]?.slice(0, 200)}${code}`));
    };
    secured.once('error', failed);
    secured.once('close', () => failed(new Error('the server closed the connection during the handshake')));
    secured.once('secureConnect', () => {
      clearTimeout(timer);
      secured.removeAllListeners('error');
      secured.removeAllListeners('close');
      secured.on('error', () => secured.destroy());
      // Only now: what came before was not verified yet. A session that was gone on with keeps its first age.
      if (!secured.isSessionReused()) secured.once('session', (ticket) => sessions.keep(server, ticket));
      resolve(ok(secured));
    });
  });
}
