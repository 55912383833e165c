import type {
  GatewayMessage,
  RelayClose,
  RelayOpen,
  SessionAccepted,
  SupervisorMessage,
} from '../../proto/generated/openshell/v1/openshell.ts';
import type { Clock, Random } from '../clock.ts';
import { CallError, codeOf, describeCallError, retryAfterOf, STATUS } from '../rpc/status.ts';
import type { Call, CallEvents } from '../rpc/stream.ts';
import { Backoff } from './backoff.ts';
import { acceptInterval, Heartbeat } from './heartbeat.ts';
import type { RelaySession } from './relay/relays.ts';

/** A session that stands: what the gateway said when it accepted it. */
interface Standing {
  readonly sessionId: string;
  readonly intervalMs: number;
  readonly gatewayVersion: string;
  readonly gatewayCapabilities: readonly string[];
}

/**
 * Where the session stands.
 *
 * | state       | event    | next                                | what happens                              |
 * |-------------|----------|-------------------------------------|-------------------------------------------|
 * | stopped     | start    | connecting                          | dial                                      |
 * | offline     | due      | connecting                          | dial                                      |
 * | refused     | due      | connecting                          | dial, with the token read or exchanged anew |
 * | connecting  | accepted | established                         | beat, count the age                       |
 * | connecting  | failed   | offline or refused                  | wait                                      |
 * | established | lost     | offline or refused                  | wait                                      |
 * | established | retire   | draining                            | wait (a GOAWAY) or dial (the age)         |
 * | draining    | due      | draining                            | dial                                      |
 * | draining    | accepted | established                         | end the old session                       |
 * | draining    | failed   | draining                            | wait; the old session goes on             |
 * | draining    | lost     | connecting, or offline with its wait | nothing more than was under way           |
 * | draining    | superseded | draining                          | nothing: its successor's acceptance is on the way |
 * | any         | stop     | stopped                             | end everything                            |
 *
 * Every other pair of state and event changes nothing.
 */
export type SessionState =
  | { readonly kind: 'offline'; readonly reason: string; readonly redialInMs: number }
  | { readonly kind: 'connecting' }
  | ({ readonly kind: 'established' } & Standing)
  | ({ readonly kind: 'draining'; readonly reason: string } & Standing)
  | { readonly kind: 'refused'; readonly reason: string; readonly redialInMs: number }
  | { readonly kind: 'stopped' };

type SessionEvent =
  | { readonly kind: 'start' | 'due' | 'stop' }
  | { readonly kind: 'accepted'; readonly value: SessionAccepted }
  | { readonly kind: 'failed' | 'lost'; readonly error: unknown }
  | { readonly kind: 'retire'; readonly reason: string; readonly spread: boolean };

/** Why a stream's connection should be replaced. With `spread` a whole fleet may be told at once. */
export interface Retirement {
  readonly reason: string;
  readonly spread: boolean;
}

/**
 * What the dialled stream tells, never before `dial` has returned. `closed` comes once and nothing after it;
 * undefined is a clean end.
 */
export interface StreamEvents {
  message(message: GatewayMessage): void;
  closed(error: unknown): void;
  retire(retirement: Retirement): void;
}

/** The control stream, usable from the moment it is dialled: what is sent before it stands waits. */
export interface SessionStream {
  /** False when the gateway does not read. */
  send(message: SupervisorMessage): boolean;
  /** Ends it politely: nothing more comes from us. */
  end(): void;
  cancel(): void;
  /** Opens a RelayStream beside it. */
  relay(events: CallEvents): Call;
  /** Asks the other side for a sign of life; without one the stream closes. */
  probe(): void;
}

export interface SessionOptions {
  readonly clock: Clock;
  readonly random: Random;
  /** Opens the control stream on a new connection. With `renewToken` the current token was refused. */
  readonly dial: (events: StreamEvents, renewToken: boolean) => SessionStream;
  readonly hello: () => SupervisorMessage;
  readonly heartbeat: () => SupervisorMessage;
  /** A relay is asked for; it is answered whenever it can be, and may outlive the session. */
  readonly onRelayOpen: (request: RelayOpen, session: RelaySession) => void;
  readonly onRelayClose: (close: RelayClose) => void;
  readonly onState: (state: SessionState) => void;
  readonly onBeat: () => void;
  /** A connection is replaced after a uniform part of the second half of this; 0 is never. */
  readonly maxAgeMs?: number;
}

/** From the dial to the acceptance: several addresses may have to be tried. */
const ATTEMPT_MS = 45_000;
/** How long a replaced session may take to end by itself. */
const FAREWELL_MS = 10_000;
export const DEFAULT_MAX_AGE_MS = 3_600_000;

/** Answers that say no, and would say it again at once: 30 s to 10 min. */
const REFUSALS: ReadonlySet<number> = new Set([
  STATUS.UNAUTHENTICATED,
  STATUS.PERMISSION_DENIED,
  STATUS.NOT_FOUND,
  STATUS.INVALID_ARGUMENT,
]);
/** Of these, those that another token may change. */
const TOKEN_REFUSALS: ReadonlySet<number> = new Set([STATUS.UNAUTHENTICATED, STATUS.PERMISSION_DENIED]);

interface Attempt {
  readonly stream: SessionStream;
  readonly acceptedAt: number | undefined;
}

/**
 * The control session: redialled for ever, replaced before it is broken off. It never touches the workload:
 * an outage of the gateway changes only this state (contract.md, 2.1). Nothing here waits for a promise,
 * so that a test can run ten thousand of them through hours of its own time.
 */
export class GatewaySession {
  readonly #options: SessionOptions;
  readonly #backoff: Backoff;
  #state: SessionState = { kind: 'stopped' };
  /** The stream that stands. */
  #live: Attempt | undefined;
  /** The stream that is being dialled. */
  #next: Attempt | undefined;
  #heartbeat: Heartbeat | undefined;
  #cancelTimer: (() => void) | undefined;
  #cancelAge: (() => void) | undefined;
  /** When the next dial is due, by the monotonic clock. */
  #dueAt = 0;
  /** The token was refused, and no session has been accepted since. */
  #renewToken = false;

  constructor(options: SessionOptions) {
    this.#options = options;
    this.#backoff = new Backoff(options.random);
  }

  get state(): SessionState {
    return this.#state;
  }

  /** Dials at once; later losses are redialled with jitter. */
  start(): void {
    this.#on({ kind: 'start' });
  }

  /** Ends the stream politely and dials no more. */
  stop(): void {
    this.#on({ kind: 'stop' });
  }

  /** Replaces the connection before it is closed, for example because a certificate was rotated. */
  retire(reason: string): void {
    this.#on({ kind: 'retire', reason, spread: true });
  }

  /** The table above; a pair that is not in it changes nothing. */
  #on(event: SessionEvent): void {
    switch (`${this.#state.kind} ${event.kind}` as const) {
      case 'stopped start':
      case 'offline due':
      case 'refused due':
        this.#enter({ kind: 'connecting' });
        this.#dial();
        break;
      case 'draining due':
        this.#dial();
        break;
      case 'connecting accepted':
      case 'draining accepted':
        this.#established(event);
        break;
      case 'connecting failed':
      case 'established lost':
        this.#wait(event);
        break;
      case 'established retire':
        this.#drain(event);
        break;
      case 'draining failed':
        if (this.#live === undefined) this.#wait(event);
        else this.#redialIn(this.#delayAfter(event));
        break;
      case 'draining lost':
        this.#lostWhileDraining(event);
        break;
      case 'connecting stop':
      case 'offline stop':
      case 'refused stop':
      case 'established stop':
      case 'draining stop':
        this.#stop();
        break;
    }
  }

  #enter(state: SessionState): void {
    this.#state = state;
    this.#options.onState(state);
  }

  #dial(): void {
    let stream: SessionStream | undefined;
    const isNext = (): boolean => this.#next !== undefined && this.#next.stream === stream;
    const isLive = (): boolean => this.#live !== undefined && this.#live.stream === stream;
    stream = this.#options.dial(
      {
        message: (message) => {
          if (stream !== undefined && (isNext() || isLive())) this.#receive(stream, isLive(), message);
        },
        closed: (error) => {
          const why = error ?? CLOSED;
          if (isNext()) this.#failed(why);
          else if (isLive()) this.#lost(why);
        },
        retire: (retirement) => {
          if (isLive()) this.#on({ kind: 'retire', ...retirement });
        },
      },
      this.#renewToken,
    );
    this.#next = { stream, acceptedAt: undefined };
    this.#after(ATTEMPT_MS, () =>
      this.#failed(new CallError(STATUS.DEADLINE_EXCEEDED, 'the gateway did not accept the session in time')),
    );
    // The gateway answers only after it has read the hello: never wait for headers first.
    stream.send(this.#options.hello());
  }

  #receive(stream: SessionStream, live: boolean, { payload }: GatewayMessage): void {
    if (live) this.#heartbeat?.heard();
    switch (payload?.$case) {
      case 'sessionAccepted':
        // A second acceptance changes nothing.
        if (!live) this.#on({ kind: 'accepted', value: payload.value });
        return;
      case 'sessionRejected': {
        const error = new SessionRefused(`the gateway rejected the session: ${payload.value.reason}`);
        if (live) this.#lost(error);
        else this.#failed(error);
        return;
      }
      case 'relayOpen': {
        // It may come before the acceptance: the gateway registers us first (contract.md, 2.1).
        this.#options.onRelayOpen(payload.value, {
          reply: (value) => {
            const sent = stream.send({ payload: { $case: 'relayOpenResult', value } });
            if (!sent && this.#live?.stream === stream) this.#lost(DEAF);
          },
          relay: (events) => stream.relay(events),
        });
        return;
      }
      case 'relayClose':
        this.#options.onRelayClose(payload.value);
        return;
      case 'heartbeat':
      case undefined: // a message that this version does not know
        return;
    }
  }

  /** The attempt under way has ended. */
  #failed(error: unknown): void {
    const attempt = this.#next;
    this.#next = undefined;
    attempt?.stream.cancel();
    this.#on({ kind: 'failed', error });
  }

  /** The session that stood has ended. */
  #lost(error: unknown): void {
    const { stream } = this.#hangUp() ?? {};
    stream?.cancel();
    this.#on({ kind: 'lost', error });
  }

  #established(event: SessionEvent): void {
    if (event.kind !== 'accepted' || this.#next === undefined) return;
    const { clock, random, onBeat } = this.#options;
    const { stream } = this.#next;
    this.#cancelTimer?.();
    const old = this.#hangUp();
    this.#live = { stream, acceptedAt: clock.monotonic() };
    this.#next = undefined;
    this.#renewToken = false;
    const { value } = event;
    this.#backoff.setWindow(value.redialWindowSecs);
    const intervalMs = acceptInterval(value.heartbeatIntervalSecs);
    this.#heartbeat = new Heartbeat({
      clock,
      random,
      intervalMs,
      beat: () => {
        if (!stream.send(this.#options.heartbeat())) return this.#lost(DEAF);
        onBeat();
      },
      onSilence: () =>
        this.#lost(new CallError(STATUS.UNAVAILABLE, `nothing heard for ${(3 * intervalMs) / 1000} s`)),
      onLeap: () => stream.probe(),
    });
    this.#startAge();
    if (old !== undefined) {
      // The gateway closes a session that another replaced; one that does not is not waited for.
      old.stream.end();
      clock.after(FAREWELL_MS, () => old.stream.cancel());
    }
    this.#enter({
      kind: 'established',
      sessionId: value.sessionId,
      intervalMs,
      gatewayVersion: value.gatewayVersion,
      gatewayCapabilities: value.capabilities,
    });
  }

  #startAge(): void {
    const { clock, random, maxAgeMs = DEFAULT_MAX_AGE_MS } = this.#options;
    if (maxAgeMs <= 0) return;
    this.#cancelAge = clock.after(maxAgeMs * (0.5 + 0.5 * random()), () =>
      this.#on({ kind: 'retire', reason: 'the connection has come of age', spread: false }),
    );
  }

  #drain(event: SessionEvent): void {
    if (event.kind !== 'retire' || this.#state.kind !== 'established') return;
    this.#backoff.ended(this.#stood(this.#live));
    this.#enter({ ...this.#state, kind: 'draining', reason: event.reason });
    if (event.spread) this.#redialIn(this.#backoff.spread());
    else this.#on({ kind: 'due' });
  }

  #lostWhileDraining(event: SessionEvent): void {
    if (event.kind !== 'lost') return;
    // The gateway closes the session that the hello of the next one replaces; over another connection that
    // may be heard before the acceptance. It is no outage.
    if (this.#next !== undefined && event.error === CLOSED) return;
    const redialInMs = Math.max(0, this.#dueAt - this.#options.clock.monotonic());
    if (this.#next !== undefined) this.#enter({ kind: 'connecting' });
    else this.#enter({ kind: 'offline', reason: describeCallError(event.error), redialInMs });
  }

  #wait(event: SessionEvent): void {
    if (event.kind !== 'failed' && event.kind !== 'lost') return;
    const redialInMs = this.#delayAfter(event);
    this.#redialIn(redialInMs);
    const kind = isRefused(event.error) ? 'refused' : 'offline';
    this.#enter({ kind, reason: describeCallError(event.error), redialInMs });
  }

  #delayAfter(event: SessionEvent): number {
    const error = event.kind === 'failed' || event.kind === 'lost' ? event.error : undefined;
    this.#renewToken ||= TOKEN_REFUSALS.has(codeOf(error));
    const asked = retryAfterOf(error);
    return isRefused(error) ? this.#backoff.nextAfterRefusal(asked) : this.#backoff.next(asked);
  }

  #redialIn(delayMs: number): void {
    this.#dueAt = this.#options.clock.monotonic() + delayMs;
    this.#after(delayMs, () => this.#on({ kind: 'due' }));
  }

  /** The one timer: until the next dial, or for the attempt under way. */
  #after(delayMs: number, task: () => void): void {
    this.#cancelTimer?.();
    this.#cancelTimer = this.#options.clock.after(delayMs, task);
  }

  /** Stops what belongs to the live stream, and gives it back. */
  #hangUp(): Attempt | undefined {
    const live = this.#live;
    this.#live = undefined;
    this.#heartbeat?.stop();
    this.#heartbeat = undefined;
    this.#cancelAge?.();
    this.#cancelAge = undefined;
    if (live !== undefined) this.#backoff.ended(this.#stood(live));
    return live;
  }

  #stood(attempt: Attempt | undefined): number {
    return attempt?.acceptedAt === undefined ? 0 : this.#options.clock.monotonic() - attempt.acceptedAt;
  }

  #stop(): void {
    this.#cancelTimer?.();
    this.#next?.stream.cancel();
    this.#next = undefined;
    const live = this.#hangUp();
    this.#enter({ kind: 'stopped' });
    live?.stream.end();
  }
}

/** The gateway answered, and said no. */
class SessionRefused extends CallError {
  constructor(details: string) {
    super(STATUS.FAILED_PRECONDITION, details);
  }
}

const CLOSED = new CallError(STATUS.UNAVAILABLE, 'the gateway closed the session');
const DEAF = new CallError(STATUS.UNAVAILABLE, 'the gateway does not read what is sent');

const isRefused = (error: unknown): boolean => error instanceof SessionRefused || REFUSALS.has(codeOf(error));
