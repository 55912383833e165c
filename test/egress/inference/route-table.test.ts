import { expect, test } from 'vitest';
import { GetInferenceBundleResponse } from '../../../proto/generated/openshell/inference/v1/inference.ts';
import { readRouteFile } from '../../../supervisor/egress/inference/route-file.ts';
import { RouteTable } from '../../../supervisor/egress/inference/route-table.ts';
import { VirtualClock } from '../../gateway/virtual-clock.ts';

const bundle = (revision: string, ...models: readonly string[]) =>
  GetInferenceBundleResponse.fromPartial({
    revision,
    routes: models.map((modelId) => ({
      name: modelId === 'system' ? 'sandbox-system' : 'inference.local',
      baseUrl: modelId === 'bad' ? 'nowhere' : 'https://a.test',
      protocols: [modelId === 'emb' ? 'openai_embeddings' : 'openai_responses'],
      modelId,
      apiKey: 'sk-canary',
    })),
  });

function table() {
  const clock = new VirtualClock();
  let next: GetInferenceBundleResponse | Error = bundle('1');
  const calls: number[] = [];
  const faults: string[] = [];
  const changes: number[] = [];
  const routes = new RouteTable({
    clock,
    random: () => 0.5,
    fetch: async () => {
      calls.push(clock.monotonic());
      if (next instanceof Error) throw next;
      return next;
    },
    onChange: (all) => changes.push(all.length),
    onFault: (message) => faults.push(message),
  });
  const modelOf = (protocol: string) => {
    const found = routes.find(protocol);
    return typeof found === 'string' ? found : found.model;
  };
  const pass = async (ms: number) => {
    for (let at = 0; at < ms; at += 500) {
      clock.run(500);
      await new Promise((resolve) => setImmediate(resolve));
    }
  };
  return {
    routes,
    calls,
    faults,
    changes,
    modelOf,
    pass,
    answer: (value: GetInferenceBundleResponse | Error) => {
      next = value;
    },
  };
}

test('a gateway without revisions is told apart by what it says, not by when', async () => {
  const { routes, modelOf, pass, answer, changes, faults } = table();
  answer(bundle('', 'm1', 'bad'));
  await routes.start();
  answer({ ...bundle('', 'm1', 'bad'), generatedAtMs: 7n });
  await pass(30_000);
  expect([changes, faults]).toEqual([[1], [expect.any(String)]]);
  answer(bundle('', 'm2'));
  await pass(6_000);
  expect([modelOf('openai_responses'), changes]).toEqual(['m2', [1, 1]]);
  routes.stop();
});

test('follows the gateway’s routes, and takes the same revision once', async () => {
  const { routes, modelOf, pass, answer, changes } = table();
  await routes.start();
  expect(modelOf('openai_responses')).toBe('no-routes');
  answer(bundle('2', 'a', 'b', 'emb'));
  await pass(6_000);
  expect([modelOf('openai_responses'), modelOf('openai_embeddings'), modelOf('other')]).toEqual([
    'a',
    'emb',
    'none',
  ]);
  await pass(20_000);
  expect(changes).toEqual([0, 3]);
});

test('a failed first fetch is not the end, and failures are told once and ask more seldom', async () => {
  const { routes, modelOf, pass, answer, calls, faults } = table();
  answer(new Error('away'));
  await routes.start();
  await pass(300_000);
  expect(calls.length).toBeLessThan(12);
  expect(faults).toEqual(['the routes cannot be fetched: away']);
  answer(bundle('2', 'a'));
  await pass(70_000);
  expect(modelOf('openai_responses')).toBe('a');
  answer(new Error('away again'));
  await pass(30_000);
  expect(modelOf('openai_responses')).toBe('a');
});

test('offers the workload neither the supervisor’s own route nor one that cannot be used', async () => {
  const { routes, modelOf, answer, faults } = table();
  answer(bundle('1', 'system', 'bad', 'good'));
  await routes.start();
  expect(modelOf('openai_responses')).toBe('good');
  expect(faults).toEqual(['the route "inference.local": its endpoint is no URL']);
});

test('asks no more when it is stopped', async () => {
  const { routes, pass, calls } = table();
  await routes.start();
  routes.stop();
  await pass(60_000);
  expect(calls).toHaveLength(1);
});

const FILE = `routes:
  - endpoint: https://a.test/v1
    model: m
    provider_type: openai
    protocols: [openai_responses]
    api_key_env: KEY
`;

test('reads a file, with keys from where it says', () => {
  const read = readRouteFile(FILE, (name) => (name === 'KEY' ? 'sk-canary' : undefined));
  expect(
    read.ok && read.value.map(({ model, apiKey, timeoutMs }) => [model, apiKey.reveal(), timeoutMs]),
  ).toEqual([['m', 'sk-canary', 60_000]]);
});

test.each([
  ['no YAML', 'a: [', 'not YAML'],
  ['no routes', '{}', 'routes is needed'],
  ['an unknown key', `${FILE}    modle: x\n`, 'routes.0.modle is no key'],
  ['a key that is not set', FILE, 'routes.0.api_key_env names KEY'],
  ['two keys', `${FILE}    api_key: sk-canary\n`, 'both'],
  [
    'an endpoint that is none',
    FILE.replace('https://a.test/v1', 'a').replace('api_key_env: KEY', 'api_key: sk-canary'),
    'routes.0',
  ],
  ['a time that is none', FILE.replace('api_key_env: KEY', 'timeout_secs: -1'), 'timeout_secs'],
])('refuses a file with %s, and says where, without a key', (_, text, place) => {
  const read = readRouteFile(text, () => undefined);
  expect(read.ok ? '' : read.error).toContain(place);
  expect(read.ok ? '' : read.error).not.toContain('sk-canary');
});

test('offers the workload no route of a file that is the supervisor’s own', () => {
  const own = `routes:
  - {name: sandbox-system, endpoint: "https://llm.test/v1", model: m, protocols: [openai_completions], api_key: k}
`;
  const read = readRouteFile(own, () => undefined);
  expect(read.ok && read.value).toEqual([]);
});
