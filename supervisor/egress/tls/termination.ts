import type { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import { err, ok, type Result } from '../../result.ts';
import type { CertificateAuthority } from './certificate-authority.ts';

const HANDSHAKE_MS = 15_000;

/** Whether the first bytes of a connection begin a TLS handshake record (RFC 8446, 5.1). */
export const beginsTls = (bytes: Uint8Array): boolean => bytes[0] === 0x16 && (bytes[1] ?? 3) === 3;

/**
 * Answers a client's TLS handshake as `host`. A server name that is another one is refused with an alert: the
 * certificate, the policy's decision and the upstream must be of one host. On failure the socket is gone.
 */
export async function terminateTls(
  client: Socket,
  host: string,
  authority: CertificateAuthority,
  protocols: readonly string[],
): Promise<Result<TLSSocket, string>> {
  const secureContext = await authority.leaf(host);
  return new Promise((resolve) => {
    let asked: string | undefined;
    const secured = new TLSSocket(client, {
      isServer: true,
      secureContext,
      ALPNProtocols: [...protocols],
      SNICallback(name, callback) {
        const other = name.toLowerCase().replace(/\.$/, '') !== host;
        if (other) asked = name;
        callback(other ? new Error('another server name') : null, other ? undefined : secureContext);
      },
    });
    const timer = setTimeout(() => secured.destroy(new Error('the TLS handshake timed out')), HANDSHAKE_MS);
    const failed = (error: Error): void => {
      clearTimeout(timer);
      secured.destroy();
      client.destroy();
      const why =
        asked === undefined
          ? error.message.split('\n', 1)[0]?.slice(0, 200)
          : `the client asks for the server name ${asked.slice(0, 253)}, but the tunnel goes to ${host}`;
      resolve(err(why ?? 'the TLS handshake failed'));
    };
    secured.once('error', failed);
    secured.once('close', () => failed(new Error('the client gave up the TLS handshake')));
    secured.once('secure', () => {
      clearTimeout(timer);
      // A tls.Server says so to its sockets; HTTP/2 waits for it.
      Object.assign(secured, { secureConnecting: false });
      secured.removeAllListeners('error');
      secured.removeAllListeners('close');
      secured.on('error', () => secured.destroy());
      resolve(ok(secured));
    });
  });
}
