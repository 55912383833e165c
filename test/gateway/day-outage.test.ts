/**
 * A day without a gateway in fast-forward: the real buffer on a real disk, the real delivery, virtual time. The supervisor
 * is replaced in the middle of it; answers get lost when the gateway is back.
 */
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { openDiskBuffer } from '../../supervisor/buffer/disk-buffer.ts';
import { Delivery } from '../../supervisor/gateway/delivery/delivery.ts';
import { CallError, STATUS } from '../../supervisor/rpc/status.ts';
import { VirtualClock } from './virtual-clock.ts';

const root = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'day-outage-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));

const MINUTE = 60_000;
const DAY = 24 * 60 * MINUTE;
/** So much that the bound forces some out: a line each 200 ms, an audit each second. */
const LINES_A_MINUTE = 300;
const AUDITS_A_MINUTE = 60;

/** What reached the gateway, by the name that every record has once and for all. */
class Gateway {
  readonly records = new Map<string, string>();
  /** Numbers that a gap record says are lost, by boot and class. */
  readonly gaps = new Map<
    string,
    { readonly key: string; readonly first: number; readonly last: number; readonly count: number }
  >();
  duplicates = 0;

  take(fields: Readonly<Record<string, string>>, message: string): void {
    const key = `${fields['openshell.boot']} ${fields['openshell.class']}`;
    if (fields['openshell.sequence'] === undefined) {
      const [first, last, count] = [fields['first'], fields['last'], fields['count']].map(Number);
      if (first === undefined || last === undefined || count === undefined) throw new Error(message);
      this.gaps.set(`${key} ${first}`, { key, first, last, count });
      return;
    }
    const name = `${key} ${fields['openshell.sequence']}`;
    if (this.records.has(name)) {
      this.duplicates += 1;
      expect(this.records.get(name)).toBe(message);
    }
    this.records.set(name, message);
  }
}

test('a day without a gateway: every record arrives once after de-duplication, or a gap record counts it', async () => {
  const gateway = new Gateway();
  const clock = new VirtualClock();
  let away = true;
  let calls = 0;
  let answers = 0;
  const start = (boot: string) => {
    const buffer = openDiskBuffer({
      directory: join(root, 'state'),
      boot,
      sandboxId: 'sandbox',
      clock,
      maxBytes: 16 << 20,
      report: (event) => {
        if (event.kind !== 'predecessor') throw new Error(JSON.stringify(event));
      },
    });
    const delivery = new Delivery({
      clock,
      random: Math.random,
      sandboxId: 'sandbox',
      buffer,
      send: async (call) => {
        calls += 1;
        if (away) throw new CallError(STATUS.UNAVAILABLE, 'away');
        if (call.kind !== 'lines') return;
        for (const { fields, message } of call.request.logs) gateway.take(fields, message);
        // Taken, and the answer is lost on its way, each seventh time.
        answers += 1;
        if (answers % 7 === 0) throw new CallError(STATUS.UNAVAILABLE, 'reset');
      },
      onError: () => undefined,
    });
    delivery.start();
    return { buffer, delivery };
  };
  const settle = async () => {
    for (let turn = 0; turn < 20; turn += 1) await undefined;
  };
  const sent = { logs: 0, audit: 0 };
  const live = async ({ buffer }: ReturnType<typeof start>, minutes: number) => {
    for (let minute = 0; minute < minutes; minute += 1) {
      for (let line = 0; line < LINES_A_MINUTE; line += 1) {
        const message = `line ${sent.logs++} ${'x'.repeat(line % 200)}`;
        buffer.append('logs', {
          kind: 'log',
          at: clock.now(),
          level: 'INFO',
          target: 't',
          message,
          fields: {},
        });
      }
      for (let event = 0; event < AUDITS_A_MINUTE; event += 1)
        buffer.append('audit', { kind: 'event', at: clock.now(), message: `event ${sent.audit++}` });
      for (let step = 0; step < 6; step += 1) {
        clock.run(MINUTE / 6);
        await settle();
      }
    }
  };

  const first = start('boot-1');
  await live(first, (DAY / MINUTE) * 0.5);
  first.delivery.stop();
  first.buffer.close();
  const second = start('boot-2');
  await live(second, (DAY / MINUTE) * 0.5);
  // Asked about once a minute at the most, all day long.
  expect(calls).toBeLessThan(1_440 * 3 * 2);

  away = false;
  second.delivery.hurry();
  for (let step = 0; step < 3_000 && second.buffer.stats().entries > 0; step += 1) {
    clock.run(500);
    await settle();
  }
  expect(second.buffer.stats()).toMatchObject({ entries: 0, corrupt: 0, degraded: undefined });

  // Per boot and class the numbers are 1 to n without a hole: each is a record or within a gap.
  const byKey = new Map<string, number[]>();
  for (const name of gateway.records.keys()) {
    const [boot, recordClass, sequence] = name.split(' ');
    const key = `${boot} ${recordClass}`;
    byKey.set(key, [...(byKey.get(key) ?? []), Number(sequence)]);
  }
  // All lines of the morning may be gone.
  for (const { key } of gateway.gaps.values()) byKey.set(key, byKey.get(key) ?? []);
  const total = { logs: 0, audit: 0 };
  for (const [key, sequences] of byKey) {
    const gaps = [...gateway.gaps.values()].filter((gap) => gap.key === key);
    const lost = gaps.reduce((sum, { count }) => sum + count, 0);
    const end = [...sequences, ...gaps.map(({ last }) => last)].reduce((most, one) => Math.max(most, one), 0);
    expect({ key, all: sequences.length + lost }).toEqual({ key, all: end });
    // A gap counts what is missing within it, and nothing that has arrived.
    const arrived = new Set(sequences);
    for (const { first, last, count } of gaps) {
      let missing = 0;
      for (let sequence = first; sequence <= last; sequence += 1) if (!arrived.has(sequence)) missing += 1;
      expect({ key, first, missing }).toEqual({ key, first, missing: count });
    }
    if (key.endsWith('audit')) {
      expect(gaps).toEqual([]);
      total.audit += end;
    } else total.logs += end;
  }
  expect(total).toEqual(sent);
  expect(gateway.duplicates).toBeGreaterThan(0);
  expect(gateway.gaps.size).toBeGreaterThan(0);
  second.buffer.close();
}, 240_000);
