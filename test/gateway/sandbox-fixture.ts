import type { Duplex } from 'node:stream';
import type { AccessServerOptions } from '../../supervisor/access/access-server.ts';
import { createMemoryBuffer } from '../../supervisor/buffer/memory-buffer.ts';
import type { RelayEvent } from '../../supervisor/gateway/relay/relays.ts';
import { ok, type Result } from '../../supervisor/result.ts';
import { accessFixture, plug } from '../access/access-fixture.ts';
import type { DevGateway } from '../dev-gateway/server.ts';
import { linkTo } from './link-fixture.ts';

export interface SandboxOptions {
  readonly access?: Partial<AccessServerOptions>;
  /** What the streams of relays go through. */
  readonly through?: (stream: Duplex, loggedIn: () => boolean) => Duplex | Promise<Duplex>;
}

/**
 * The sandbox `sb-1` at a gateway: the real link and SSH server in this process, whose sessions are plain processes of this
 * machine. It has logged `begins`. `stop` ends it.
 */
export async function sandboxAt(gateway: DevGateway, { access, through }: SandboxOptions = {}) {
  const { server, asked, events: ofAccess } = accessFixture(access);
  const events: RelayEvent[] = [];
  const connect = async (): Promise<Result<Duplex, string>> => {
    const stream = plug(server);
    return ok((await through?.(stream, () => ofAccess.length > 0)) ?? stream);
  };
  const { token } = gateway.mintToken('sb-1');
  const buffer = createMemoryBuffer({ boot: 'boot-1' });
  buffer.append('logs', { kind: 'log', at: 1, level: 'INFO', target: 'test', message: 'begins', fields: {} });
  const { link, established } = linkTo(gateway.port, () => token, {
    buffer,
    relays: { connect, max: 64, observe: (event) => events.push(event) },
  });
  await link.prepare();
  link.startSync();
  link.startSession();
  await established();
  const stop = async (): Promise<void> => {
    await link.stop(100);
    server.stop();
  };
  return { asked, events, stop };
}
