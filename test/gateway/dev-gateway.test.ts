import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { OpenShellDefinition, PolicyStatus } from '../../proto/generated/openshell/v1/openshell.ts';
import { createMemoryBuffer } from '../../supervisor/buffer/memory-buffer.ts';
import { systemClock } from '../../supervisor/clock.ts';
import { exchange, type Method } from '../../supervisor/gateway/channel.ts';
import { dial } from '../../supervisor/gateway/dial.ts';
import { GatewayLink } from '../../supervisor/gateway/link.ts';
import { err, ok } from '../../supervisor/result.ts';
import { STATUS as status } from '../../supervisor/rpc/status.ts';
import { type DevGateway, startDevGateway } from '../dev-gateway/server.ts';

const POLICY = `
version: 1
network_policies:
  web:
    endpoints:
      - { host: api.example.com, port: 443, protocol: rest, enforcement: enforce, rules: [{ allow: { method: GET, path: "/v1/**" } }] }
    binaries: [{ path: /usr/bin/curl }]
`;

let gateway: DevGateway;
beforeEach(async () => {
  gateway = await startDevGateway({ serviceAccounts: new Map([['pod-token', 'sb-1']]) });
});
afterEach(() => gateway.stop());

const control = async (path: string, method = 'GET', body?: string) => {
  const init = { method, ...(body === undefined ? {} : { body }) };
  const response = await fetch(`http://127.0.0.1:${gateway.controlPort}${path}`, init);
  return { status: response.status, body: (await response.json()) as unknown };
};

const until = (condition: () => boolean) =>
  vi.waitFor(() => expect(condition()).toBe(true), { timeout: 15_000 });

const methods = OpenShellDefinition.methods;

/** A connection of its own. */
async function client() {
  const connection = await dial({
    endpoints: [{ host: '127.0.0.1', port: gateway.port, secure: false }],
    tls: { ca: undefined, cert: undefined, key: undefined, serverName: undefined },
    readSecret: readFileSync,
    resolve: async (host) => ok([host]),
    clock: systemClock,
    random: Math.random,
  });
  return {
    unary: <Req, Res>(method: Method<Req, Res>, request: Req, token: string) =>
      exchange(connection, method, [request], token, 10_000),
    close: () => connection.destroy('done'),
  };
}

describe('the calls', () => {
  test('are refused without a token, with a stranger one, and for another sandbox', async () => {
    const open = await client();
    const ask = (token: string, sandboxId = 'sb-1') =>
      open
        .unary(methods.getSandboxConfig, { sandboxId }, token)
        .catch((error: { code: number }) => error.code);
    expect(await ask('')).toBe(status.UNAUTHENTICATED);
    expect(await ask('pod-token')).toBe(status.UNAUTHENTICATED);
    const { token } = gateway.mintToken('sb-1');
    expect(await ask(`${token.slice(0, -8)}AAAAAAAA`)).toBe(status.UNAUTHENTICATED);
    expect(await ask(token, 'sb-2')).toBe(status.PERMISSION_DENIED);
    expect(await ask(token)).toMatchObject({ version: 0, policy: undefined });
    open.close();
  });

  test('exchange only a known ServiceAccount token, and refresh only a token of the gateway', async () => {
    const open = await client();
    const issue = (token: string) => open.unary(methods.issueSandboxToken, {}, token);
    const { token } = await issue('pod-token');
    await expect(issue('another')).rejects.toMatchObject({ code: status.UNAUTHENTICATED });
    await expect(issue(token)).rejects.toMatchObject({ code: status.PERMISSION_DENIED });
    const refresh = (bearer: string) =>
      open.unary(methods.refreshSandboxToken, { extensionServiceNames: [] }, bearer);
    const fresh = await refresh(token);
    expect(Number(fresh.expiresAtMs)).toBeGreaterThan(Date.now());
    await expect(refresh('pod-token')).rejects.toMatchObject({ code: status.UNAUTHENTICATED });
    open.close();
  });

  test('take policy reports only for a known version and a final status', async () => {
    const open = await client();
    const { token } = gateway.mintToken('sb-1');
    const report = (version: number, reported: PolicyStatus) =>
      open.unary(
        methods.reportPolicyStatus,
        { sandboxId: 'sb-1', version, status: reported, loadError: 'why', record: undefined },
        token,
      );
    expect(gateway.setPolicy(POLICY)).toEqual(ok(1));
    const invalid = { code: status.INVALID_ARGUMENT };
    await expect(report(0, PolicyStatus.POLICY_STATUS_LOADED)).rejects.toMatchObject(invalid);
    await expect(report(1, PolicyStatus.POLICY_STATUS_PENDING)).rejects.toMatchObject(invalid);
    await expect(report(2, PolicyStatus.POLICY_STATUS_LOADED)).rejects.toMatchObject({
      code: status.NOT_FOUND,
    });
    await report(1, PolicyStatus.POLICY_STATUS_FAILED);
    expect(gateway.policyReports()).toMatchObject([{ version: 1, status: 'failed', loadError: 'why' }]);
    open.close();
  });
});

describe('the control address', () => {
  test('sets a policy from YAML with its request rules, and names what is wrong with a bad one', async () => {
    expect(await control('/policy', 'POST', POLICY)).toEqual({ status: 200, body: { version: 1 } });
    expect(await control('/policy', 'POST', JSON.stringify(POLICY))).toEqual({
      status: 200,
      body: { version: 2 },
    });
    const bad = await control('/policy', 'POST', 'version: 1\nnonsense: 1\n');
    expect(bad).toMatchObject({ status: 400, body: { error: expect.stringContaining('nonsense') } });
    const open = await client();
    const { token } = gateway.mintToken('sb-1');
    const config = await open.unary(methods.getSandboxConfig, { sandboxId: 'sb-1' }, token);
    open.close();
    expect(config.version).toBe(2);
    expect(config.policy?.networkPolicies.web).toMatchObject({
      name: 'web',
      binaries: [{ path: '/usr/bin/curl' }],
      endpoints: [
        { host: 'api.example.com', port: 443, rules: [{ allow: { method: 'GET', path: '/v1/**' } }] },
      ],
    });
  });

  test('answers what it does not know with an error', async () => {
    expect((await control('/nothing')).status).toBe(404);
    expect((await control('/drop?id=x', 'POST')).status).toBe(404);
    expect((await control('/refuse?seconds=0', 'POST')).status).toBe(400);
  });
});

describe('a supervisor link', () => {
  const linkTo = (buffer = createMemoryBuffer({ boot: 'b' })) => {
    const states: string[] = [];
    const link = new GatewayLink({
      endpoints: [new URL(`http://127.0.0.1:${gateway.port}`)],
      tls: { ca: undefined, cert: undefined, key: undefined, serverName: undefined },
      token: { kind: 'env', reveal: () => gateway.mintToken('sb-1').token },
      sandboxId: 'sb-1',
      instanceId: 'run-1',
      bootId: 'boot-1',
      version: '1.2.3',
      enforcement: () => [{ aspect: 'network', level: 'full', mechanism: 'test', note: '' }],
      readSecret: readFileSync,
      policyVersion: () => 4,
      clock: systemClock,
      random: () => 0.01,
      resolve: async (host) => ok([host]),
      buffer,
      pollIntervalMs: 200,
      onConfig: async () => undefined,
      onState: (state) => states.push(state.kind),
      onBeat: () => undefined,
      relays: { connect: async () => err('not here'), max: 8, observe: () => undefined },
      onError: () => undefined,
    });
    return { link, states };
  };
  const say = (buffer: ReturnType<typeof createMemoryBuffer>, message: string) =>
    buffer.append('logs', { kind: 'log', at: Date.now(), level: 'INFO', target: 't', message, fields: {} });

  test('shows up as a session with its beats, and reports its exit once', async () => {
    const { link } = linkTo();
    expect((await link.prepare()).ok).toBe(true);
    link.startSession();
    await until(() => gateway.sessions().some((session) => session.beatsMs.length > 0));
    expect(gateway.sessions()).toMatchObject([
      {
        sandboxId: 'sb-1',
        instanceId: 'run-1',
        supervisorVersion: '1.2.3',
        policyVersion: 4,
        endedAtMs: undefined,
      },
    ]);
    expect(await link.reportExit(7, 2_000)).toBe(true);
    expect(await link.reportExit(7, 2_000)).toBe(true);
    expect(gateway.exits()).toMatchObject([{ exitCode: 7, accepted: true }]);
    await link.stop(500);
    await until(() => gateway.sessions().every((session) => session.endedAtMs !== undefined));
  });

  test('comes back after its session was dropped', async () => {
    const { link } = linkTo();
    await link.prepare();
    link.startSession();
    await until(() => gateway.sessions().length === 1);
    const [first] = gateway.sessions();
    expect((await control(`/drop?id=${first?.id}`, 'POST')).status).toBe(200);
    await until(() =>
      gateway.sessions().some((session) => session.id !== first?.id && session.endedAtMs === undefined),
    );
    await link.stop(500);
  });

  test('delivers every log line in order although the gateway refused connections meanwhile', async () => {
    const buffer = createMemoryBuffer({ boot: 'b' });
    const { link, states } = linkTo(buffer);
    await link.prepare();
    link.startSync();
    link.startSession();
    await until(() => states.includes('established'));
    for (let index = 0; index < 60; index += 1) say(buffer, `line ${index}`);
    await gateway.refuse();
    const refused = await new Promise<string>((resolve) => {
      const socket = connect(gateway.port, '127.0.0.1', () => resolve('connected'));
      socket.once('error', (error) => resolve('code' in error ? String(error.code) : 'error'));
    });
    expect(refused).toBe('ECONNREFUSED');
    await until(() => states.includes('offline'));
    for (let index = 60; index < 120; index += 1) say(buffer, `line ${index}`);
    await gateway.accept();
    await until(() => gateway.logs().length >= 120);
    await until(() => gateway.sessions().some((session) => session.endedAtMs === undefined));
    const unique = [...new Set(gateway.logs().map((line) => line.message))];
    expect(unique).toEqual(Array.from({ length: 120 }, (_, index) => `line ${index}`));
    await link.stop(500);
  });
});
