/**
 * What a gateway, or something that took its place, may send: random bytes at every layer, and valid frames in
 * any order. Nothing of it may end the process, wedge the session, or make it dial without a pause.
 */
import { createServer as createHttp2Server, type Http2Server, type ServerHttp2Stream } from 'node:http2';
import { createServer, type Server, type Socket } from 'node:net';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { GatewayMessage, type SupervisorMessage } from '../../proto/generated/openshell/v1/openshell.ts';
import type { Keepalive } from '../../supervisor/gateway/dial.ts';
import { GatewaySession, type StreamEvents } from '../../supervisor/gateway/session.ts';
import { FrameReader, frameOf } from '../../supervisor/rpc/frames.ts';
import { retryAfter, statusOf } from '../../supervisor/rpc/outcome.ts';
import { CallError } from '../../supervisor/rpc/status.ts';
import { linkTo, until } from './link-fixture.ts';
import { VirtualClock } from './virtual-clock.ts';

const RUNS = 300;
const accepted: GatewayMessage = {
  payload: {
    $case: 'sessionAccepted',
    value: {
      sessionId: 's',
      heartbeatIntervalSecs: 15,
      redialWindowSecs: 0,
      gatewayVersion: '',
      capabilities: [],
    },
  },
};

describe('the frame reader', () => {
  test('gives back what was framed, however it is cut', () => {
    const messages = fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 8 });
    fc.assert(
      fc.property(messages, fc.infiniteStream(fc.integer({ min: 1, max: 40 })), (sent, cuts) => {
        const bytes = Buffer.concat(sent.map(frameOf));
        const reader = new FrameReader(1_000);
        const got: Buffer[] = [];
        for (let from = 0; from < bytes.length; ) {
          const size = cuts.next().value ?? 1;
          got.push(...reader.push(bytes.subarray(from, from + size)));
          from += size;
        }
        expect(got.map((one) => [...one])).toEqual(sent.map((one) => [...one]));
        expect(reader.complete).toBe(true);
      }),
      { numRuns: RUNS },
    );
  });

  test('holds no more than one message of the limit, and answers anything else with a CallError', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ minLength: 1, maxLength: 64 }), { maxLength: 50 }), (chunks) => {
        const reader = new FrameReader(128);
        try {
          for (const chunk of chunks)
            for (const message of reader.push(Buffer.from(chunk)))
              expect(message.length).toBeLessThanOrEqual(128);
        } catch (error) {
          expect(error).toBeInstanceOf(CallError);
        }
      }),
      { numRuns: RUNS },
    );
  });
});

test('status details of any bytes ask for a bounded time, and statuses of any text are a CallError', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 80 }), fc.string(), fc.string(), (bytes, code, message) => {
      const asked = retryAfter(Buffer.from(bytes).toString('base64'));
      expect(asked).toBeGreaterThanOrEqual(0);
      expect(asked).toBeLessThanOrEqual(600_000);
      const error = statusOf({ 'grpc-status': code, 'grpc-message': message });
      if (error !== undefined) expect(Number.isInteger(error.code)).toBe(true);
    }),
    { numRuns: RUNS },
  );
});

const SETTINGS = Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]);
/** An HTTP/2 frame: length, kind, flags, stream (RFC 9113, section 4.1). */
const frame = fc
  .tuple(fc.uint8Array({ maxLength: 40 }), fc.nat({ max: 12 }), fc.nat({ max: 255 }), fc.nat({ max: 7 }))
  .map(([payload, type, flags, stream]) =>
    Buffer.concat([Buffer.from([0, 0, payload.length, type, flags, 0, 0, 0, stream]), payload]),
  );

/** What can happen to a session from outside. */
type Step =
  | { readonly kind: 'message'; readonly message: GatewayMessage }
  | { readonly kind: 'closed'; readonly code: number | undefined }
  | { readonly kind: 'retire'; readonly spread: boolean }
  | { readonly kind: 'pass'; readonly ms: number }
  | { readonly kind: 'leap'; readonly ms: number };

const text = fc.string({ maxLength: 5 });
const u32 = fc.nat({ max: 0xffff_ffff });
const message: fc.Arbitrary<GatewayMessage> = fc
  .oneof(
    fc.record({ heartbeatIntervalSecs: u32, redialWindowSecs: u32, sessionId: text }).map((value) => ({
      $case: 'sessionAccepted' as const,
      value: { ...value, gatewayVersion: '', capabilities: [] },
    })),
    fc.constant({ $case: 'sessionAccepted' as const, value: accepted.payload?.value }),
    text.map((reason) => ({ $case: 'sessionRejected' as const, value: { reason } })),
    fc.constant({ $case: 'heartbeat' as const, value: {} }),
    text.map((channelId) => ({
      $case: 'relayOpen' as const,
      value: { channelId, serviceId: '', target: undefined },
    })),
    text.map((channelId) => ({ $case: 'relayClose' as const, value: { channelId, reason: '' } })),
    fc.constant(undefined),
  )
  .map((payload) => ({ payload }) as GatewayMessage);
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 5, arbitrary: message.map((one): Step => ({ kind: 'message', message: one })) },
  {
    weight: 2,
    arbitrary: fc
      .option(fc.nat({ max: 17 }), { nil: undefined })
      .map((code): Step => ({ kind: 'closed', code })),
  },
  { weight: 1, arbitrary: fc.boolean().map((spread): Step => ({ kind: 'retire', spread })) },
  { weight: 4, arbitrary: fc.nat({ max: 70_000 }).map((ms): Step => ({ kind: 'pass', ms })) },
  { weight: 1, arbitrary: fc.integer({ min: -1e9, max: 1e9 }).map((ms): Step => ({ kind: 'leap', ms })) },
);

test('whatever happens in whatever order, a session dials on, never two at once, and stands when it is let', () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(step, fc.nat({ max: 3 })), { maxLength: 60 }),
      fc.noShrink(fc.double({ min: 0, max: 0.999, noNaN: true })),
      (steps, draw) => {
        const clock = new VirtualClock();
        const streams: { readonly events: StreamEvents; over: boolean; ended: boolean }[] = [];
        const session = new GatewaySession({
          clock,
          random: () => draw,
          dial: (events) => {
            const one = { events, over: false, ended: false };
            // The one that stands may be open while its successor is dialled, and no other.
            expect(streams.filter(({ over, ended }) => !over && !ended).length).toBeLessThanOrEqual(1);
            streams.push(one);
            return {
              relay: () => {
                throw new Error('there are no relays here');
              },
              send: (_: SupervisorMessage) => true,
              end: () => {
                one.ended = true;
              },
              // A cancelled stream says that it closed, as the real one does.
              cancel: () => {
                if (one.over) return;
                one.over = true;
                events.closed(new CallError(1, 'given up'));
              },
              probe: () => undefined,
            };
          },
          hello: () => ({ payload: undefined }),
          heartbeat: () => ({ payload: undefined }),
          onRelayOpen: () => undefined,
          onRelayClose: () => undefined,
          onState: () => undefined,
          onBeat: () => undefined,
        });
        session.start();
        for (const [one, back] of steps) {
          // Late events of earlier streams are part of the disorder.
          const stream = streams.at(-1 - back) ?? streams.at(-1);
          if (one.kind === 'pass') clock.run(one.ms);
          else if (one.kind === 'leap') clock.leap(one.ms);
          else if (stream === undefined) throw new Error('nothing was dialled');
          else if (one.kind === 'message') stream.events.message(one.message);
          else if (one.kind === 'retire') stream.events.retire({ reason: 'x', spread: one.spread });
          else if (!stream.over) {
            stream.over = true;
            stream.events.closed(one.code === undefined ? undefined : new CallError(one.code, 'no'));
          }
        }
        // Not wedged: whatever state it is in, once the gateway behaves there is a session before long.
        for (let minute = 0; minute < 40; minute += 1) {
          const stream = streams.at(-1);
          if (stream !== undefined && !stream.over) stream.events.message(accepted);
          if (session.state.kind === 'established') break;
          clock.run(60_000 * (minute % 2 === 0 ? 0.7 : 12));
          streams.at(-1)?.events.message(accepted);
        }
        expect(session.state.kind).toBe('established');
        // Never in a tight loop: what did not follow an event from outside followed 15 s of silence at the least.
        expect(streams.length).toBeLessThanOrEqual(2 + steps.length + clock.monotonic() / 15_000);
        session.stop();
        expect(session.state.kind).toBe('stopped');
        const count = streams.length;
        clock.run(3_600_000);
        expect(streams).toHaveLength(count);
      },
    ),
    { numRuns: RUNS },
  );
});

describe('a link to something that is no gateway', () => {
  let raw: Server;
  let http2: Http2Server;
  let behaviour: (socket: Socket) => void = () => undefined;
  let answer: (stream: ServerHttp2Stream) => void = () => undefined;
  const ports = { raw: 0, http2: 0 };
  const portOf = (server: Server | Http2Server): number => {
    const address = server.address();
    return typeof address === 'object' && address !== null ? address.port : 0;
  };
  beforeAll(async () => {
    raw = createServer((socket) => {
      socket.on('error', () => undefined);
      behaviour(socket);
    });
    http2 = createHttp2Server();
    http2.on('sessionError', () => undefined);
    http2.on('stream', (stream: ServerHttp2Stream) => {
      stream.on('error', () => undefined);
      answer(stream);
    });
    await new Promise<void>((resolve) => void raw.listen(0, '127.0.0.1', resolve));
    await new Promise<void>((resolve) => void http2.listen(0, '127.0.0.1', resolve));
    ports.raw = portOf(raw);
    ports.http2 = portOf(http2);
  });
  afterAll(() => {
    raw.close();
    http2.close();
  });

  /** One dial and how it ended. */
  const once = async (port: number, keepalive?: Keepalive): Promise<string> => {
    const { link, states } = linkTo(port, () => 't', keepalive === undefined ? {} : { keepalive });
    link.startSession();
    await until(() => states.some(({ kind }) => kind === 'offline' || kind === 'refused'));
    await link.stop(0);
    const ended = states.find(({ kind }) => kind === 'offline' || kind === 'refused');
    return ended !== undefined && 'reason' in ended ? ended.reason : '';
  };

  test('that sends random bytes for HTTP/2 is offline with a reason', async () => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ minLength: 1, maxLength: 200 }), async (bytes) => {
        behaviour = (socket) => void socket.end(bytes);
        expect(await once(ports.raw)).not.toBe('');
      }),
      { numRuns: 40 },
    );
  }, 60_000);

  test('that sends HTTP/2 frames of random kinds and lengths is offline with a reason', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(frame, { minLength: 1, maxLength: 10 }),
        fc.boolean(),
        async (frames, hangs) => {
          behaviour = (socket) => {
            socket.write(SETTINGS);
            socket.once('data', () => {
              socket.write(Buffer.concat(frames));
              if (!hangs) socket.end();
            });
          };
          expect(await once(ports.raw, { everyMs: 1_000, timeoutMs: 1_000 })).not.toBe('');
        },
      ),
      { numRuns: 40 },
    );
  }, 60_000);

  test('that answers the session with random bytes, framed or not, is offline with a reason', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.uint8Array({ maxLength: 100 }), fc.boolean()), { maxLength: 6 }),
        fc.option(fc.nat({ max: 20 }), { nil: undefined }),
        async (chunks, status) => {
          answer = (stream) => {
            stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
            stream.on('wantTrailers', () =>
              stream.sendTrailers(status === undefined ? {} : { 'grpc-status': String(status) }),
            );
            for (const [bytes, framed] of chunks) stream.write(framed ? frameOf(bytes) : Buffer.from(bytes));
            stream.end();
          };
          expect(await once(ports.http2)).not.toBe('');
        },
      ),
      { numRuns: 60 },
    );
  }, 60_000);

  test('that sends valid messages in any order keeps or loses its session, and the link dials on', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(message, { maxLength: 12 }), async (messages) => {
        answer = (stream) => {
          stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
          stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
          for (const one of messages) stream.write(frameOf(GatewayMessage.encode(one).finish()));
          stream.end();
        };
        expect(await once(ports.http2)).not.toBe('');
      }),
      { numRuns: 60 },
    );
  }, 60_000);

  test('that announces a message of 4 GiB is not believed', async () => {
    answer = (stream) => {
      stream.respond({ ':status': 200, 'content-type': 'application/grpc' });
      stream.write(Buffer.from([0, 0xff, 0xff, 0xff, 0xff, 1, 2, 3]));
    };
    expect(await once(ports.http2)).toContain('a message of 4294967295 bytes');
  });
});
