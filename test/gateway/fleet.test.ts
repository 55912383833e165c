/**
 * Ten thousand supervisors in virtual time, with the session, heartbeat, backoff and address code that ships.
 * The promise (anchors): no second above 2 × N / window dials, and 99 % back within 90 s.
 */
import { expect, test } from 'vitest';
import { chart, Fleet, PerSecond, seeded } from './fleet.ts';

const N = 10_000;
const WINDOW_S = 10;
const LIMIT = (2 * N) / WINDOW_S;

test('a gateway that is gone for 5 minutes is neither stormed while it is gone nor when it comes back', () => {
  const fleet = new Fleet({ size: N, replicas: 3 });
  fleet.start(60);
  fleet.run(120);
  expect(fleet.standing).toBe(N);
  for (const replica of fleet.replicas) fleet.down(replica);
  fleet.run(300);
  expect(fleet.standing).toBe(0);
  for (const replica of fleet.replicas) replica.up = true;
  fleet.run(90);
  const back = fleet.standing;
  fleet.run(90);
  console.log(
    chart(`dials of ${N} supervisors, gateway gone 0..300 s`, fleet.dials.between(120, 540), 15, LIMIT),
  );
  console.log(`back after 90 s: ${back} of ${N}`);
  expect(fleet.dials.total(120, 420)).toBeGreaterThan(5 * N);
  expect(fleet.dials.most(120, 600)).toBeLessThanOrEqual(LIMIT);
  for (const { attempts } of fleet.replicas) expect(attempts.most(120, 600)).toBeLessThanOrEqual(LIMIT);
  expect(back).toBeGreaterThanOrEqual(0.99 * N);
  expect(fleet.standing).toBe(N);
}, 60_000);

test('the beats of a fleet that came back together are spread over the interval', () => {
  const fleet = new Fleet({ size: N, replicas: 1, heartbeatSeconds: 15 });
  const [gateway] = fleet.replicas;
  if (gateway === undefined) throw new Error('no gateway');
  fleet.start(1);
  fleet.run(120);
  const mean = N / (15 * (13 / 14));
  const beats = gateway.beats.between(2, 120);
  console.log(
    `beats a second: mean ${Math.round(mean)}, most ${Math.max(...beats)}, least ${Math.min(...beats)}`,
  );
  expect(Math.max(...beats)).toBeLessThan(1.5 * mean);
  expect(Math.min(...beats)).toBeGreaterThan(0.5 * mean);
}, 60_000);

test('one of three replicas that goes is made up for by the others, and nobody else notices', () => {
  const fleet = new Fleet({ size: N, replicas: 3, maxAgeMs: 3_600_000, heartbeatSeconds: 60 });
  const [first] = fleet.replicas;
  if (first === undefined) throw new Error('no replica');
  fleet.start(60);
  fleet.run(120);
  const had = first.links.size;
  fleet.fewestStanding();
  fleet.down(first);
  fleet.run(90);
  expect(fleet.fewestStanding()).toBeGreaterThanOrEqual(N - had);
  expect(fleet.standing).toBeGreaterThanOrEqual(N - 0.01 * had);
  fleet.run(210);
  expect(fleet.standing).toBe(N);
  first.up = true;
  fleet.run(300);
  console.log(chart(`dials, one of three replicas gone 0..300 s`, fleet.dials.between(120, 720), 30, LIMIT));
  // Of those that it lost each dials once, within the window; nobody storms it when it comes back.
  expect(fleet.dials.most(120, 420)).toBeLessThanOrEqual((2 * had) / WINDOW_S);
  expect(fleet.dials.total(120, 420)).toBeLessThanOrEqual(1.1 * had);
  expect(first.attempts.most(420, 720)).toBeLessThanOrEqual(LIMIT / 100);

  // An hour later every connection has come of age once.
  fleet.fewestStanding();
  fleet.run(3_600);
  const shares = fleet.replicas.map(({ name, links }) => `${name} ${links.size}`);
  console.log(`an hour later: ${shares.join(', ')}`);
  for (const { links } of fleet.replicas) expect(Math.abs(links.size - N / 3)).toBeLessThan(0.1 * (N / 3));
  expect(fleet.fewestStanding(), 'sessions that were broken before they were replaced').toBe(N);
}, 60_000);

test('a rollout of all three replicas costs nobody its session, and leaves them evenly loaded in the end', () => {
  const fleet = new Fleet({ size: N, replicas: 3, maxAgeMs: 3_600_000, heartbeatSeconds: 60 });
  fleet.start(60);
  fleet.run(120);
  fleet.fewestStanding();
  for (const replica of fleet.replicas) {
    fleet.drain(replica, 30);
    fleet.run(45);
    expect(replica.links.size).toBe(0);
    replica.up = true;
    fleet.run(15);
  }
  console.log(chart('dials, a rollout of three replicas', fleet.dials.between(120, 300), 5, LIMIT));
  console.log(`after the rollout: ${fleet.replicas.map(({ links }) => links.size).join(', ')}`);
  expect(fleet.dials.most(120, 300)).toBeLessThanOrEqual(LIMIT);
  fleet.run(3_600);
  console.log(`an hour later: ${fleet.replicas.map(({ links }) => links.size).join(', ')}`);
  for (const { links } of fleet.replicas) expect(Math.abs(links.size - N / 3)).toBeLessThan(0.1 * (N / 3));
  expect(fleet.fewestStanding()).toBe(N);
}, 60_000);

test('a wider window that the gateway asked for is held to, too', () => {
  const size = 3_000;
  const window = 60;
  const fleet = new Fleet({ size, replicas: 1, redialWindowSeconds: window });
  const [gateway] = fleet.replicas;
  if (gateway === undefined) throw new Error('no gateway');
  fleet.start(60);
  fleet.run(120);
  fleet.down(gateway);
  fleet.run(600);
  gateway.up = true;
  fleet.run(120);
  expect(fleet.standing).toBe(size);
  // A second of so few dials scatters: three standard deviations above the limit is its noise.
  const limit = (2 * size) / window;
  expect(fleet.dials.most(120, 840)).toBeLessThanOrEqual(limit + 3 * Math.sqrt(limit));
}, 60_000);

test('redials after 1, 2, 4 s would break the promise: those that failed early meet those that have not dialled', () => {
  const random = seeded(1);
  const dials = new PerSecond();
  for (let id = 0; id < N; id += 1) {
    let at = random() * WINDOW_S;
    for (let attempt = 0; at < 60; attempt += 1) {
      dials.add(at * 1000);
      at += random() * Math.min(60, 2 ** attempt);
    }
  }
  console.log(chart('dials that double from 1 s', dials.between(0, 60), 5, LIMIT));
  expect(dials.most(0, 60)).toBeGreaterThan(1.5 * LIMIT);
});
