import { expect, test } from 'vitest';
import {
  authorityOf,
  endpointOf,
  type ResolveHost,
  resolveCandidates,
  shuffle,
} from '../../supervisor/gateway/endpoint.ts';
import { err, ok } from '../../supervisor/result.ts';
import { seeded } from './fleet.ts';

const NAMES: Readonly<Record<string, readonly string[]>> = {
  one: ['10.0.0.1', '10.0.0.2', 'fd00::1'],
  two: ['10.0.0.2', '10.0.0.3'],
  '127.0.0.1': ['127.0.0.1'],
};
const resolve: ResolveHost = async (host) => {
  const found = NAMES[host];
  return found === undefined ? err('unknown') : ok(found);
};
const at = (url: string) => endpointOf(new URL(url));

test('a URL gives host, port and security; the port is the scheme’s own when it names none', () => {
  expect(at('https://gateway.test')).toEqual({ host: 'gateway.test', port: 443, secure: true });
  expect(at('http://gateway.test')).toEqual({ host: 'gateway.test', port: 80, secure: false });
  expect(at('http://[fd00::1]:8080')).toEqual({ host: 'fd00::1', port: 8080, secure: false });
  expect(authorityOf(at('http://[fd00::1]:8080'))).toBe('[fd00::1]:8080');
  expect(authorityOf(at('https://gateway.test'))).toBe('gateway.test:443');
});

test('every address of every endpoint is a candidate, of both families, and each only once', async () => {
  const found = await resolveCandidates(
    [at('http://one:80'), at('http://two:80'), at('http://two:81')],
    resolve,
    seeded(1),
  );
  const places = found.ok ? found.value.map(({ address, endpoint }) => `${address} ${endpoint.port}`) : [];
  expect(places.toSorted()).toEqual([
    '10.0.0.1 80',
    '10.0.0.2 80',
    '10.0.0.2 81',
    '10.0.0.3 80',
    '10.0.0.3 81',
    'fd00::1 80',
  ]);
});

test('a name that does not resolve leaves the others; when none resolves the names are in the fault', async () => {
  const some = await resolveCandidates([at('http://gone'), at('http://one')], resolve, seeded(1));
  expect(some.ok && some.value.length).toBe(3);
  const none = await resolveCandidates([at('http://gone'), at('http://lost')], resolve, seeded(1));
  expect(none).toMatchObject({
    ok: false,
    error: { kind: 'gateway', message: expect.stringContaining('gone, lost') },
  });
});

test('each order of the addresses is as likely as any other', () => {
  const random = seeded(7);
  const orders = new Map<string, number>();
  for (let round = 0; round < 6_000; round += 1) {
    const order = shuffle(['a', 'b', 'c'], random).join('');
    orders.set(order, (orders.get(order) ?? 0) + 1);
  }
  expect(orders.size).toBe(6);
  for (const count of orders.values()) expect(Math.abs(count - 1_000)).toBeLessThan(150);
});
