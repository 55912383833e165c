import { describe, expect, test } from 'vitest';
import type { GatewayMessage, SupervisorMessage } from '../../proto/generated/openshell/v1/openshell.ts';
import {
  GatewaySession,
  type SessionOptions,
  type SessionState,
  type StreamEvents,
} from '../../supervisor/gateway/session.ts';
import { CallError, STATUS } from '../../supervisor/rpc/status.ts';
import { VirtualClock } from './virtual-clock.ts';

interface Dialled {
  readonly events: StreamEvents;
  readonly renewToken: boolean;
  readonly at: number;
  readonly sent: SupervisorMessage[];
  ended: boolean;
  cancelled: boolean;
  probes: number;
  deaf: boolean;
}

const HELLO: SupervisorMessage = {
  payload: { $case: 'relayClose', value: { channelId: 'hello', reason: '' } },
};
const BEAT: SupervisorMessage = {
  payload: { $case: 'relayClose', value: { channelId: 'beat', reason: '' } },
};

const accepted = (
  over: Partial<{ heartbeatIntervalSecs: number; redialWindowSecs: number }> = {},
): GatewayMessage => ({
  payload: {
    $case: 'sessionAccepted',
    value: {
      sessionId: 's',
      heartbeatIntervalSecs: 15,
      redialWindowSecs: 0,
      gatewayVersion: '2.0',
      capabilities: ['x'],
      ...over,
    },
  },
});
const heartbeat: GatewayMessage = { payload: { $case: 'heartbeat', value: {} } };
const relayOpen: GatewayMessage = {
  payload: { $case: 'relayOpen', value: { channelId: 'c', serviceId: '', target: undefined } },
};
const rejected: GatewayMessage = { payload: { $case: 'sessionRejected', value: { reason: 'full' } } };
const failure = (code: number, retryAfterMs = 0) => new CallError(code, 'no', retryAfterMs);

function world(random: () => number = () => 0.5, more: Partial<SessionOptions> = {}) {
  const clock = new VirtualClock();
  const dialled: Dialled[] = [];
  const states: SessionState[] = [];
  const session = new GatewaySession({
    clock,
    random,
    dial: (events, renewToken) => {
      const one: Dialled = {
        events,
        renewToken,
        at: clock.now(),
        sent: [],
        ended: false,
        cancelled: false,
        probes: 0,
        deaf: false,
      };
      dialled.push(one);
      return {
        relay: () => {
          throw new Error('there are no relays here');
        },
        send: (message) => {
          one.sent.push(message);
          return !one.deaf;
        },
        end: () => {
          one.ended = true;
        },
        cancel: () => {
          one.cancelled = true;
        },
        probe: () => {
          one.probes += 1;
        },
      };
    },
    hello: () => HELLO,
    heartbeat: () => BEAT,
    onRelayOpen: ({ channelId }, session) => session.reply({ channelId, success: false, error: 'not here' }),
    onRelayClose: () => undefined,
    onState: (state) => states.push(state),
    onBeat: () => undefined,
    maxAgeMs: 0,
    ...more,
  });
  const last = (): Dialled => {
    const one = dialled.at(-1);
    if (one === undefined) throw new Error('nothing was dialled');
    return one;
  };
  /** Dials and is accepted. */
  const stand = (): Dialled => {
    session.start();
    last().events.message(accepted());
    return last();
  };
  return { clock, dialled, states, session, last, stand, kind: () => session.state.kind };
}

describe('a session', () => {
  test('says hello at once, before anything was heard', () => {
    const { session, last } = world();
    session.start();
    expect(last().sent).toEqual([HELLO]);
  });

  test('stands once it is accepted, and keeps what the gateway said of itself', () => {
    const { stand, session } = world();
    stand();
    expect(session.state).toEqual({
      kind: 'established',
      sessionId: 's',
      intervalMs: 15_000,
      gatewayVersion: '2.0',
      gatewayCapabilities: ['x'],
    });
  });

  test('that is not accepted within 45 s is given up and dialled again', () => {
    const { session, clock, dialled, kind } = world();
    session.start();
    clock.run(44_999);
    expect(kind()).toBe('connecting');
    clock.run(1);
    expect(kind()).toBe('offline');
    expect(dialled[0]?.cancelled).toBe(true);
    clock.run(5_000);
    expect(dialled).toHaveLength(2);
  });

  test('whose stream the gateway closes is dialled again after a part of the window', () => {
    const { stand, clock, dialled, session } = world();
    stand().events.closed(undefined);
    expect(session.state).toMatchObject({
      kind: 'offline',
      redialInMs: 5_000,
      reason: expect.stringMatching(/closed the session/),
    });
    clock.run(4_999);
    expect(dialled).toHaveLength(1);
    clock.run(1);
    expect(dialled).toHaveLength(2);
  });

  test('that is superseded over and over slows down, because it never stands for 60 s', () => {
    const { stand, clock, dialled, last } = world();
    stand();
    const waits: number[] = [];
    for (let round = 0; round < 6; round += 1) {
      clock.run(1_000);
      const lost = clock.now();
      last().events.closed(undefined);
      while (dialled.length === round + 1) clock.run(100);
      waits.push(Math.round((last().at - lost) / 1000));
      last().events.message(accepted());
    }
    expect(waits).toEqual([5, 10, 20, 30, 30, 30]);
    clock.run(10_000);
    last().events.message(heartbeat);
    clock.run(30_000);
    last().events.message(heartbeat);
    clock.run(30_000);
    last().events.closed(undefined);
    clock.run(5_000);
    expect(last().at).toBe(clock.now());
  });

  test.each([
    ['UNAUTHENTICATED', STATUS.UNAUTHENTICATED, true],
    ['PERMISSION_DENIED', STATUS.PERMISSION_DENIED, true],
    ['NOT_FOUND', STATUS.NOT_FOUND, false],
    ['INVALID_ARGUMENT', STATUS.INVALID_ARGUMENT, false],
  ] as const)(
    'that %s refuses waits 15 to 30 s, and longer each time up to 10 min',
    (_name, code, renews) => {
      const { session, clock, last, states, dialled } = world();
      session.start();
      for (let round = 0; round < 8; round += 1) {
        last().events.closed(failure(code));
        expect(session.state.kind).toBe('refused');
        while (dialled.length === round + 1) clock.run(1_000);
        expect(last().renewToken).toBe(renews);
      }
      const waits = states.flatMap((state) => (state.kind === 'refused' ? [state.redialInMs] : []));
      expect(waits).toEqual([22_500, 45_000, 90_000, 180_000, 360_000, 450_000, 450_000, 450_000]);
    },
  );

  test('that is rejected, before or after it was accepted, is refused with the gateway’s reason', () => {
    const before = world();
    before.session.start();
    before.last().events.message(rejected);
    const after = world();
    after.stand().events.message(rejected);
    for (const { session, dialled } of [before, after]) {
      expect(session.state).toMatchObject({ kind: 'refused', reason: expect.stringMatching(/full/) });
      expect(dialled[0]?.cancelled).toBe(true);
    }
  });

  test('waits at least as long as the gateway asked', () => {
    const { session, last } = world();
    session.start();
    last().events.closed(failure(STATUS.UNAVAILABLE, 60_000));
    expect(session.state).toMatchObject({ kind: 'offline', redialInMs: 65_000 });
  });

  test('takes the gateway’s window for the next loss', () => {
    const { session, last } = world();
    session.start();
    last().events.message(accepted({ redialWindowSecs: 60 }));
    last().events.closed(undefined);
    expect(session.state).toMatchObject({ redialInMs: 30_000 });
  });
});

describe('messages', () => {
  test('that are unknown or come in no sensible order change nothing but that something was heard', () => {
    const { session, last, kind, states } = world();
    session.start();
    const unknown: GatewayMessage = { payload: undefined };
    const relayClose: GatewayMessage = {
      payload: { $case: 'relayClose', value: { channelId: 'x', reason: '' } },
    };
    for (const message of [heartbeat, unknown, relayClose]) last().events.message(message);
    expect(kind()).toBe('connecting');
    last().events.message(accepted());
    for (const message of [accepted({ heartbeatIntervalSecs: 5 }), unknown, relayClose, heartbeat])
      last().events.message(message);
    expect(states.map((state) => state.kind)).toEqual(['connecting', 'established']);
    expect(session.state).toMatchObject({ intervalMs: 15_000 });
  });

  test('ask for a relay before the acceptance or after it, and get their answer', () => {
    const { session, last } = world();
    session.start();
    last().events.message(relayOpen);
    last().events.message(accepted());
    last().events.message(relayOpen);
    const value = { channelId: 'c', success: false, error: 'not here' };
    const answer = { payload: { $case: 'relayOpenResult', value } };
    expect(last().sent).toEqual([HELLO, answer, answer]);
  });

  test('of a stream that was given up are not heard', () => {
    const { stand, clock, dialled, states } = world();
    const first = stand();
    first.events.closed(undefined);
    clock.run(5_000);
    const count = states.length;
    first.events.message(accepted());
    first.events.closed(undefined);
    first.events.retire({ reason: 'late', spread: true });
    expect(states).toHaveLength(count);
    expect(dialled).toHaveLength(2);
  });
});

describe('a link', () => {
  test('on which nothing comes for three intervals is dead', () => {
    const { stand, clock, session, dialled } = world();
    const stream = stand();
    clock.run(30_000);
    stream.events.message(heartbeat);
    clock.run(44_999);
    expect(session.state.kind).toBe('established');
    clock.run(1);
    expect(session.state).toMatchObject({
      kind: 'offline',
      reason: expect.stringMatching(/nothing heard for 45 s/),
    });
    expect(dialled[0]?.cancelled).toBe(true);
  });

  test('to a gateway that does not read is dead', () => {
    const { stand, clock, session } = world();
    stand().deaf = true;
    clock.run(7_500);
    expect(session.state).toMatchObject({ kind: 'offline', reason: expect.stringMatching(/does not read/) });
  });

  test('is tried with a PING after the machine slept, and not judged by what was not heard in its sleep', () => {
    const { stand, clock, kind } = world();
    const stream = stand();
    clock.run(7_000);
    clock.leap(3_600_000);
    clock.run(10_000);
    expect(stream.probes).toBe(1);
    expect(kind()).toBe('established');
  });

  test('survives a wall clock that is set back or forward: the beats keep their pace', () => {
    const { stand, clock, kind } = world();
    const stream = stand();
    const beats = () => stream.sent.filter((message) => message === BEAT).length;
    for (const leap of [-86_400_000, 86_400_000 * 365, -5_000]) {
      const before = beats();
      clock.leap(leap);
      for (let turn = 0; turn < 6; turn += 1) {
        clock.run(10_000);
        stream.events.message(heartbeat);
      }
      expect(beats() - before).toBeGreaterThanOrEqual(4);
      expect(beats() - before).toBeLessThanOrEqual(5);
    }
    expect(kind()).toBe('established');
  });
});

describe('a connection that should be replaced', () => {
  const goaway = { reason: 'GOAWAY', spread: true };

  test('because of a GOAWAY is replaced after a part of the window, and ends when the new session stands', () => {
    const { stand, clock, dialled, last, kind } = world();
    const first = stand();
    first.events.retire(goaway);
    expect(kind()).toBe('draining');
    clock.run(4_999);
    expect(dialled).toHaveLength(1);
    clock.run(1);
    expect(dialled).toHaveLength(2);
    expect(first.ended).toBe(false);
    last().events.message(accepted());
    expect(kind()).toBe('established');
    expect(first.ended).toBe(true);
    expect(first.cancelled).toBe(false);
    clock.run(10_000);
    expect(first.cancelled).toBe(true);
  });

  test('because of its age is replaced at once; ages lie between half the limit and the limit', () => {
    for (const [draw, age] of [
      [0, 1_800_000],
      [0.5, 2_700_000],
      [0.999_999, 3_600_000],
    ] as const) {
      const { stand, clock, dialled, last } = world(() => draw, { maxAgeMs: 3_600_000 });
      const first = stand();
      while (dialled.length === 1 && clock.now() < 4_000_000) {
        clock.run(10_000);
        first.events.message(heartbeat);
      }
      expect(Math.abs(last().at - age)).toBeLessThan(10_000);
    }
  });

  test('goes on as it was while its replacement cannot be had', () => {
    const { stand, clock, dialled, last, kind, states } = world();
    const first = stand();
    first.events.retire(goaway);
    for (let round = 0; round < 3; round += 1) {
      while (dialled.length === round + 1) {
        clock.run(5_000);
        first.events.message(heartbeat);
      }
      last().events.closed(failure(STATUS.UNAVAILABLE));
      expect(kind()).toBe('draining');
    }
    expect(states.map((state) => state.kind)).toEqual(['connecting', 'established', 'draining']);
    expect(first.cancelled).toBe(false);
  });

  test('and breaks before its replacement is dialled keeps the wait that was drawn', () => {
    const { stand, clock, dialled, session } = world();
    const first = stand();
    first.events.retire(goaway);
    clock.run(2_000);
    first.events.closed(failure(STATUS.UNAVAILABLE));
    expect(session.state).toMatchObject({ kind: 'offline', redialInMs: 3_000 });
    clock.run(3_000);
    expect(dialled).toHaveLength(2);
  });

  test('and breaks while its replacement is dialled leaves that dial alone', () => {
    const { stand, clock, dialled, last, kind } = world();
    const first = stand();
    first.events.retire(goaway);
    clock.run(5_000);
    first.events.closed(failure(STATUS.UNAVAILABLE));
    expect(kind()).toBe('connecting');
    last().events.message(accepted());
    expect(kind()).toBe('established');
    expect(dialled).toHaveLength(2);
  });

  test('and is closed because the next hello superseded it is no outage while that one is being answered', () => {
    const { stand, clock, last, kind, states } = world();
    const first = stand();
    first.events.retire(goaway);
    clock.run(5_000);
    first.events.closed(undefined);
    expect(kind()).toBe('draining');
    last().events.message(accepted());
    expect(states.map((state) => state.kind)).toEqual([
      'connecting',
      'established',
      'draining',
      'established',
    ]);
  });

  test('and is closed so is offline when the next one fails after all', () => {
    const { stand, clock, last, kind } = world();
    const first = stand();
    first.events.retire(goaway);
    clock.run(5_000);
    first.events.closed(undefined);
    last().events.closed(failure(STATUS.UNAVAILABLE));
    expect(kind()).toBe('offline');
    clock.run(60_000);
    last().events.message(accepted());
    expect(kind()).toBe('established');
  });

  test('is told so once: a second GOAWAY changes nothing', () => {
    const { stand, clock, dialled } = world();
    const first = stand();
    first.events.retire(goaway);
    first.events.retire(goaway);
    clock.run(5_000);
    expect(dialled).toHaveLength(2);
  });
});

test('a stop ends every state for good, and politely where a session stands', () => {
  const bring: Readonly<Record<string, (made: ReturnType<typeof world>) => void>> = {
    connecting: ({ session }) => session.start(),
    established: ({ stand }) => void stand(),
    draining: ({ stand }) => stand().events.retire({ reason: 'x', spread: true }),
    offline: ({ stand }) => stand().events.closed(undefined),
    refused: ({ stand }) => stand().events.message(rejected),
  };
  for (const [kind, into] of Object.entries(bring)) {
    const made = world();
    into(made);
    expect(made.kind()).toBe(kind);
    const count = made.dialled.length;
    made.session.stop();
    expect(made.kind()).toBe('stopped');
    made.clock.run(3_600_000);
    expect(made.dialled).toHaveLength(count);
    const [first] = made.dialled;
    if (kind === 'established' || kind === 'draining')
      expect(first).toMatchObject({ ended: true, cancelled: false });
    if (kind === 'connecting') expect(first?.cancelled).toBe(true);
    made.session.stop();
    expect(made.states.filter((state) => state.kind === 'stopped')).toHaveLength(1);
  }
});
