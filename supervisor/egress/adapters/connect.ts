import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import type { Intent } from '../../policy/intent.ts';
import { parseAuthority } from '../authority.ts';
import type { EgressPipeline } from '../pipeline.ts';
import { answerText } from '../responses.ts';
import type { Tunnels } from '../tunnels.ts';

/** HTTP CONNECT (RFC 9110, 9.3.6): one authority, then opaque bytes. */
export async function handleConnect(
  request: IncomingMessage,
  client: Socket,
  head: Buffer,
  pipeline: EgressPipeline,
  tunnels: Tunnels,
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
  const granted = await pipeline.open(intent, client);
  if (!granted.ok) {
    client.end(answerText(granted.error));
    return;
  }
  if (client.destroyed) {
    granted.value.upstream.destroy();
    return;
  }
  client.write('HTTP/1.1 200 Connection Established\r\n\r\n');
  tunnels.carry(granted.value, client, head);
}
