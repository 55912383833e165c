import { expect, test } from 'vitest';
import { CredentialStore } from '../../../supervisor/egress/credentials/credential-store.ts';
import { ProviderSync } from '../../../supervisor/egress/credentials/provider-sync.ts';
import { readProviders } from '../../dev-gateway/providers.ts';
import { VirtualClock } from '../../gateway/virtual-clock.ts';

const KEY = { value: 's3cret', endpoints: [{ host: 'api.test', port: 443 }] };

function world() {
  const clock = new VirtualClock();
  const store = new CredentialStore(() => 0);
  const errors: string[] = [];
  const state = { asked: 0, answer: () => readProviders(JSON.stringify({ KEY }), 1n) };
  const sync = new ProviderSync({
    clock,
    random: () => 1,
    store,
    fetch: async () => {
      state.asked += 1;
      return state.answer();
    },
    onError: (message) => errors.push(message),
  });
  const settle = async () => {
    for (let turn = 0; turn < 20; turn += 1) await undefined;
  };
  const pass = async (ms: number) => {
    for (let passed = 0; passed < ms; passed += 500) {
      clock.run(500);
      await settle();
    }
  };
  return { store, sync, state, errors, pass };
}

test('fetches once for each revision, and nothing for a gateway without credentials', async () => {
  const { sync, state, store } = world();
  await sync.follow(0n);
  expect(state.asked).toBe(0);
  await sync.follow(1n);
  await sync.follow(1n);
  expect([state.asked, store.revision]).toEqual([1, 1n]);
  state.answer = () => readProviders(JSON.stringify({ KEY }), 2n);
  await sync.follow(2n);
  expect([state.asked, store.revision]).toEqual([2, 2n]);
});

test('revokes everything when a fetch fails, and tries on ever more seldom until it works', async () => {
  const { sync, state, store, errors, pass } = world();
  await sync.follow(1n);
  expect(store.isBound('api.test', 443)).toBe(true);
  state.answer = () => {
    throw new Error('away');
  };
  await sync.follow(2n);
  expect([store.empty, errors]).toEqual([true, ['away']]);
  await pass(600_000);
  // 1, 2, 4 … 32 s, then one a minute.
  expect(state.asked).toBeGreaterThan(10);
  expect(state.asked).toBeLessThan(20);
  state.answer = () => readProviders(JSON.stringify({ KEY }), 2n);
  await pass(61_000);
  expect([store.empty, store.revision]).toEqual([false, 2n]);
  const before = state.asked;
  await pass(600_000);
  expect(state.asked).toBe(before);
});

test('revokes everything when an answer contradicts itself, and says why without a value', async () => {
  const { sync, state, store, errors } = world();
  await sync.follow(1n);
  const good = readProviders(JSON.stringify({ KEY }), 2n);
  state.answer = () => ({ ...good, staticCredentialBindings: {} });
  await sync.follow(2n);
  expect(store.empty).toBe(true);
  expect(errors).toEqual(['the credentials contradict themselves: KEY is neither bound nor no secret']);
});

test('asks no more when it is stopped', async () => {
  const { sync, state, pass } = world();
  state.answer = () => {
    throw new Error('away');
  };
  await sync.follow(1n);
  sync.stop();
  await pass(120_000);
  expect(state.asked).toBe(1);
});
