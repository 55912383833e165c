import type { Duplex } from 'node:stream';
import type {
  RelayClose,
  RelayOpen,
  RelayOpenResult,
} from '../../../proto/generated/openshell/v1/openshell.ts';
import type { Clock } from '../../clock.ts';
import { err, type Result } from '../../result.ts';
import type { Call, CallEvents } from '../../rpc/stream.ts';
import { Relay, type RelayTotals } from './relay.ts';
import { type RelayTarget, relayTarget } from './target.ts';

/** The session that asked for a relay. */
export interface RelaySession {
  reply(result: RelayOpenResult): void;
  /** Opens a RelayStream, on the session's connection where that still takes calls. */
  relay(events: CallEvents): Call;
}

/** What becomes of relays, for log and metrics. */
export type RelayEvent =
  | { readonly kind: 'opened'; readonly channelId: string; readonly target: RelayTarget }
  | { readonly kind: 'refused'; readonly channelId: string; readonly reason: string }
  | ({
      readonly kind: 'closed';
      readonly channelId: string;
      readonly target: RelayTarget;
      readonly reason: string | undefined;
      readonly durationMs: number;
    } & RelayTotals);

export interface RelaysOptions {
  readonly clock: Clock;
  /** Connects to a target inside the sandbox. The error is what the gateway is told. */
  readonly connect: (target: RelayTarget) => Promise<Result<Duplex, string>>;
  /** At once; the next one is refused. */
  readonly max: number;
  readonly observe: (event: RelayEvent) => void;
}

/** The gateway forgets a relay that nobody claims for so long (contract.md, 2.2). */
const PENDING_MS = 10_000;

/**
 * The relays of this sandbox. They outlive the session that asked for them, for their connection may go on when it is
 * replaced; they end when their connection does.
 */
export class Relays {
  readonly #options: RelaysOptions;
  /** By channel; undefined while its target is being connected. */
  readonly #relays = new Map<string, Relay | undefined>();
  /** Targets of relays that are over, which have not taken the rest yet (relay.ts): they count as well. */
  readonly #leaving = new Set<Duplex>();
  #stopped = false;

  constructor(options: RelaysOptions) {
    this.#options = options;
  }

  get size(): number {
    return this.#relays.size + this.#leaving.size;
  }

  /** Connects the target first, then says how it went, then opens the stream (contract.md, 2.2). */
  open(request: RelayOpen, session: RelaySession): void {
    const { channelId } = request;
    // Sent again to a session that follows: it is under way.
    if (this.#relays.has(channelId) || this.#stopped) return;
    const target = this.#admit(request);
    if (target.ok) this.#connect(channelId, target.value, session);
    else this.#refuse(channelId, target.error, session);
  }

  /** The gateway gives a relay up. */
  close({ channelId, reason }: RelayClose): void {
    const relay = this.#relays.get(channelId);
    if (relay === undefined) this.#relays.delete(channelId);
    relay?.end(`the gateway closed it${reason === '' ? '' : `: ${reason.slice(0, 200)}`}`);
  }

  stop(): void {
    this.#stopped = true;
    for (const relay of [...this.#relays.values()]) relay?.end('the sandbox ends');
    this.#relays.clear();
    for (const target of this.#leaving) target.destroy();
  }

  #admit(request: RelayOpen): Result<RelayTarget, string> {
    const { max } = this.#options;
    if (request.channelId === '') return err('the relay has no channel_id');
    if (this.size >= max) return err(`${max} relays are open already; raise --max-relays`);
    return relayTarget(request);
  }

  #refuse(channelId: string, error: string, session: RelaySession): void {
    this.#options.observe({ kind: 'refused', channelId, reason: error });
    session.reply({ channelId, success: false, error });
  }

  #connect(channelId: string, target: RelayTarget, session: RelaySession): void {
    const { connect, clock } = this.#options;
    this.#relays.set(channelId, undefined);
    let wanted = true;
    const cancel = clock.after(PENDING_MS, () => {
      wanted = false;
      this.#relays.delete(channelId);
      this.#refuse(channelId, `the target did not answer within ${PENDING_MS / 1000} s`, session);
    });
    void connect(target)
      .catch((error: unknown) => err(String(error)))
      .then((connected) => {
        cancel();
        if (!wanted || this.#stopped || !this.#relays.has(channelId)) {
          if (connected.ok) connected.value.destroy();
        } else if (connected.ok && connected.value.destroyed) {
          this.#relays.delete(channelId);
          this.#refuse(channelId, 'the target broke off at once', session);
        } else if (connected.ok) this.#start(channelId, target, connected.value, session);
        else {
          this.#relays.delete(channelId);
          this.#refuse(channelId, connected.error, session);
        }
      });
  }

  #start(channelId: string, target: RelayTarget, connected: Duplex, session: RelaySession): void {
    const { clock, observe } = this.#options;
    const startedAt = clock.monotonic();
    session.reply({ channelId, success: true, error: '' });
    observe({ kind: 'opened', channelId, target });
    const onEnd = (totals: RelayTotals, reason: string | undefined): void => {
      this.#relays.delete(channelId);
      if (!connected.destroyed) {
        this.#leaving.add(connected);
        connected.once('close', () => this.#leaving.delete(connected));
      }
      const durationMs = Math.round(clock.monotonic() - startedAt);
      observe({ kind: 'closed', channelId, target, reason, durationMs, ...totals });
    };
    try {
      const call = (events: CallEvents): Call => session.relay(events);
      this.#relays.set(channelId, new Relay({ clock, channelId, target: connected, call, onEnd }));
    } catch (error) {
      connected.destroy();
      onEnd({ sentBytes: 0, receivedBytes: 0 }, error instanceof Error ? error.message : String(error));
    }
  }
}
