import { existsSync, readlinkSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ensureBuilt } from '../../scripts/lib/build.ts';
import { type SocketDiag, startSocketDiag } from '../../supervisor/egress/identity/socket-diag.ts';
import { clientInode } from '../../supervisor/egress/identity/socket-table.ts';

describe('sock_diag', () => {
  let launcher = '';
  let diag: SocketDiag | undefined;
  let server: Server;
  const clients: Socket[] = [];
  beforeAll(async () => {
    launcher = `${(await ensureBuilt()).image}/openshell-sandbox`;
    diag = await startSocketDiag(launcher, undefined);
    server = createServer((socket) => socket.on('error', () => undefined));
    await new Promise<void>((resolve) => void server.listen(0, '::', () => resolve()));
  }, 240_000);
  afterAll(() => {
    for (const client of clients) client.destroy();
    server?.close();
    diag?.stop();
  });
  const dial = async (host: string) => {
    const { port } = server.address() as { readonly port: number };
    const client = connect({ host, port });
    clients.push(client);
    await new Promise((resolve) => client.once('connect', resolve));
    const { localAddress = '', localPort = 0, remoteAddress = '', remotePort = 0 } = client;
    // As the accepting side sees it.
    return {
      client,
      connection: {
        localAddress: remoteAddress,
        localPort: remotePort,
        remoteAddress: localAddress,
        remotePort: localPort,
      },
    };
  };

  test.each(['127.0.0.1', '::1'])(
    'finds the client of a connection to %s, as the tables of proc do',
    async (host) => {
      const { connection, client } = await dial(host);
      const inode = await diag?.find(connection);
      expect(inode).toBe(clientInode('/proc/self', connection));
      const fd = (client as unknown as { readonly _handle: { readonly fd: number } })._handle.fd;
      expect(readlinkSync(`/proc/self/fd/${fd}`)).toBe(`socket:[${inode}]`);
    },
  );

  test('finds an IPv4 connection that a server of IPv6 accepted', async () => {
    const { connection } = await dial('127.0.0.1');
    const mapped = {
      ...connection,
      localAddress: `::ffff:${connection.localAddress}`,
      remoteAddress: `::ffff:${connection.remoteAddress}`,
    };
    expect(await diag?.find(mapped)).toBe(clientInode('/proc/self', mapped));
  });

  test('says nothing of a connection that is none, and takes no listener for a client', async () => {
    const { port } = server.address() as { readonly port: number };
    const none = { localAddress: '127.0.0.1', localPort: 1, remoteAddress: '127.0.0.1', remotePort: port };
    expect(await diag?.find(none)).toBeUndefined();
    for (const remoteAddress of ['', 'x y', '127.0.0.1\n1', '1'.repeat(200)])
      expect(await diag?.find({ ...none, remoteAddress })).toBeUndefined();
    const { connection } = await dial('127.0.0.1');
    expect(await diag?.find(connection)).toBe(clientInode('/proc/self', connection));
  });

  test('answers many at once, each its own', async () => {
    const dialled = await Promise.all(Array.from({ length: 50 }, () => dial('127.0.0.1')));
    const found = await Promise.all(dialled.map(({ connection }) => diag?.find(connection)));
    expect(found).toEqual(dialled.map(({ connection }) => clientInode('/proc/self', connection)));
    expect(new Set(found).size).toBe(50);
  });

  test('is gone when it is stopped, and everything is asked of proc then', async () => {
    const { connection } = await dial('127.0.0.1');
    const other = await startSocketDiag(launcher, undefined);
    const pid = other?.pid ?? 0;
    other?.stop();
    expect(await other?.find(connection)).toBeUndefined();
    await expect.poll(() => existsSync(`/proc/${pid}`)).toBe(false);
    expect(await startSocketDiag('/bin/false', undefined)).toBeUndefined();
  });
});
