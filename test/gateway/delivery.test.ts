import { expect, test } from 'vitest';
import {
  PushSandboxLogsRequest,
  SubmitPolicyAnalysisRequest,
} from '../../proto/generated/openshell/v1/openshell.ts';
import { createMemoryBuffer } from '../../supervisor/buffer/memory-buffer.ts';
import type { BufferRecord } from '../../supervisor/buffer/record.ts';
import type { RecordBuffer } from '../../supervisor/buffer/record-buffer.ts';
import { Delivery, type Manner } from '../../supervisor/gateway/delivery/delivery.ts';
import type { Call } from '../../supervisor/gateway/delivery/wire.ts';
import { CallError, STATUS } from '../../supervisor/rpc/status.ts';
import { VirtualClock } from './virtual-clock.ts';

const SANDBOX = '0f8fad5b-d9cb-469f-a165-70867728950e-0f8fad5b-d9cb-469f-a165-7086';

interface Sent {
  readonly at: number;
  readonly call: Call;
}

/** A gateway in virtual time: what `judge` throws is its answer. */
class World {
  readonly clock = new VirtualClock();
  readonly taken: Sent[] = [];
  readonly tried: Sent[] = [];
  readonly errors: string[] = [];
  readonly buffer: RecordBuffer;
  readonly delivery: Delivery;
  judge: (call: Call, manner: Manner) => void = () => undefined;

  constructor(
    buffer: RecordBuffer = createMemoryBuffer({ boot: 'boot-1' }),
    random: () => number = () => 0.5,
  ) {
    this.buffer = buffer;
    this.delivery = new Delivery({
      clock: this.clock,
      random,
      sandboxId: SANDBOX,
      buffer: this.buffer,
      send: async (call, manner) => {
        const sent = { at: this.clock.monotonic(), call };
        this.tried.push(sent);
        this.judge(call, manner);
        this.taken.push(sent);
      },
      onError: (message) => this.errors.push(message),
    });
  }

  say(message: string): void {
    this.buffer.append('logs', { kind: 'log', at: 1, level: 'INFO', target: 't', message, fields: {} });
  }

  /** Lets virtual time pass in small steps, and what waits for promises after each. */
  async pass(ms: number, stepMs = 50): Promise<void> {
    for (let passed = 0; passed < ms; passed += stepMs) {
      this.clock.run(Math.min(stepMs, ms - passed));
      await settle();
    }
  }

  get lines(): readonly string[] {
    return this.taken.flatMap(({ call }) =>
      call.kind === 'lines' ? call.request.logs.map(({ message }) => message) : [],
    );
  }
}

async function settle(): Promise<void> {
  for (let turn = 0; turn < 30; turn += 1) await undefined;
}

const fail = (code: number, details = '', retryAfterMs = 0): never => {
  throw new CallError(code, details, retryAfterMs);
};

const policy = (version: number): BufferRecord => ({
  kind: 'policy-status',
  at: 1,
  version,
  loaded: true,
  error: '',
});
const denials: BufferRecord = {
  kind: 'denials',
  at: 1,
  request: SubmitPolicyAnalysisRequest.fromPartial({
    analysisMode: 'mechanistic',
    name: 'sb',
    summaries: [{ host: 'h' }],
  }),
};

test('each kind goes by its call, with its name, status before everything else', async () => {
  const world = new World();
  world.say('line');
  world.buffer.append('audit', { kind: 'event', at: 2, message: 'NET:OPEN' });
  world.buffer.append('audit', denials);
  world.buffer.append('samples', { kind: 'sample', at: 3, name: 'memory', values: { rss: '1' } });
  world.buffer.append('status', policy(7));
  world.buffer.append('status', { kind: 'exit', at: 4, instanceId: 'run', exitCode: 3 });
  expect(await world.delivery.drain(1_000)).toBe(true);
  expect(world.taken.map(({ call }) => call.kind)).toEqual([
    'policy-status',
    'exit',
    'lines',
    'analysis',
    'lines',
  ]);
  const [status, exit, lines, analysis, sample] = world.taken.map(({ call }) => call.request);
  const key = (name: string, sequence: bigint) => ({ boot: 'boot-1', class: name, sequence });
  expect(status).toMatchObject({ version: 7, status: 2, record: key('status', 1n) });
  expect(exit).toMatchObject({ instanceId: 'run', exitCode: 3, record: key('status', 2n) });
  expect(analysis).toMatchObject({ name: 'sb', summaries: [{ host: 'h' }], record: key('audit', 2n) });
  const fields = (name: string, sequence: string) => ({
    'openshell.boot': 'boot-1',
    'openshell.class': name,
    'openshell.sequence': sequence,
  });
  expect(lines).toMatchObject({
    logs: [
      { level: 'INFO', message: 'line', fields: fields('logs', '1') },
      { level: 'OCSF', target: 'ocsf', message: 'NET:OPEN', fields: fields('audit', '1') },
    ],
  });
  expect(sample).toMatchObject({ logs: [{ target: 'sample', message: 'memory', fields: { rss: '1' } }] });
});

test('a record with an impossible clock is delivered like any other', async () => {
  const world = new World();
  for (const at of [Number.NaN, Number.POSITIVE_INFINITY, -1e300, 0.5])
    world.buffer.append('logs', {
      kind: 'log',
      at,
      level: 'INFO',
      target: 't',
      message: `${at}`,
      fields: {},
    });
  expect(await world.delivery.drain(1_000)).toBe(true);
  expect(world.lines).toHaveLength(4);
});

test('a batch on the wire has at most 50 lines and 256 KiB, whatever the lines are', async () => {
  const world = new World();
  for (let index = 0; index < 400; index += 1) world.say('x'.repeat((index * 911) % 9_000));
  world.delivery.start();
  await world.pass(20_000);
  expect(world.lines).toHaveLength(400);
  for (const { call } of world.taken) {
    if (call.kind !== 'lines') continue;
    expect(call.request.logs.length).toBeLessThanOrEqual(50);
    expect(PushSandboxLogsRequest.encode(call.request).finish().length).toBeLessThanOrEqual(256 * 1024);
  }
});

test('an outage loses nothing and is asked about ever more rarely, up to once a minute', async () => {
  const world = new World();
  world.judge = () => fail(STATUS.UNAVAILABLE);
  world.delivery.start();
  for (let index = 0; index < 120; index += 1) world.say(`${index}`);
  await world.pass(600_000, 500);
  expect(world.tried.length).toBeLessThan(40);
  expect(world.tried.length).toBeGreaterThan(10);
  world.judge = () => undefined;
  world.delivery.hurry();
  await world.pass(5_000);
  expect(world.lines).toEqual(Array.from({ length: 120 }, (_, index) => `${index}`));
  expect(world.buffer.stats().classes.logs.lost).toBe(0);
});

test('the time that a gateway asks for is left to it, and a little more', async () => {
  const world = new World();
  world.judge = () => fail(STATUS.RESOURCE_EXHAUSTED, 'rate limit', 20_000);
  world.say('one');
  world.delivery.start();
  await world.pass(70_000);
  expect(world.tried.length).toBe(4);
  for (const [index, { at }] of world.tried.entries())
    expect(at - (world.tried[index - 1]?.at ?? -20_000)).toBeGreaterThanOrEqual(20_000);
});

test.each([
  ['INVALID_ARGUMENT', STATUS.INVALID_ARGUMENT, 'line 3 is not to my taste'],
  ['OUT_OF_RANGE', STATUS.OUT_OF_RANGE, 'decoded message length too large'],
  ['RESOURCE_EXHAUSTED', STATUS.RESOURCE_EXHAUSTED, 'message larger than max'],
  ['INTERNAL', STATUS.INTERNAL, 'panicked'],
])('a poisoned record among good ones is found, given up and told of: %s', async (_, code, details) => {
  const world = new World();
  world.judge = (call) => {
    if (call.kind === 'lines' && call.request.logs.some(({ message }) => message === 'poison'))
      fail(code, details);
  };
  for (let index = 0; index < 130; index += 1) world.say(index === 77 ? 'poison' : `${index}`);
  world.delivery.start();
  await world.pass(120_000, 100);
  const expected = Array.from({ length: 130 }, (_, index) =>
    index === 77 ? '1 records of class logs were lost: refused' : `${index}`,
  );
  expect(world.lines).toEqual(expected);
  expect(world.buffer.stats()).toMatchObject({ entries: 0, classes: { logs: { lost: 1 } } });
  expect(world.tried.length).toBeLessThan(40);
});

test('a gateway that fails at everything costs no record, however long', async () => {
  for (const code of [STATUS.INTERNAL, STATUS.INVALID_ARGUMENT, STATUS.UNIMPLEMENTED, STATUS.OUT_OF_RANGE]) {
    const world = new World();
    world.judge = () => fail(code);
    for (let index = 0; index < 10; index += 1) world.say(`${index}`);
    world.buffer.append('status', policy(1));
    world.buffer.append('audit', denials);
    world.delivery.start();
    await world.pass(1_200_000, 500);
    expect(world.tried.length).toBeLessThan(400);
    expect(world.buffer.stats().classes).toMatchObject({
      logs: { lost: 0 },
      status: { lost: 0 },
      audit: { lost: 0 },
    });
    world.judge = () => undefined;
    world.delivery.hurry();
    await world.pass(700_000, 500);
    expect(world.buffer.stats()).toMatchObject({ entries: 0 });
    expect(world.lines).toHaveLength(10);
  }
});

test.each([
  ['UNAUTHENTICATED', STATUS.UNAUTHENTICATED],
  ['PERMISSION_DENIED', STATUS.PERMISSION_DENIED],
  ['NOT_FOUND', STATUS.NOT_FOUND],
])(
  'a gateway that will have nothing from us is asked as rarely as a session that is refused: %s',
  async (_, code) => {
    const world = new World();
    world.judge = () => fail(code);
    world.say('one');
    world.delivery.start();
    await world.pass(3_600_000, 500);
    expect(world.tried.length).toBeLessThan(15);
    for (const [index, { at }] of world.tried.entries())
      if (index > 0) expect(at - (world.tried[index - 1]?.at ?? 0)).toBeGreaterThanOrEqual(15_000);
    expect(world.buffer.stats().entries).toBe(1);
  },
);

test('a revision that the gateway does not know, or a call that it does not have, holds nothing else up', async () => {
  const world = new World();
  world.judge = (call) => {
    if (call.kind === 'policy-status' && call.request.version === 1) fail(STATUS.NOT_FOUND, 'revision');
    if (call.kind === 'analysis') fail(STATUS.UNIMPLEMENTED, 'no such method');
  };
  world.buffer.append('status', policy(1));
  world.buffer.append('status', policy(2));
  world.buffer.append('audit', denials);
  world.buffer.append('audit', { kind: 'event', at: 2, message: 'NET:OPEN' });
  world.delivery.start();
  await world.pass(10_000);
  expect(
    world.taken.flatMap(({ call }) => (call.kind === 'policy-status' ? [call.request.version] : [])),
  ).toEqual([2]);
  expect(world.lines.toSorted()).toEqual([
    '1 records of class audit were lost: refused',
    '1 records of class status were lost: refused',
    'NET:OPEN',
  ]);
});

test('what the gateway has already counts as delivered', async () => {
  const world = new World();
  world.judge = () => fail(STATUS.ALREADY_EXISTS);
  world.buffer.append('status', policy(1));
  world.delivery.start();
  await world.pass(2_000);
  expect(world.buffer.stats()).toMatchObject({ entries: 0, classes: { status: { lost: 0 } } });
});

test('a long replay stays under 1 MiB a second, and neither status nor audit waits for it', async () => {
  const world = new World(createMemoryBuffer({ boot: 'b', maxBytes: 16 * 1024 * 1024 }));
  for (let index = 0; index < 2_500; index += 1) world.say(`${index} ${'x'.repeat(4_000)}`);
  world.delivery.start();
  await world.pass(3_000);
  const [asked, before] = [world.clock.monotonic(), world.lines.length];
  world.buffer.append('status', policy(9));
  world.buffer.append('audit', { kind: 'event', at: 2, message: 'fresh event' });
  await world.pass(17_000);
  const at = (kind: Call['kind'], has: string): number =>
    (world.taken.find(({ call }) => call.kind === kind && JSON.stringify(call.request, plain).includes(has))
      ?.at ?? 1e9) - asked;
  expect(before).toBeLessThan(1_200);
  expect(at('policy-status', '"version":9')).toBeLessThan(600);
  expect(at('lines', 'fresh event')).toBeLessThan(1_000);
  expect(world.buffer.stats().entries).toBe(0);
  const [first] = world.taken;
  for (const { at: end } of world.taken) {
    const bytes = world.taken
      .filter(({ at: when }) => when <= end && when > end - 5_000)
      .reduce(
        (sum, { call }) =>
          sum + (call.kind === 'lines' ? PushSandboxLogsRequest.encode(call.request).finish().length : 0),
        0,
      );
    expect(bytes).toBeLessThan(5.4 * 1024 * 1024);
  }
  expect(first).toBeDefined();
});

const plain = (_: string, value: unknown): unknown => (typeof value === 'bigint' ? `${value}` : value);

test('a duplicate of every call is harmless: each record has one name', async () => {
  const world = new World();
  const names: string[] = [];
  let lost = 0;
  world.judge = (call) => {
    if (call.kind !== 'lines') return;
    for (const { fields } of call.request.logs)
      names.push(`${fields['openshell.class']} ${fields['openshell.sequence']}`);
    // Taken, but the answer is lost on its way.
    if (lost++ % 2 === 0) fail(STATUS.UNAVAILABLE, 'reset');
  };
  for (let index = 0; index < 200; index += 1) world.say(`${index}`);
  world.delivery.start();
  await world.pass(60_000, 100);
  expect(names.length).toBeGreaterThan(200);
  expect([...new Set(names)]).toEqual(Array.from({ length: 200 }, (_, index) => `logs ${index + 1}`));
});

test('the end delivers what it can by its deadline, hurries, and says whether that was all', async () => {
  const world = new World();
  let failures = 3;
  world.judge = (_, { last, timeoutMs }) => {
    expect(last).toBe(true);
    expect(timeoutMs).toBeLessThanOrEqual(5_000);
    if (failures-- > 0) fail(STATUS.UNAVAILABLE);
  };
  for (let index = 0; index < 200; index += 1) world.say(`${index}`);
  world.buffer.append('status', { kind: 'exit', at: 1, instanceId: 'run', exitCode: 0 });
  let done: boolean | undefined;
  void world.delivery.drain(5_000).then((empty) => {
    done = empty;
  });
  await world.pass(4_000);
  expect(done).toBe(true);
  expect(world.taken[0]?.call.kind).toBe('exit');
  expect(world.lines).toHaveLength(200);

  world.say('late');
  world.judge = () => fail(STATUS.UNAUTHENTICATED);
  done = undefined;
  void world.delivery.drain(60_000).then((empty) => {
    done = empty;
  });
  await world.pass(100_000);
  expect(done).toBe(false);
  expect(world.buffer.stats().entries).toBe(1);
});

test('the end can ask for status alone, and regular delivery goes on afterwards', async () => {
  const world = new World();
  world.delivery.start();
  world.say('one');
  world.buffer.append('status', policy(1));
  const drained = world.delivery.drain(1_000, ['status']);
  await settle();
  expect(await drained).toBe(true);
  expect(world.taken.map(({ call }) => call.kind)).toEqual(['policy-status']);
  await world.pass(1_000);
  expect(world.lines).toEqual(['one']);
  world.delivery.stop();
  world.say('two');
  await world.pass(5_000);
  expect(world.lines).toEqual(['one']);
});
