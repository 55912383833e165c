import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Server, ServerCredentials } from '@grpc/grpc-js';
import { describe, expect, test } from 'vitest';
import {
  MiddlewareManifest,
  SupervisorMiddlewareDefinition,
} from '../../../proto/generated/openshell/middleware/v1/middleware.ts';
import type { SupervisorMiddlewareService } from '../../../proto/generated/openshell/sandbox/v1/sandbox.ts';
import type { Clock } from '../../../supervisor/clock.ts';
import { systemClock } from '../../../supervisor/clock.ts';
import { parseTimeout } from '../../../supervisor/egress/middleware/limits.ts';
import { readManifest, readRegistration } from '../../../supervisor/egress/middleware/manifest.ts';
import { MiddlewareRegistry } from '../../../supervisor/egress/middleware/registry.ts';
import { createCertificateAuthority } from '../../../supervisor/egress/tls/certificate-authority.ts';
import { ok } from '../../../supervisor/result.ts';
import { serviceDefinition } from '../../dev-gateway/grpc.ts';
import { issue, makeAuthority } from '../../gateway/certificates.ts';
import { undoAfterEach } from '../../undo-after-each.ts';
import { BOTH, HTTP_ONLY, registration, type ServiceOptions, startService } from './service-fixture.ts';

const undo = undoAfterEach();
const WAIT = { timeout: 10_000 };
async function service(options: ServiceOptions = {}) {
  const started = await startService(options);
  undo.push(() => started.stop());
  return started;
}
function registryWith(credential: () => string | undefined = () => undefined, clock: Clock = systemClock) {
  const problems: string[] = [];
  const seen = { changes: 0, resolved: [] as string[] };
  const registry = new MiddlewareRegistry({
    clock,
    random: () => 0.5,
    resolve: async (host) => {
      seen.resolved.push(host);
      return ok(['127.0.0.1']);
    },
    credential,
    onChange: () => {
      seen.changes += 1;
    },
    onProblem: (message) => problems.push(message),
  });
  undo.push(() => registry.stop());
  return { registry, problems, seen };
}

describe('a registration', () => {
  const named = (more: Parameters<typeof SupervisorMiddlewareService.fromPartial>[0]) =>
    registration('scan', 1, { allowInsecureTransport: false, ...more });
  test.each([
    ['https', { grpcEndpoint: 'https://scan.test:8443' }, true],
    [
      'http where that was accepted',
      { grpcEndpoint: 'http://scan.test', allowInsecureTransport: true },
      true,
    ],
    [
      'http elsewhere',
      { grpcEndpoint: 'http://scan.test' },
      /its grpc_endpoint is not https.*allow_insecure_transport/,
    ],
    ['http to a name for this machine', { grpcEndpoint: 'http://localhost:1' }, /not https/],
    ['http to this machine', { grpcEndpoint: 'http://127.0.0.1:1' }, true],
    ['http to this machine by IPv6', { grpcEndpoint: 'http://[::1]:1' }, true],
    ['a Unix socket', { grpcEndpoint: 'unix:///run/scan.sock' }, true],
    ['a Unix socket without a place', { grpcEndpoint: 'unix://scan.sock' }, /absolute path/],
    ['another scheme', { grpcEndpoint: 'ftp://scan.test' }, /must begin with/],
    ['no URL', { grpcEndpoint: 'scan.test:1' }, /must begin with/],
    ['a path', { grpcEndpoint: 'https://scan.test/x' }, /nothing behind host and port/],
    ['a user', { grpcEndpoint: 'https://u:p@scan.test' }, /nothing behind host and port/],
    ['a name of the built-ins', { name: 'openshell/regex' }, /those of built-ins/],
    ['no name', { name: '' }, /its name must be/],
    ['no bound', { maxPayloadBytes: 0n }, /max_payload_bytes/],
    ['too large a bound', { maxPayloadBytes: (4n << 20n) + 1n }, /max_payload_bytes/],
    ['too short a timeout', { timeout: '9ms' }, /timeout/],
    ['no timeout', { timeout: 'soon' }, /timeout/],
  ])('with %s', (_what, more, expected) => {
    const read = readRegistration(named(more), false);
    if (expected instanceof RegExp) expect(read.ok ? '' : read.error).toMatch(expected);
    else expect(read.ok).toBe(true);
  });

  test('that is authenticated goes by TLS alone', () => {
    for (const grpcEndpoint of ['http://127.0.0.1:1', 'unix:///run/scan.sock'])
      expect(readRegistration(named({ grpcEndpoint }), true)).toMatchObject({ ok: false });
    expect(readRegistration(named({ grpcEndpoint: 'https://a.test' }), true)).toMatchObject({
      value: { authenticated: true },
    });
  });

  test.each([
    ['10ms', 10],
    ['30s', 30_000],
    ['31s', undefined],
    ['1m', undefined],
    ['1.5s', undefined],
  ])('says %s', (text, ms) => expect(parseTimeout(text)).toBe(ms));
});

describe('a manifest', () => {
  const registered = readRegistration(
    registration('scan', 1, { timeout: '2s', maxPayloadBytes: 100n }),
    false,
  );
  const read = (partial: Parameters<typeof MiddlewareManifest.fromPartial>[0]) => {
    if (!registered.ok) throw new Error(registered.error);
    return readManifest(MiddlewareManifest.fromPartial(partial), registered.value);
  };
  const http = HTTP_ONLY[0];
  test('is bounded by what its operator says', () => {
    expect(read({ bindings: [{ ...http, timeout: '100ms' }] })).toEqual({
      ok: true,
      value: { http: { maxPayloadBytes: 100, timeoutMs: 100 }, webSocket: undefined },
    });
    expect(read({ bindings: [{ ...http, timeout: '20s' }] })).toMatchObject({
      value: { http: { timeoutMs: 2_000 } },
    });
  });
  test.each([
    ['no binding', [], /no binding/],
    ['the same twice', [http, http], /two bindings/],
    ['an unknown operation', [{ ...http, operation: 9 as 1 }], /unknown operation/],
    ['no operation', [{ ...http, operation: 0 as 1 }], /unknown operation/],
    ['the phase of later', [{ ...http, phase: 2 as 1 }], /another phase/],
    ['no bound', [{ ...http, maxPayloadBytes: 0n }], /max_payload_bytes/],
    [
      'a bound that is less than its operator says',
      [{ ...http, maxPayloadBytes: 99n }],
      /exceed what it can take/,
    ],
    ['a timeout that is none', [{ ...http, timeout: '1h' }], /timeout/],
  ])('with %s is refused', (_what, bindings, expected) => {
    const result = read({ bindings });
    expect(result.ok ? '' : result.error).toMatch(expected);
  });
});

describe('the services of a sandbox', () => {
  test('are asked what they offer, and replaced when the gateway names others', async () => {
    const [first, second] = [await service(), await service({ manifest: { bindings: HTTP_ONLY } })];
    const { registry, seen } = registryWith();
    registry.replace([registration('a', first.port)], false);
    await registry.settled(5_000);
    expect(registry.find('a')?.bindings).toMatchObject({ webSocket: { maxPayloadBytes: 1 << 20 } });
    const before = seen.changes;
    registry.replace([registration('a', first.port)], false);
    expect(seen.changes).toBe(before);
    registry.replace([registration('b', second.port)], false);
    expect(seen.changes).toBe(before + 1);
    await registry.settled(5_000);
    expect([registry.find('a'), registry.find('b')?.bindings.webSocket]).toEqual([undefined, undefined]);
    expect(seen.changes).toBe(before + 2);
    expect(first.described).toHaveLength(1);
  });

  test('that are away are asked again, and the built-in is there all the while', async () => {
    const gone = await service();
    gone.stop();
    const { registry, problems, seen } = registryWith();
    registry.replace([registration('a', gone.port)], false);
    await registry.settled(5_000);
    expect(registry.find('a')).toBeUndefined();
    expect(registry.find('openshell/regex')?.bindings.http).toBeDefined();
    expect(problems).toEqual([expect.stringMatching(/^the middleware a cannot be asked: UNAVAILABLE/)]);
    await service({ port: gone.port });
    await expect.poll(() => registry.find('a') !== undefined, WAIT).toBe(true);
    expect(seen.changes).toBe(2);
    expect(problems).toHaveLength(1);
  });

  test('that are wrong are left out, and the others are not', async () => {
    const good = await service();
    const odd = await service({ manifest: { bindings: [...BOTH, ...BOTH] } });
    const { registry, problems } = registryWith();
    registry.replace(
      [
        registration('odd', odd.port),
        registration('good', good.port),
        registration('good', 1),
        registration('pem', 1, { grpcEndpoint: 'https://a.test', tlsCaCertPem: Buffer.from('no PEM') }),
      ],
      false,
    );
    await registry.settled(5_000);
    expect(registry.find('good')).toBeDefined();
    expect(registry.find('odd')).toBeUndefined();
    expect(problems.sort()).toEqual([
      expect.stringMatching(/good cannot be used: another one has the same name/),
      expect.stringMatching(/odd cannot be asked: its manifest has two bindings/),
      expect.stringMatching(/pem cannot be used: its tls_ca_cert_pem is no certificate/),
    ]);
  });

  test('are shown their credential over TLS that is verified against the CA they were given', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'middleware-'));
    undo.push(() => rmSync(directory, { recursive: true }));
    makeAuthority(directory, 'ca');
    issue(directory, 'ca', 'scan', 'scan.test');
    const read = (file: string) => readFileSync(join(directory, file));
    const credentials = ServerCredentials.createSsl(null, [
      { cert_chain: read('scan.pem'), private_key: read('scan.key') },
    ]);
    const scan = await service({ credentials, bearer: 'good', manifest: { expectedAudience: 'aud' } });
    const made = (host: string, ca: Buffer, audience = 'aud') =>
      registration('scan', 0, {
        grpcEndpoint: `https://${host}:${scan.port}`,
        tlsCaCertPem: ca,
        allowInsecureTransport: false,
        audience,
      });
    let credential: string | undefined;
    const { registry, problems, seen } = registryWith(() => credential);
    registry.replace([made('scan.test', read('ca.pem'))], true);
    await registry.settled(50); // it waits for its credential
    expect([registry.find('scan'), scan.described, registry.authenticated, problems]).toEqual([
      undefined,
      [],
      ['scan'],
      [],
    ]);
    credential = 'good';
    registry.retry();
    await registry.settled(5_000);
    expect(registry.find('scan')).toBeDefined();
    expect(scan.described).toEqual(['Bearer good']);
    expect(seen.resolved).toEqual(['scan.test']);
    const stranger = Buffer.from((await createCertificateAuthority(Date.now)).certificate);
    for (const wrong of [
      made('other.test', read('ca.pem')),
      made('scan.test', stranger),
      made('scan.test', read('ca.pem'), 'another'),
    ]) {
      registry.replace([wrong], true);
      await registry.settled(5_000);
      expect(registry.find('scan')).toBeUndefined();
    }
    expect(scan.described).toHaveLength(2); // the last one was asked, and expects another audience
  });

  test('may listen on a Unix socket', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'middleware-'));
    undo.push(() => rmSync(directory, { recursive: true }));
    const path = join(directory, 's');
    const server = new Server();
    server.addService(serviceDefinition(SupervisorMiddlewareDefinition), {
      describe: (_call: unknown, callback: (error: null, manifest: MiddlewareManifest) => void) =>
        callback(null, MiddlewareManifest.fromPartial({ bindings: BOTH })),
    });
    await new Promise<void>((resolve, reject) =>
      server.bindAsync(`unix:${path}`, ServerCredentials.createInsecure(), (error) =>
        error === null ? resolve() : reject(error),
      ),
    );
    undo.push(() => server.forceShutdown());
    const { registry } = registryWith();
    registry.replace(
      [registration('a', 0, { grpcEndpoint: `unix://${path}`, allowInsecureTransport: false })],
      false,
    );
    await registry.settled(5_000);
    expect(registry.find('a')).toBeDefined();
  });
});
