import { X509Certificate } from 'node:crypto';
import { createServer, type Socket } from 'node:net';
import { connect, type PeerCertificate, type SecureContext } from 'node:tls';
import { describe, expect, test } from 'vitest';
import { createCertificateAuthority } from '../../../supervisor/egress/tls/certificate-authority.ts';
import { beginsTls, terminateTls } from '../../../supervisor/egress/tls/termination.ts';
import { connectTls, upstreamTrust } from '../../../supervisor/egress/tls/upstream.ts';
import { undoAfterEach } from '../../undo-after-each.ts';

const DAY_MS = 86_400_000;
const NOW = Date.now();
const undo = undoAfterEach();

/** A server that lets the authority answer as `host`, and what a client of its CA sees. */
async function handshake(
  authority: Awaited<ReturnType<typeof createCertificateAuthority>>,
  host: string,
  options: {
    readonly servername?: string;
    readonly ca?: string;
    readonly protocols?: readonly string[];
  } = {},
): Promise<{ certificate: PeerCertificate; alpn: string | false | null; result: unknown }> {
  let result: unknown;
  const sockets: Socket[] = [];
  const server = createServer((socket) => {
    sockets.push(socket);
    terminateTls(socket, host, authority, ['h2', 'http/1.1']).then(
      (terminated) => (result = terminated),
      (error: Error) => (result = error),
    );
  });
  undo.push(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  const port = typeof address === 'object' && address !== null ? address.port : 0;
  return new Promise((resolve, reject) => {
    const client = connect({
      port,
      host: '127.0.0.1',
      ca: options.ca ?? authority.certificate,
      ALPNProtocols: [...(options.protocols ?? ['http/1.1'])],
      ...(options.servername === undefined ? {} : { servername: options.servername }),
      // Verified against the host by hand: the socket goes to 127.0.0.1.
      checkServerIdentity: () => undefined,
    });
    client.once('error', reject);
    client.once('secureConnect', () => {
      const certificate = client.getPeerCertificate();
      resolve({ certificate, alpn: client.alpnProtocol, result });
      client.destroy();
    });
  });
}

describe('the certificate authority of a sandbox', () => {
  test('is a CA that may sign leaves and nothing further, valid from a little before now', async () => {
    const authority = await createCertificateAuthority(() => NOW);
    const certificate = new X509Certificate(authority.certificate);
    expect(certificate.ca).toBe(true);
    expect(certificate.checkIssued(certificate)).toBe(true);
    expect(certificate.verify(certificate.publicKey)).toBe(true);
    expect(certificate.publicKey.asymmetricKeyDetails?.namedCurve).toBe('prime256v1');
    expect(Date.parse(certificate.validFrom)).toBeLessThanOrEqual(NOW - 3_000_000);
    expect(Date.parse(certificate.validTo)).toBeGreaterThan(NOW + 3000 * DAY_MS);
    expect(authority.certificate).not.toMatch(/PRIVATE/);
    const other = new X509Certificate((await createCertificateAuthority(() => NOW)).certificate);
    expect(other.serialNumber).not.toBe(certificate.serialNumber);
    expect(other.publicKey.equals(certificate.publicKey)).toBe(false);
  });

  test.each([
    ['a name', 'api.test', 'DNS:api.test'],
    ['an IPv4 address', '192.0.2.7', 'IP Address:192.0.2.7'],
    ['an IPv6 address', '2001:db8::7', 'IP Address:2001:DB8:0:0:0:0:0:7'],
    [
      'a name of 253 characters',
      `${'a'.repeat(63)}.${'b'.repeat(63)}.${'c'.repeat(63)}.${'d'.repeat(61)}`,
      undefined,
    ],
  ])('answers as %s', async (_what, host, alternative) => {
    const authority = await createCertificateAuthority(() => NOW);
    const isName = alternative === undefined || alternative.startsWith('DNS');
    const { certificate, alpn } = await handshake(authority, host, {
      ...(isName ? { servername: host } : {}),
      protocols: ['h2'],
    });
    expect(certificate.subjectaltname).toBe(alternative ?? `DNS:${host}`);
    expect(certificate.ext_key_usage).toEqual(['1.3.6.1.5.5.7.3.1']);
    expect(alpn).toBe('h2');
    const leaf = new X509Certificate(certificate.raw);
    expect(leaf.ca).toBe(false);
    expect(leaf.verify(new X509Certificate(authority.certificate).publicKey)).toBe(true);
    expect(isName ? leaf.checkHost(host) : leaf.checkIP(host)).toBeTruthy();
    expect(Date.parse(leaf.validTo) - NOW).toBeLessThanOrEqual(30 * DAY_MS);
  });

  test('is trusted by nobody who does not have its certificate', async () => {
    const authority = await createCertificateAuthority(() => NOW);
    const other = await createCertificateAuthority(() => NOW);
    await expect(
      handshake(authority, 'api.test', { servername: 'api.test', ca: other.certificate }),
    ).rejects.toThrow();
  });

  test('gives one certificate a host, until half of its life is over', async () => {
    let now = NOW;
    const authority = await createCertificateAuthority(() => now);
    const first = await authority.leaf('api.test');
    expect(await authority.leaf('api.test')).toBe(first);
    now += 15 * DAY_MS - 1;
    expect(await authority.leaf('api.test')).toBe(first);
    now += 1;
    const second = await authority.leaf('api.test');
    expect(second).not.toBe(first);
    expect(await authority.leaf('api.test')).toBe(second);
  });

  test('asked by many at once makes one', async () => {
    const authority = await createCertificateAuthority(() => NOW);
    const all = await Promise.all(Array.from({ length: 50 }, () => authority.leaf('api.test')));
    expect(new Set(all).size).toBe(1);
  });

  test('keeps the 256 that were used last', async () => {
    const authority = await createCertificateAuthority(() => NOW);
    const first = await authority.leaf('0.test');
    const second = await authority.leaf('1.test');
    const others = new Map<string, SecureContext>();
    for (let count = 2; count < 256; count++)
      others.set(`${count}.test`, await authority.leaf(`${count}.test`));
    expect(await authority.leaf('0.test')).toBe(first);
    await authority.leaf('256.test');
    expect(await authority.leaf('0.test')).toBe(first);
    expect(await authority.leaf('255.test')).toBe(others.get('255.test'));
    expect(await authority.leaf('1.test')).not.toBe(second);
  });

  test('makes nothing for a host that cannot be in a certificate, and can still make others', async () => {
    const authority = await createCertificateAuthority(() => NOW);
    await authority.leaf('\u00fc.test').catch(() => undefined);
    expect(await authority.leaf('api.test')).toBeDefined();
  });
});

describe('termination', () => {
  test.each([
    ['another name', 'evil.test'],
    ['a name below', 'x.api.test'],
  ])('refuses %s', async (_what, servername) => {
    const authority = await createCertificateAuthority(() => NOW);
    await expect(handshake(authority, 'api.test', { servername })).rejects.toThrow();
  });

  test('takes the name in any case, with its last dot, or none', async () => {
    const authority = await createCertificateAuthority(() => NOW);
    for (const servername of ['API.test', 'api.test.', undefined])
      expect(
        (await handshake(authority, 'api.test', servername === undefined ? {} : { servername })).certificate
          .subjectaltname,
      ).toBe('DNS:api.test');
  });

  test('begins where a handshake record does', () => {
    expect(beginsTls(Buffer.from([0x16, 3, 1]))).toBe(true);
    expect(beginsTls(Buffer.from([0x16]))).toBe(true);
    for (const bytes of [[], [0x16, 2], [0x17, 3], [0x47, 0x45]])
      expect(beginsTls(Buffer.from(bytes))).toBe(false);
  });

  test('gives up a client that sends nonsense, or goes, and the socket is gone', async () => {
    const authority = await createCertificateAuthority(() => NOW);
    for (const bytes of [
      Buffer.concat([Buffer.from([0x16, 3, 1, 0, 5]), Buffer.alloc(5, 0xff)]),
      undefined,
    ]) {
      const ended = new Promise<unknown>((resolve) => {
        const server = createServer((socket) => {
          terminateTls(socket, 'api.test', authority, ['http/1.1']).then((result) =>
            resolve([result, socket.destroyed]),
          );
        });
        undo.push(() => void server.close());
        server.listen(0, '127.0.0.1', async () => {
          const { connect: connectTcp } = await import('node:net');
          const address = server.address();
          const client = connectTcp(
            typeof address === 'object' && address !== null ? address.port : 0,
            '127.0.0.1',
          );
          client.on('error', () => undefined);
          if (bytes === undefined) client.end();
          else client.write(bytes);
        });
      });
      expect(await ended).toEqual([{ ok: false, error: expect.any(String) }, true]);
    }
  });
});

describe('the way to a server', () => {
  async function server(host: string, authority: Awaited<ReturnType<typeof createCertificateAuthority>>) {
    const listener = createServer((socket) => {
      socket.on('error', () => undefined);
      terminateTls(socket, host, authority, ['http/1.1']).catch(() => undefined);
    });
    undo.push(() => void listener.close());
    await new Promise<void>((resolve) => void listener.listen(0, '127.0.0.1', resolve));
    const address = listener.address();
    const port = typeof address === 'object' && address !== null ? address.port : 0;
    const { connect: connectTcp } = await import('node:net');
    return () => {
      const socket = connectTcp(port, '127.0.0.1');
      undo.push(() => socket.destroy());
      return socket;
    };
  }

  test('trusts the operator’s roots, and no certificate for another host, expired, or of an unknown authority', async () => {
    const world = await createCertificateAuthority(() => NOW);
    const past = await createCertificateAuthority(() => NOW - 60 * DAY_MS);
    const trust = upstreamTrust(`${world.certificate}${past.certificate}`)();
    const known = await server('api.test', world);
    expect(await connectTls(known(), 'api.test', trust, ['http/1.1'])).toMatchObject({ ok: true });
    expect(await connectTls(known(), 'api.test', upstreamTrust(undefined)(), ['http/1.1'])).toMatchObject({
      ok: false,
    });
    const expired = await server('api.test', past);
    expect(await connectTls(expired(), 'api.test', trust, ['http/1.1'])).toMatchObject({
      ok: false,
      error: expect.stringMatching(/CERT_HAS_EXPIRED/),
    });
    const address = await server('192.0.2.1', world);
    expect(await connectTls(address(), '192.0.2.1', trust, ['http/1.1'])).toMatchObject({ ok: true });
    expect(await connectTls(address(), '192.0.2.2', trust, ['http/1.1'])).toMatchObject({
      ok: false,
      error: expect.stringMatching(/ALTNAME/),
    });
  });
});
