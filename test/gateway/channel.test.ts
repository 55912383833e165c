/** One connection for everything, and what happens to its calls when it is replaced. */
import { readFileSync } from 'node:fs';
import { afterEach, beforeEach, expect, test } from 'vitest';
import {
  GatewayMessage,
  OpenShellDefinition,
  SupervisorMessage,
} from '../../proto/generated/openshell/v1/openshell.ts';
import { systemClock } from '../../supervisor/clock.ts';
import { Channel, pathOf } from '../../supervisor/gateway/channel.ts';
import { dial } from '../../supervisor/gateway/dial.ts';
import { ok } from '../../supervisor/result.ts';
import type { Connection } from '../../supervisor/rpc/connection.ts';
import { STATUS } from '../../supervisor/rpc/status.ts';
import { type DevGateway, type DevGatewayOptions, startDevGateway } from '../dev-gateway/server.ts';
import { until } from './link-fixture.ts';

const METHODS = OpenShellDefinition.methods;
let gateway: DevGateway;
let channel: Channel;
let dials = 0;
let refusals: string[] = [];

const start = async (options: DevGatewayOptions = {}) => {
  gateway = await startDevGateway({ heartbeatSeconds: 300, ...options });
  dials = 0;
  refusals = [];
  channel = new Channel({
    clock: systemClock,
    token: () => gateway.mintToken('sb-1').token,
    onRefused: (token) => refusals.push(token),
    dial: () => {
      dials += 1;
      return dial({
        endpoints: [{ host: '127.0.0.1', port: gateway.port, secure: false }],
        tls: { ca: undefined, cert: undefined, key: undefined, serverName: undefined },
        readSecret: readFileSync,
        resolve: async (host) => ok([host]),
        clock: systemClock,
        random: Math.random,
      });
    },
  });
};
beforeEach(() => start());
afterEach(async () => {
  channel.close();
  await gateway.stop();
});

const config = () => channel.unary(METHODS.getSandboxConfig, { sandboxId: 'sb-1' });

/** A call that lives until it is ended: what a relay will be. */
function longCall(connection: Connection) {
  const heard: GatewayMessage[] = [];
  const ends: unknown[] = [];
  const call = connection.call(pathOf(METHODS.connectSupervisor), gateway.mintToken('sb-2').token, {
    message: (bytes) => heard.push(GatewayMessage.decode(bytes)),
    closed: (error) => ends.push(error),
  });
  const hello = SupervisorMessage.fromPartial({ payload: { $case: 'hello', value: { sandboxId: 'sb-2' } } });
  call.send(SupervisorMessage.encode(hello).finish());
  return { call, heard, ends };
}

test('a call without a connection fails at once and dials nothing: only the session paces dials', async () => {
  await expect(config()).rejects.toMatchObject({ code: STATUS.UNAVAILABLE });
  expect(dials).toBe(0);
});

test('callers that need a connection at the same time share one dial', async () => {
  const connections = await Promise.all([channel.ensure(), channel.ensure(), channel.ensure()]);
  expect(new Set(connections).size).toBe(1);
  expect(dials).toBe(1);
  expect(await channel.forSession()).toBe(connections[0]);
  expect(await channel.forSession()).not.toBe(connections[0]);
});

test('what runs on a connection that is replaced finishes there, while new calls go to the new one', async () => {
  const old = await channel.ensure();
  const long = longCall(old);
  await until(() => long.heard.length === 1);
  const next = await channel.open();
  channel.adopt(next);
  expect(channel.current).toBe(next);
  expect(old.usable).toBe(false);
  expect((await config()).workspace).toBe('dev');
  expect(long.ends).toEqual([]);
  long.call.end();
  await until(() => long.ends.length === 1);
  expect(long.ends).toEqual([undefined]);
});

test('a GOAWAY ends no call that runs, and the connection takes no other', async () => {
  const connection = await channel.ensure();
  let retiring = 0;
  connection.watch({ retiring: () => (retiring += 1), closed: () => undefined });
  const long = longCall(connection);
  await until(() => long.heard.length === 1);
  gateway.goAway(10_000);
  await until(() => retiring === 1);
  await expect(config()).rejects.toMatchObject({ code: STATUS.UNAVAILABLE });
  expect(long.ends).toEqual([]);
  long.call.end();
  await until(() => long.ends.length === 1);
});

test('a method that the gateway lacks is asked for once a connection', async () => {
  await gateway.stop();
  await start({ missing: ['reportPolicyStatus'] });
  await channel.ensure();
  const report = () =>
    channel.unary(METHODS.reportPolicyStatus, {
      sandboxId: 'sb-1',
      version: 1,
      status: 2,
      loadError: '',
      record: undefined,
    });
  await expect(report()).rejects.toMatchObject({ code: STATUS.UNIMPLEMENTED });
  await expect(report()).rejects.toMatchObject({ details: 'the gateway does not know ReportPolicyStatus' });
  channel.adopt(await channel.open());
  await expect(report()).rejects.not.toMatchObject({
    details: 'the gateway does not know ReportPolicyStatus',
  });
});

test('a call whose time is up says so, and one that was refused tells which token was', async () => {
  await channel.ensure();
  await expect(
    channel.unary(METHODS.getSandboxConfig, { sandboxId: 'sb-1' }, { timeoutMs: 0 }),
  ).rejects.toMatchObject({ code: STATUS.DEADLINE_EXCEEDED });
  await expect(
    channel.unary(METHODS.getSandboxConfig, { sandboxId: 'sb-1' }, { token: 'h.e30.s' }),
  ).rejects.toMatchObject({ code: STATUS.UNAUTHENTICATED });
  expect(refusals).toEqual(['h.e30.s']);
});

test('a token that no header can carry fails its call and nothing else', async () => {
  await channel.ensure();
  await expect(
    channel.unary(METHODS.getSandboxConfig, { sandboxId: 'sb-1' }, { token: 'two\nlines' }),
  ).rejects.toMatchObject({ code: STATUS.UNAUTHENTICATED, details: expect.stringContaining('no header') });
  expect((await config()).workspace).toBe('dev');
});
