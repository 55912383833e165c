import { describe, expect, test } from 'vitest';
import { OfflineGrace } from '../supervisor/offline-grace.ts';

const HOUR = 3_600_000;

/** A clock that a test winds; `jump` moves it without running what became due meanwhile one by one. */
function fixture(graceMs: number) {
  let now = 0;
  let due: { readonly at: number; readonly task: () => void }[] = [];
  const events: string[] = [];
  const runDue = (until: number): boolean => {
    const next = due.sort((a, b) => a.at - b.at)[0];
    if (next === undefined || next.at > until) return false;
    due = due.filter((one) => one !== next);
    now = Math.max(now, next.at);
    next.task();
    return true;
  };
  const grace = new OfflineGrace({
    clock: {
      now: () => now,
      monotonic: () => now,
      after(delayMs, task) {
        const entry = { at: now + delayMs, task };
        due.push(entry);
        return () => {
          due = due.filter((one) => one !== entry);
        };
      },
    },
    graceMs,
    onExpired: (offlineMs) => events.push(`expired after ${offlineMs}`),
    onReturned: () => events.push('returned'),
  });
  return {
    grace,
    events,
    pending: () => due.length,
    pass(ms: number) {
      const end = now + ms;
      while (runDue(end));
      now = end;
    },
    jump(ms: number) {
      now += ms;
      runDue(now);
    },
  };
}

describe('the offline grace', () => {
  test('expires once, at its end, and tells when the gateway is back', () => {
    const { grace, events, pass } = fixture(24 * HOUR);
    grace.offline();
    pass(24 * HOUR - 1);
    expect([events, grace.excused]).toEqual([[], true]);
    pass(1);
    expect([events, grace.excused]).toEqual([[`expired after ${24 * HOUR}`], false]);
    pass(100 * HOUR);
    expect(events).toHaveLength(1);
    expect(grace.state).toMatchObject({ kind: 'expired', offlineMs: 124 * HOUR });
    grace.online();
    expect([events[1], grace.state, grace.excused]).toEqual(['returned', { kind: 'online' }, true]);
  });

  test('begins anew with each outage', () => {
    const { grace, events, pass } = fixture(HOUR);
    for (let outage = 0; outage < 3; outage++) {
      grace.offline();
      pass(HOUR - 1);
      grace.offline(); // said again: changes nothing
      grace.online();
      pass(HOUR);
    }
    expect(events).toEqual([]);
  });

  test('is not used up by a machine that slept or a clock that jumped', () => {
    const { grace, events, jump, pass } = fixture(HOUR);
    grace.offline();
    pass(60_000);
    jump(48 * HOUR);
    expect(events).toEqual([]);
    expect(grace.state).toEqual({ kind: 'grace', offlineMs: 120_000 });
    pass(HOUR);
    expect(events).toHaveLength(1);
  });

  test('of nothing expires at once', () => {
    const { grace, events, pass } = fixture(0);
    grace.offline();
    pass(1);
    expect(events).toHaveLength(1);
  });

  test('leaves no timer behind', () => {
    const { grace, pending } = fixture(HOUR);
    grace.offline();
    expect(pending()).toBe(1);
    grace.online();
    expect(pending()).toBe(0);
    grace.offline();
    grace.stop();
    expect(pending()).toBe(0);
  });
});
