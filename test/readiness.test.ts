import { describe, expect, test } from 'vitest';
import { type ReadinessInput, readinessOf } from '../supervisor/readiness.ts';

const standing = {
  kind: 'established',
  sessionId: 's',
  intervalMs: 1,
  gatewayVersion: '',
  gatewayCapabilities: [],
} as const;
const away = { kind: 'offline', reason: 'gone', redialInMs: 1 } as const;
const input: ReadinessInput = {
  running: true,
  ending: false,
  closed: undefined,
  session: standing,
  offline: { kind: 'online' },
};

describe('readiness', () => {
  test.each<[string, Partial<ReadinessInput>, readonly RegExp[]]>([
    ['a session that stands', {}, []],
    ['no gateway at all', { session: undefined }, []],
    [
      'a gateway that is away within the grace, which is told',
      { session: away, offline: { kind: 'grace', offlineMs: 61_000 } },
      [/session is offline; the offline grace excuses it, 61 s/],
    ],
    [
      'a redial within the grace',
      { session: { kind: 'connecting' }, offline: { kind: 'grace', offlineMs: 0 } },
      [/session is connecting/],
    ],
  ])('is given with %s', (_name, part, reasons) => {
    const readiness = readinessOf({ ...input, ...part });
    expect(readiness.ready).toBe(true);
    expect(readiness.reasons).toHaveLength(reasons.length);
    for (const [index, reason] of reasons.entries()) expect(readiness.reasons[index]).toMatch(reason);
  });

  test.each<[string, Partial<ReadinessInput>, RegExp]>([
    ['before the main process runs', { running: false }, /^the main process does not run$/],
    ['before the first session', { session: { kind: 'connecting' } }, /^the gateway session is connecting$/],
    ['when the end was asked for', { ending: true, running: false }, /^the sandbox is ending$/],
    [
      'when the grace is over',
      { session: away, offline: { kind: 'expired', offlineMs: 1 } },
      /^the gateway session is offline$/,
    ],
    [
      'when the gateway refuses the sandbox, whatever the grace',
      {
        session: { kind: 'refused', reason: 'no', redialInMs: 1 },
        offline: { kind: 'grace', offlineMs: 1 },
      },
      /^the gateway session is refused$/,
    ],
    ['while everything is denied', { closed: 'policy version 2 was rejected' }, /version 2 was rejected/],
  ])('is withheld %s', (_name, part, reason) => {
    const readiness = readinessOf({ ...input, ...part });
    expect(readiness).toMatchObject({ ready: false });
    expect(readiness.reasons.join('\n')).toMatch(reason);
  });
});
