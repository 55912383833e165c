import { connect, type Socket } from 'node:net';
import { createServer, type SecureContext, type TLSSocket } from 'node:tls';
import { beforeAll, describe, expect, test } from 'vitest';
import {
  type CertificateAuthority,
  createCertificateAuthority,
} from '../../../supervisor/egress/tls/certificate-authority.ts';
import { connectTls, upstreamTrust } from '../../../supervisor/egress/tls/upstream.ts';
import { UpstreamSessions } from '../../../supervisor/egress/tls/upstream-sessions.ts';
import { undoAfterEach } from '../../undo-after-each.ts';

const ticket = (name: string): Buffer => Buffer.from(name);

describe('the sessions of verified servers', () => {
  test('are of one server each, the latest', () => {
    const sessions = new UpstreamSessions(() => 0);
    sessions.keep('a', ticket('first'));
    sessions.keep('a', ticket('second'));
    expect(sessions.of('a')).toEqual(ticket('second'));
    expect(sessions.of('b')).toBeUndefined();
  });

  test('end ten minutes after the server was verified, however often they were used', () => {
    let now = 0;
    const sessions = new UpstreamSessions(() => now);
    sessions.keep('a', ticket('a'));
    for (now = 0; now <= 600_000; now += 100_000) expect(sessions.of('a')).toEqual(ticket('a'));
    now = 600_001;
    expect(sessions.of('a')).toBeUndefined();
  });

  test('are at most 256; the one longest not used goes', () => {
    const sessions = new UpstreamSessions(() => 0);
    for (let at = 0; at < 256; at++) sessions.keep(`${at}`, ticket('any'));
    sessions.of('0');
    sessions.keep('one more', ticket('any'));
    expect([sessions.of('0'), sessions.of('1'), sessions.of('one more')].map(Boolean)).toEqual([
      true,
      false,
      true,
    ]);
  });
});

describe('a connection to a server', () => {
  let world: CertificateAuthority;
  beforeAll(async () => {
    world = await createCertificateAuthority(Date.now);
  });
  const undo = undoAfterEach();

  /** A server for `api.test` whose address is told. */
  const served = async (maxVersion: 'TLSv1.2' | 'TLSv1.3' = 'TLSv1.3'): Promise<number> => {
    const leaf = await world.leaf('api.test');
    const server = createServer({ maxVersion, SNICallback: (_name, done) => done(null, leaf) }, (socket) =>
      socket.on('error', () => undefined).write('hello'),
    );
    await new Promise<void>((done) => void server.listen(0, '127.0.0.1', done));
    undo.push(() => server.close());
    const address = server.address();
    return typeof address === 'object' && address !== null ? address.port : 0;
  };
  const dialled = async (port: number): Promise<Socket> => {
    const socket = connect(port, '127.0.0.1');
    await new Promise((done) => socket.once('connect', done));
    undo.push(() => socket.destroy());
    return socket;
  };
  /** Whether it went on from an earlier session; the error, where there is one. */
  const reused = async (port: number, host: string, trust: SecureContext): Promise<boolean | string> => {
    const connected = await connectTls(await dialled(port), host, trust, ['http/1.1']);
    if (!connected.ok) return connected.error;
    const socket: TLSSocket = connected.value;
    // The server's tickets come before its first words.
    await new Promise((done) => socket.once('data', done));
    const was = socket.isSessionReused();
    socket.destroy();
    return was;
  };

  test('goes on from the session of the one before, under the same roots alone', async () => {
    const port = await served();
    const trust = upstreamTrust(world.certificate)();
    expect(await reused(port, 'api.test', trust)).toBe(false);
    expect(await reused(port, 'api.test', trust)).toBe(true);
    expect(await reused(port, 'api.test', trust)).toBe(true);
    expect(await reused(port, 'api.test', upstreamTrust(world.certificate)())).toBe(false);
    expect(await reused(port, 'api.test', upstreamTrust(undefined)())).toMatch(/TLS with api\.test/);
  });

  test('verifies a server for each name, and another server at the same place', async () => {
    const port = await served();
    const trust = upstreamTrust(world.certificate)();
    expect(await reused(port, 'api.test', trust)).toBe(false);
    expect(await reused(port, 'other.test', trust)).toMatch(/other\.test.*ERR_TLS_CERT_ALTNAME_INVALID/);
    expect(await reused(port, 'other.test', trust)).toMatch(/other\.test.*ERR_TLS_CERT_ALTNAME_INVALID/);
    expect(await reused(port, 'api.test', trust)).toBe(true);
    const elsewhere = await served();
    expect(await reused(elsewhere, 'api.test', trust)).toBe(false);
  });

  test('keeps none of a server that could not be verified', async () => {
    const port = await served();
    const trust = upstreamTrust(undefined)();
    for (let times = 0; times < 2; times++)
      expect(await reused(port, 'api.test', trust)).toMatch(/TLS with api\.test/);
  });

  test('keeps none of TLS 1.2', async () => {
    const port = await served('TLSv1.2');
    const trust = upstreamTrust(world.certificate)();
    for (let times = 0; times < 2; times++) expect(await reused(port, 'api.test', trust)).toBe(false);
  });
});
