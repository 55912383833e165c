import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import type { Intent } from '../../policy/intent.ts';
import { parseAuthority } from '../authority.ts';
import { answerText } from '../responses.ts';
import type { WayOut } from './way-out.ts';

/** HTTP CONNECT (RFC 9110, 9.3.6): one authority, then opaque bytes. */
export async function handleConnect(
  request: IncomingMessage,
  client: Socket,
  head: Buffer,
  wayOut: WayOut,
): Promise<void> {
  client.on('error', () => client.destroy());
  const authority = parseAuthority(request.url ?? '');
  if (authority === undefined) {
    client.end(
      answerText({
        status: 400,
        error: 'invalid_request_target',
        detail: 'CONNECT needs host:port, the port from 1 to 65535',
      }),
    );
    return;
  }
  const intent: Intent = { ...authority, via: 'connect' };
  const granted = await wayOut.open(intent, client);
  if (!granted.ok) {
    client.end(answerText(granted.error));
    return;
  }
  if (client.destroyed) return granted.value.abandon();
  client.write('HTTP/1.1 200 Connection Established\r\n\r\n');
  granted.value.carry(client, head);
}
