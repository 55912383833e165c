import { describe, expect, test } from 'vitest';
import { DeniedNames } from '../../../supervisor/egress/dns/denied-names.ts';
import { PolicyZone } from '../../../supervisor/egress/dns/policy-zone.ts';
import { SyntheticNames } from '../../../supervisor/egress/dns/synthetic-names.ts';

const A = 1;
const PTR = 12;
const AAAA = 28;

/** A zone with two names, and all that happens to it. */
function zone(settings: { readonly maxNames?: number; readonly opens?: boolean } = {}) {
  const policy = new Map([
    ['api.test', [80, 443]],
    ['db.test', [5432]],
    ['third.test', [1]],
  ]);
  const state = {
    now: 0,
    busy: new Set<string>(),
    dropped: [] as string[],
    denied: [] as string[],
    failed: [] as string[],
  };
  const opened: [string, readonly number[]][] = [];
  const names = new SyntheticNames({
    now: () => state.now,
    keepMs: 1000,
    isBusy: (address) => state.busy.has(address),
    onDropped: (address) => state.dropped.push(address),
    ...(settings.maxNames === undefined ? {} : { maxNames: settings.maxNames }),
  });
  const made = new PolicyZone({
    reachablePorts: (name) => policy.get(name) ?? [],
    names,
    open: async (address, ports) => {
      opened.push([address, ports]);
      return settings.opens ?? true;
    },
    onDenied: (name) => state.denied.push(name),
    onFailed: (name, reason) => state.failed.push(`${name}: ${reason}`),
  });
  const ask = (name: string | undefined, type = A) =>
    made.answer({ wire: Buffer.alloc(1), name, type, class: 1 });
  const addressOf = async (name: string) => {
    const [record] = (await ask(name)).records;
    return record?.type === 'A' ? record.address : undefined;
  };
  return { policy, names, state, opened, ask, addressOf };
}

describe('a name of the policy', () => {
  test('has one synthetic address, always the same, which listens at its ports before it is told', async () => {
    const { ask, addressOf, opened } = zone();
    expect(await ask('api.test')).toEqual({
      rcode: 0,
      records: [{ type: 'A', address: '127.64.0.1', ttl: 30 }],
    });
    expect(await addressOf('db.test')).toBe('127.64.0.2');
    expect(await addressOf('api.test')).toBe('127.64.0.1');
    expect(opened).toEqual([
      ['127.64.0.1', [80, 443]],
      ['127.64.0.2', [5432]],
      ['127.64.0.1', [80, 443]],
    ]);
  });
  test.each([
    ['AAAA', AAAA],
    ['SVCB', 64],
    ['HTTPS', 65],
    ['TXT', 16],
    ['SRV', 33],
    ['MX', 15],
  ])('has no %s record, and exists', async (_, type) => {
    const { ask, opened } = zone();
    expect(await ask('api.test', type)).toEqual({ rcode: 0, records: [] });
    expect(opened).toEqual([]);
  });
  test('answers ANY with its address', async () => {
    expect((await zone().ask('api.test', 255)).records).toHaveLength(1);
  });
  test('is found by its address', async () => {
    const { ask, addressOf } = zone();
    await addressOf('db.test');
    expect((await ask('1.0.64.127.in-addr.arpa', PTR)).records).toEqual([
      { type: 'PTR', name: 'db.test', ttl: 30 },
    ]);
    expect(await ask('1.0.64.127.in-addr.arpa', A)).toEqual({ rcode: 0, records: [] });
    expect(await ask('9.0.64.127.in-addr.arpa', PTR)).toEqual({ rcode: 3, records: [] });
    expect(await ask('8.8.8.8.in-addr.arpa', PTR)).toEqual({ rcode: 3, records: [] });
  });
  test('whose ports cannot be listened on is a failure of the server, said why', async () => {
    const { ask, state } = zone({ opens: false });
    expect(await ask('api.test')).toMatchObject({ rcode: 2, records: [], extended: { code: 0 } });
    expect(state.failed).toEqual(['api.test: none of its ports can be listened on']);
  });
  test('that the policy drops while its ports are opened is not answered any more', async () => {
    const { ask, names } = zone();
    const answer = ask('api.test');
    names.drop('api.test');
    expect(await answer).toMatchObject({ rcode: 3, records: [] });
  });
});

test.each(['localhost', 'db.localhost'])('%s is this machine', async (name) => {
  const { ask } = zone();
  expect((await ask(name)).records).toEqual([{ type: 'A', address: '127.0.0.1', ttl: 30 }]);
  expect(await ask(name, AAAA)).toEqual({ rcode: 0, records: [] });
  expect((await ask('1.0.0.127.in-addr.arpa', PTR)).records).toMatchObject([{ name: 'localhost' }]);
});

describe('a name outside the policy', () => {
  test.each([
    ['another name', 'evil.test', A],
    ['a name with a suffix of a search list', 'api.test.cluster.test', A],
    ['a name below one of the policy', 'x.api.test', A],
    ['its AAAA', 'evil.test', AAAA],
    ['the root', '', A],
    ['what is no host name', undefined, A],
  ])('does not exist, says the policy, and is told of: %s', async (_, name, type) => {
    const { ask, state } = zone();
    expect(await ask(name, type)).toMatchObject({ rcode: 3, records: [], extended: { code: 15 } });
    expect(state.denied).toEqual([name ?? '?']);
    expect(state.failed).toEqual([]);
  });
});

describe('the table of addresses', () => {
  test('when it is full gives up the name that was asked for the longest ago, and its address to nobody', async () => {
    const { addressOf, state } = zone({ maxNames: 2 });
    const first = await addressOf('api.test');
    state.now = 500;
    await addressOf('db.test');
    state.now = 1001;
    expect(await addressOf('third.test')).toBe('127.64.0.3');
    expect(state.dropped).toEqual([first]);
    state.now = 3000;
    expect(await addressOf('api.test')).toBe('127.64.0.4');
  });
  test('gives up neither a name that was just asked for nor one with open connections', async () => {
    const { ask, addressOf, state } = zone({ maxNames: 2 });
    const first = await addressOf('api.test');
    await addressOf('db.test');
    expect(await ask('third.test')).toMatchObject({ rcode: 2, records: [] });
    expect(state.failed).toEqual(['third.test: too many names are in use at once']);
    state.now = 2000;
    state.busy.add(first ?? '');
    expect(await addressOf('third.test')).toBe('127.64.0.3');
    expect(state.dropped).toEqual(['127.64.0.2']);
    expect(await addressOf('api.test')).toBe(first);
  });
  test('gives no address twice before all four million were given', () => {
    const names = new SyntheticNames({
      now: () => 0,
      keepMs: -1,
      isBusy: () => false,
      onDropped: () => undefined,
      maxNames: 1,
    });
    let last = '';
    for (let i = 1; i < 1 << 22; i++) last = names.assign(`${i}`) ?? '';
    expect(last).toBe('127.127.255.255');
    expect(names.size).toBe(1);
    expect(names.assign('again')).toBe('127.64.0.1');
  }, 120_000);
});

test('denied names are told of once a minute each, at most 64 of them, and the others counted', () => {
  let now = 0;
  const denied = new DeniedNames(() => now);
  expect(denied.tell('a')).toEqual({ passedOver: 0 });
  expect(denied.tell('a')).toBeUndefined();
  for (let i = 0; i < 63; i++) expect(denied.tell(`made-up-${i}`)).toBeDefined();
  for (let i = 0; i < 1000; i++) expect(denied.tell(`more-${i}`)).toBeUndefined();
  now = 60_000;
  expect(denied.tell('a')).toEqual({ passedOver: 1000 });
  expect(denied.tell('b')).toEqual({ passedOver: 0 });
});
