import type { ClientDuplexStream } from '@grpc/grpc-js';
import type {
  GatewayMessage,
  RelayOpen,
  SupervisorMessage,
} from '../../proto/generated/openshell/v1/openshell.ts';
import type { Clock, Random } from '../clock.ts';
import { Backoff } from './backoff.ts';
import { describeCallError, isRefusal } from './channel.ts';
import { acceptInterval, Heartbeat } from './heartbeat.ts';

/** Where the session stands. The transitions are those of `GatewaySession` and no others. */
export type SessionState =
  | { readonly kind: 'offline'; readonly reason: string; readonly redialInMs: number }
  | { readonly kind: 'connecting' }
  | { readonly kind: 'established'; readonly sessionId: string; readonly intervalMs: number }
  | { readonly kind: 'refused'; readonly reason: string; readonly redialInMs: number }
  | { readonly kind: 'stopped' };

export interface SessionOptions {
  readonly clock: Clock;
  readonly random: Random;
  /** Opens the control stream on the current connection, with the current token. */
  readonly dial: () => Promise<ClientDuplexStream<SupervisorMessage, GatewayMessage>>;
  readonly hello: () => SupervisorMessage;
  readonly heartbeat: () => SupervisorMessage;
  /** Decides on a relay; the error is told to the gateway at once. */
  readonly onRelayOpen: (request: RelayOpen) => { readonly success: boolean; readonly error: string };
  readonly onState: (state: SessionState) => void;
  readonly onBeat: () => void;
  /** The gateway refused our token: read or exchange it anew before the next dial. */
  readonly onRefused: () => Promise<void>;
}

const ACCEPT_TIMEOUT_MS = 15_000;

/**
 * The control session: one at a time, redialled for ever. It never touches the workload: an outage of the
 * gateway changes only this state (contract.md, 2.1).
 */
export class GatewaySession {
  readonly #options: SessionOptions;
  readonly #backoff: Backoff;
  #state: SessionState = { kind: 'stopped' };
  #stream: ClientDuplexStream<SupervisorMessage, GatewayMessage> | undefined;
  #heartbeat: Heartbeat | undefined;
  #cancelTimer: (() => void) | undefined;
  #establishedAt: number | undefined;

  constructor(options: SessionOptions) {
    this.#options = options;
    this.#backoff = new Backoff(options.random);
  }

  get state(): SessionState {
    return this.#state;
  }

  /** Dials at once; later losses are redialled with jitter. */
  start(): void {
    if (this.#state.kind === 'stopped') void this.#connect();
  }

  /** Ends the stream politely and dials no more. */
  stop(): void {
    this.#enter({ kind: 'stopped' });
    this.#teardown()?.end();
  }

  #enter(state: SessionState): void {
    this.#state = state;
    this.#options.onState(state);
  }

  async #connect(): Promise<void> {
    this.#enter({ kind: 'connecting' });
    try {
      const stream = await this.#options.dial();
      if (this.#state.kind !== 'connecting') return void stream.cancel();
      this.#stream = stream;
      stream.on('data', (message: GatewayMessage) => this.#receive(stream, message));
      stream.once('error', (error) => this.#lost(stream, error));
      stream.once('end', () => this.#lost(stream, new Error('the gateway closed the session')));
      // The gateway answers only after it has read the hello: never wait for headers first.
      stream.write(this.#options.hello());
      this.#cancelTimer = this.#options.clock.after(ACCEPT_TIMEOUT_MS, () =>
        this.#lost(stream, new Error('the gateway did not accept the session in time')),
      );
    } catch (error) {
      this.#lost(undefined, error);
    }
  }

  #receive(stream: ClientDuplexStream<SupervisorMessage, GatewayMessage>, { payload }: GatewayMessage): void {
    if (stream !== this.#stream) return;
    this.#heartbeat?.heard();
    switch (payload?.$case) {
      case 'sessionAccepted':
        this.#accepted(stream, payload.value.sessionId, payload.value);
        return;
      case 'sessionRejected':
        this.#lost(stream, new Error(`the gateway rejected the session: ${payload.value.reason}`));
        return;
      case 'relayOpen': {
        // It may come before the acceptance: the gateway registers us first (contract.md, 2.1).
        const answer = this.#options.onRelayOpen(payload.value);
        const value = { channelId: payload.value.channelId, ...answer };
        return void stream.write({ payload: { $case: 'relayOpenResult', value } });
      }
      case 'heartbeat':
      case 'relayClose':
      case undefined: // a message that this version does not know
        return;
    }
  }

  #accepted(
    stream: ClientDuplexStream<SupervisorMessage, GatewayMessage>,
    sessionId: string,
    wish: { readonly heartbeatIntervalSecs: number; readonly redialWindowSecs: number },
  ): void {
    if (this.#state.kind !== 'connecting') return;
    this.#cancelTimer?.();
    this.#backoff.setWindow(wish.redialWindowSecs);
    const intervalMs = acceptInterval(wish.heartbeatIntervalSecs);
    const { clock, random } = this.#options;
    this.#establishedAt = clock.monotonic();
    this.#heartbeat = new Heartbeat({
      clock,
      random,
      intervalMs,
      beat: () => {
        stream.write(this.#options.heartbeat());
        this.#options.onBeat();
      },
      onSilence: () => this.#lost(stream, new Error(`nothing heard for ${(3 * intervalMs) / 1000} s`)),
    });
    this.#enter({ kind: 'established', sessionId, intervalMs });
  }

  #lost(stream: ClientDuplexStream<SupervisorMessage, GatewayMessage> | undefined, error: unknown): void {
    if (stream !== this.#stream || this.#state.kind === 'stopped') return;
    if (this.#state.kind !== 'connecting' && this.#state.kind !== 'established') return;
    this.#teardown()?.cancel();
    this.#backoff.ended(
      this.#establishedAt === undefined ? 0 : this.#options.clock.monotonic() - this.#establishedAt,
    );
    this.#establishedAt = undefined;
    const reason = describeCallError(error);
    const refused = isRefusal(error);
    const redialInMs = refused ? this.#backoff.nextAfterRefusal() : this.#backoff.next();
    this.#enter({ kind: refused ? 'refused' : 'offline', reason, redialInMs });
    this.#cancelTimer = this.#options.clock.after(redialInMs, () => {
      const ready = refused ? this.#options.onRefused() : Promise.resolve();
      void ready.then(async () => {
        if (this.#state.kind === 'offline' || this.#state.kind === 'refused') await this.#connect();
      });
    });
  }

  #teardown(): ClientDuplexStream<SupervisorMessage, GatewayMessage> | undefined {
    const stream = this.#stream;
    this.#stream = undefined;
    this.#heartbeat?.stop();
    this.#heartbeat = undefined;
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
    stream?.on('error', () => undefined); // its end is no news any more
    return stream;
  }
}
