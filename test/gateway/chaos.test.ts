/**
 * A link against the development gateway, through a proxy that spoils the connection. The link's clock runs
 * twenty times as fast, so that half a minute of waiting is a second and a half.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer as createHttp2Server, type ServerHttp2Stream } from 'node:http2';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { GatewayLink } from '../../supervisor/gateway/link.ts';
import { STATUS } from '../../supervisor/rpc/status.ts';
import { type DevGateway, type DevGatewayOptions, startDevGateway } from '../dev-gateway/server.ts';
import { type FaultProxy, startFaultProxy } from './fault-proxy.ts';
import { linkTo, until } from './link-fixture.ts';

let gateway: DevGateway;
let proxy: FaultProxy;
const links: GatewayLink[] = [];

const start = async (options: DevGatewayOptions = {}) => {
  // Beats on the fast clock would want a gateway that beats as fast.
  gateway = await startDevGateway({ heartbeatSeconds: 300, redialWindowSeconds: 5, ...options });
  proxy = await startFaultProxy(gateway.port);
};
beforeEach(() => start());
afterEach(async () => {
  for (const link of links.splice(0)) await link.stop(0);
  await proxy.stop();
  await gateway.stop();
});

const token = () => gateway.mintToken('sb-1').token;
const connect = (more: Parameters<typeof linkTo>[2] = {}, port = proxy.port) => {
  const fixture = linkTo(port, token, more);
  links.push(fixture.link);
  return fixture;
};
const begin = async (more: Parameters<typeof linkTo>[2] = {}, port = proxy.port) => {
  const fixture = connect(more, port);
  await fixture.link.prepare();
  fixture.link.startSession();
  return fixture;
};

describe('a connection that', () => {
  test('is refused is dialled again until it is not', async () => {
    await proxy.refuse();
    const { states, established } = await begin();
    await until(() => states.filter(({ kind }) => kind === 'offline').length >= 2);
    expect(states.find(({ kind }) => kind === 'offline')).toMatchObject({
      reason: expect.stringMatching(/ECONNREFUSED/),
    });
    await proxy.accept();
    await established();
  });

  test('is reset is dialled again', async () => {
    const { established, kinds } = await begin();
    await established();
    proxy.reset();
    await established(2);
    expect(kinds()).toContain('offline');
  });

  test('falls silent is found out by a PING, while the gateway still believes in it', async () => {
    const { states, established } = await begin();
    await established();
    proxy.setWeather({ kind: 'silent' });
    await until(() => states.some(({ kind }) => kind === 'offline'));
    expect(states.find(({ kind }) => kind === 'offline')).toMatchObject({
      reason: expect.stringMatching(/no answer to a PING/),
    });
    expect(gateway.sessions().filter(({ endedAtMs }) => endedAtMs === undefined)).toHaveLength(1);
    // New connections are accepted, and silent as well: that is no session.
    await until(() => proxy.accepted() >= 2);
    await until(() => states.some((state) => 'reason' in state && /no answer within/.test(state.reason)));
    proxy.setWeather({ kind: 'fair' });
    await established(2);
  });

  test('is slow and brings a few bytes at a time carries a session all the same', async () => {
    proxy.setWeather({ kind: 'slow', delayMs: 1, bytes: 7 });
    const { established, link } = await begin();
    await established();
    const config = await link.initialConfig();
    expect(config.ok).toBe(true);
  });

  test('one of two addresses cannot give is taken from the other, in whatever order they are tried', async () => {
    const gone = await startFaultProxy(gateway.port);
    await gone.refuse();
    for (let round = 0; round < 4; round += 1) {
      const { established, kinds, link } = await begin({
        endpoints: [new URL(`http://127.0.0.1:${gone.port}`), new URL(`http://127.0.0.1:${proxy.port}`)],
      });
      await established();
      expect(kinds()).toEqual(['connecting', 'established']);
      await link.stop(0);
    }
    await gone.stop();
  });
});

describe('an answer that', () => {
  test.each([
    ['UNAVAILABLE', STATUS.UNAVAILABLE],
    ['RESOURCE_EXHAUSTED', STATUS.RESOURCE_EXHAUSTED],
  ] as const)('is %s with RetryInfo is obeyed, with the jitter on top', async (_name, code) => {
    gateway.failWith({ code, details: 'come back later', retryAfterSeconds: 20 });
    const { states, established } = await begin();
    await until(() => states.some(({ kind }) => kind === 'offline'));
    const offline = states.find((state) => state.kind === 'offline');
    if (offline?.kind !== 'offline') throw new Error('not offline');
    expect(offline.reason).toContain('come back later');
    expect(offline.redialInMs).toBeGreaterThanOrEqual(20_000);
    expect(offline.redialInMs).toBeLessThanOrEqual(30_000);
    gateway.failWith(undefined);
    await established();
  });

  test('is the 503 of a load balancer with Retry-After is obeyed', async () => {
    const balancer = createHttp2Server();
    let asked = 0;
    balancer.on('stream', (stream: ServerHttp2Stream) => {
      asked += 1;
      stream.respond({ ':status': 503, 'retry-after': '20', 'content-type': 'text/html' });
      stream.end('<html>try later</html>');
    });
    await new Promise<void>((resolve) => void balancer.listen(0, '127.0.0.1', resolve));
    const address = balancer.address();
    const port = typeof address === 'object' && address !== null ? address.port : 0;
    const { states, link } = await begin({}, port);
    await until(() => states.some(({ kind }) => kind === 'offline'));
    expect(states.find(({ kind }) => kind === 'offline')).toMatchObject({
      reason: 'UNAVAILABLE: HTTP status 503',
    });
    const offline = states.find((state) => state.kind === 'offline');
    expect(offline?.kind === 'offline' && offline.redialInMs).toBeGreaterThanOrEqual(20_000);
    expect(asked).toBe(1);
    await link.stop(0);
    balancer.close();
  });

  test('rejects the session is waited for like a refusal: 15 s at the least', async () => {
    gateway.rejectWith('not today');
    const { states, established } = await begin();
    await until(() => states.some(({ kind }) => kind === 'refused'));
    const refused = states.find((state) => state.kind === 'refused');
    if (refused?.kind !== 'refused') throw new Error('not refused');
    expect(refused.reason).toContain('not today');
    expect(refused.redialInMs).toBeGreaterThanOrEqual(15_000);
    gateway.rejectWith(undefined);
    await established();
  });

  test('says GOAWAY moves the session to a new connection before the old one ends', async () => {
    const { established, kinds, link } = await begin();
    await established();
    gateway.goAway(10_000);
    await established(2);
    expect(kinds()).toEqual(['connecting', 'established', 'draining', 'established']);
    expect(proxy.accepted()).toBe(2);
    expect(await link.reportExit(0, 20_000)).toBe(true);
  });

  test('says GOAWAY and hangs up at once costs one redial within the window, not a storm', async () => {
    const { established, kinds } = await begin();
    await established();
    gateway.goAway(0);
    await established(2);
    expect(proxy.accepted()).toBeLessThanOrEqual(3);
    expect(kinds().filter((kind) => kind === 'connecting').length).toBeLessThanOrEqual(2);
  });
});

describe('a token that', () => {
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'chaos-'));
  });
  afterEach(() => rmSync(folder, { recursive: true }));
  const file = () => join(folder, 'token');

  test('the gateway refuses is read anew from its file, seldom, and the link comes back with a good one', async () => {
    writeFileSync(file(), 'h.e30.s');
    const { states, established } = await begin({ token: { kind: 'file', path: file() } });
    await until(() => states.filter(({ kind }) => kind === 'refused').length >= 2);
    const waits = states.flatMap((state) => (state.kind === 'refused' ? [state.redialInMs] : []));
    for (const wait of waits) expect(wait).toBeGreaterThanOrEqual(15_000);
    writeFileSync(file(), token());
    await established();
  });

  test('ran out during an outage is exchanged anew by the dial that ends it', async () => {
    await proxy.stop();
    await gateway.stop();
    await start({ serviceAccounts: new Map([['pod-token', 'sb-1']]), tokenTtlSeconds: 40 });
    writeFileSync(file(), 'pod-token');
    const { states, established, link } = await begin({ token: { kind: 'kubernetes', path: file() } });
    await established();
    await proxy.refuse();
    proxy.reset();
    await until(() => states.filter(({ kind }) => kind === 'offline').length >= 3);
    await proxy.accept();
    await established(2);
    expect(await link.reportExit(0, 20_000)).toBe(true);
    // It never was refused: the expired one was not sent.
    expect(states.some(({ kind }) => kind === 'refused')).toBe(false);
  });

  test('a service account is not exchanged for keeps the link refused, without a tight loop', async () => {
    await proxy.stop();
    await gateway.stop();
    await start({ serviceAccounts: new Map([['right', 'sb-1']]) });
    writeFileSync(file(), 'wrong');
    const { states, established } = await begin({ token: { kind: 'kubernetes', path: file() } });
    await until(() => states.some(({ kind }) => kind === 'refused'));
    const refused = states.find((state) => state.kind === 'refused');
    expect(refused?.kind === 'refused' && refused.redialInMs).toBeGreaterThanOrEqual(15_000);
    writeFileSync(file(), 'right');
    await established();
  });
});

describe('a connection that comes of age', () => {
  test('is replaced again and again, and no session ends before the next one stands', async () => {
    const { established, kinds, link } = await begin({ maxConnectionAgeMs: 10_000 });
    await established(4);
    expect(new Set(kinds())).toEqual(new Set(['connecting', 'established', 'draining']));
    expect(kinds().filter((kind) => kind === 'connecting')).toHaveLength(1);
    await until(() => gateway.sessions().filter(({ endedAtMs }) => endedAtMs === undefined).length === 1);
    // What was replaced has been closed, except perhaps the last one, which may still say goodbye.
    await until(() => proxy.open() <= 2);
    expect(await link.reportExit(0, 20_000)).toBe(true);
  });
});

describe('a gateway of another version', () => {
  const missing = ['reportPolicyStatus', 'pushSandboxLogs', 'refreshSandboxToken', 'reportMainProcessExit'];

  test('that lacks the newer calls still has a session, and is not asked in vain', async () => {
    await proxy.stop();
    await gateway.stop();
    await start({ missing });
    const { established, link, states, kinds } = await begin();
    await established();
    expect((await link.initialConfig()).ok).toBe(true);
    link.startSync();
    link.reportPolicy(1, { loaded: true });
    expect(await link.reportExit(3, 60_000)).toBe(false);
    expect(kinds()).toEqual(['connecting', 'established']);
    expect(states.at(-1)).toMatchObject({ gatewayVersion: '', gatewayCapabilities: [] });
  });

  test('that sends messages and fields of tomorrow is understood as far as today goes', async () => {
    await proxy.stop();
    await gateway.stop();
    await start({ newer: true });
    const { established, link, states } = await begin();
    await established();
    expect(states.at(-1)).toMatchObject({
      gatewayVersion: 'dev',
      gatewayCapabilities: ['vitals', 'of-tomorrow'],
    });
    expect((await link.initialConfig()).ok).toBe(true);
    expect(await link.reportExit(3, 20_000)).toBe(true);
    expect(gateway.exits()).toMatchObject([{ exitCode: 3, accepted: true }]);
  });

  test('is told who we are and how we fare', async () => {
    const { established } = await begin();
    await established();
    const [session] = gateway.sessions();
    expect(session).toMatchObject({ bootId: 'boot-1', instanceId: 'run-1', policyVersion: 4 });
    expect(session?.capabilities).toContain('make-before-break');
    expect(session?.vitals?.privateBytes).toBeGreaterThan(1 << 20);
    expect(session?.vitals?.openDescriptors).toBeGreaterThan(3);
  });
});
