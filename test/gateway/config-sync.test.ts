import { expect, test } from 'vitest';
import { GetSandboxConfigResponse } from '../../proto/generated/openshell/sandbox/v1/sandbox.ts';
import { ConfigSync } from '../../supervisor/gateway/config-sync.ts';
import { CallError, STATUS } from '../../supervisor/rpc/status.ts';
import { seeded } from './fleet.ts';
import { VirtualClock } from './virtual-clock.ts';

const settle = async () => {
  for (let turn = 0; turn < 3; turn += 1) await new Promise(setImmediate);
};

function syncing(random: () => number = () => 0.5) {
  const clock = new VirtualClock();
  const asked: number[] = [];
  const applied: bigint[] = [];
  const complaints: string[] = [];
  const gateway = { revision: 1n, fault: undefined as CallError | undefined };
  const applying = { fault: undefined as Error | undefined };
  const sync = new ConfigSync({
    clock,
    random,
    pollIntervalMs: 10_000,
    fetch: async () => {
      asked.push(clock.now());
      if (gateway.fault !== undefined) throw gateway.fault;
      return GetSandboxConfigResponse.fromPartial({ configRevision: gateway.revision });
    },
    onConfig: async ({ configRevision }) => {
      if (applying.fault !== undefined) throw applying.fault;
      applied.push(configRevision);
    },
    onError: (message) => complaints.push(message),
  });
  const pass = async (seconds: number) => {
    await settle();
    for (let second = 0; second < seconds; second += 1) {
      clock.run(1_000);
      await settle();
    }
  };
  return { clock, sync, gateway, applying, asked, applied, complaints, pass };
}

test('the first configuration is asked for five times after 1, 2, 4 and 4 s while the gateway is away', async () => {
  const { sync, gateway, asked, pass } = syncing();
  gateway.fault = new CallError(STATUS.UNAVAILABLE, 'away');
  const first = sync.initial();
  await pass(12);
  expect(asked).toEqual([0, 1_000, 3_000, 7_000, 11_000]);
  expect(await first).toMatchObject({ ok: false, error: { kind: 'gateway' } });
});

test('an answer that trying again cannot change is asked for once', async () => {
  const { sync, gateway, asked } = syncing();
  gateway.fault = new CallError(STATUS.PERMISSION_DENIED, 'another sandbox');
  expect(await sync.initial()).toMatchObject({
    ok: false,
    error: { message: expect.stringContaining('another sandbox') },
  });
  expect(asked).toHaveLength(1);
});

test('a connection that cannot be made counts as an attempt, and nothing is asked on it', async () => {
  const { sync, asked, pass } = syncing();
  let prepared = 0;
  const first = sync.initial(async () => {
    prepared += 1;
    if (prepared < 3) throw new CallError(STATUS.UNAVAILABLE, 'refused');
  });
  await pass(4);
  expect((await first).ok).toBe(true);
  expect(asked).toEqual([3_000]);
});

test('a revision is applied when it differs from the last, and again at the next poll when that failed', async () => {
  const { sync, gateway, applying, applied, complaints, pass } = syncing();
  await sync.initial();
  sync.start();
  await pass(25);
  expect(applied).toEqual([]);
  gateway.revision = 18_446_744_073_709_551_615n;
  applying.fault = new Error('no room');
  await pass(25);
  expect(applied).toEqual([]);
  expect(complaints).toContain('no room');
  applying.fault = undefined;
  await pass(25);
  expect(applied).toEqual([18_446_744_073_709_551_615n]);
  sync.stop();
});

test('polls that fail go on, and those of a fleet do not fall together', async () => {
  const { sync, gateway, asked, applied, pass } = syncing(seeded(3));
  gateway.fault = new CallError(STATUS.UNAVAILABLE, 'away');
  sync.start();
  await pass(100);
  expect(asked.length).toBeGreaterThanOrEqual(8);
  const gaps = asked.slice(1).map((at, index) => at - (asked[index] ?? 0));
  expect(Math.min(...gaps)).toBeGreaterThanOrEqual(8_571);
  expect(Math.max(...gaps)).toBeLessThanOrEqual(12_430);
  expect(new Set(gaps.map(Math.round)).size).toBeGreaterThan(5);
  gateway.fault = undefined;
  await pass(12);
  expect(applied).toEqual([1n]);
  sync.stop();
  const count = asked.length;
  await pass(60);
  expect(asked).toHaveLength(count);
});
