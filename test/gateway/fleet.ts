import type { GatewayMessage, SupervisorMessage } from '../../proto/generated/openshell/v1/openshell.ts';
import type { Random } from '../../supervisor/clock.ts';
import { shuffle } from '../../supervisor/gateway/endpoint.ts';
import { GatewaySession, type SessionStream, type StreamEvents } from '../../supervisor/gateway/session.ts';
import { CallError, STATUS } from '../../supervisor/rpc/status.ts';
import { VirtualClock } from './virtual-clock.ts';

/** A small generator (mulberry32), so that a failing run can be repeated. */
export function seeded(seed: number): Random {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Counts what happens in each second of the virtual time. */
export class PerSecond {
  readonly #counts: number[] = [];

  add(atMs: number): void {
    const second = Math.floor(atMs / 1000);
    this.#counts[second] = (this.#counts[second] ?? 0) + 1;
  }

  /** The counts of the seconds from `from` up to `to`. */
  between(from: number, to: number): readonly number[] {
    return Array.from({ length: to - from }, (_, index) => this.#counts[from + index] ?? 0);
  }

  most(from: number, to: number): number {
    return Math.max(...this.between(from, to));
  }

  total(from: number, to: number): number {
    return this.between(from, to).reduce((sum, count) => sum + count, 0);
  }
}

export interface FleetOptions {
  readonly size: number;
  readonly replicas: number;
  readonly seed?: number;
  readonly heartbeatSeconds?: number;
  readonly redialWindowSeconds?: number;
  readonly maxAgeMs?: number;
}

/** One link as the replica at its other end sees it. */
interface Link {
  readonly events: StreamEvents;
  over: boolean;
}

const ACCEPT_MS = 5;
/** A lost host tells nobody: this share of the links finds out by its keepalive (10 s, then 20 s). */
const HALF_OPEN = 0.1;

/** One process of the gateway. */
export class Replica {
  readonly name: string;
  readonly links = new Set<Link>();
  /** Connection attempts, refused ones included. */
  readonly attempts = new PerSecond();
  readonly beats = new PerSecond();
  up = true;

  constructor(name: string) {
    this.name = name;
  }
}

/**
 * Supervisors and their gateway in virtual time: session, heartbeat, backoff and the order of addresses are
 * the shipped code; only the network between them is made up.
 */
export class Fleet {
  readonly clock = new VirtualClock(0);
  readonly replicas: readonly Replica[];
  /** Attempts at a session. */
  readonly dials = new PerSecond();
  readonly random: Random;
  readonly #options: FleetOptions;
  readonly #standing = new Set<number>();
  readonly #sessions: GatewaySession[] = [];
  #fewestStanding = 0;

  constructor(options: FleetOptions) {
    this.#options = options;
    this.random = seeded(options.seed ?? 1);
    this.replicas = Array.from({ length: options.replicas }, (_, index) => new Replica(`gateway-${index}`));
    for (let id = 0; id < options.size; id += 1) this.#sessions.push(this.#supervisor(id));
    this.#beatBack();
  }

  /** Supervisors that have a session, be it one that is being replaced. */
  get standing(): number {
    return this.#standing.size;
  }

  /** The least there have been since the last call. */
  fewestStanding(): number {
    const fewest = this.#fewestStanding;
    this.#fewestStanding = this.standing;
    return fewest;
  }

  /** Starts everybody over so many seconds. */
  start(overSeconds: number): void {
    for (const session of this.#sessions)
      this.clock.after(this.random() * overSeconds * 1000, () => session.start());
  }

  stop(): void {
    for (const session of this.#sessions) session.stop();
  }

  run(seconds: number): void {
    this.clock.run(seconds * 1000);
  }

  /** The replica's host is gone: most links break at once, some only fall silent. */
  down(replica: Replica): void {
    replica.up = false;
    for (const link of replica.links) {
      const silent = this.random() < HALF_OPEN;
      this.#after(silent ? 20_000 + this.random() * 10_000 : 50 * this.random(), () =>
        this.#break(replica, link),
      );
    }
  }

  /** The replica is being replaced: GOAWAY, then what is left after the grace breaks. */
  drain(replica: Replica, graceSeconds: number): void {
    replica.up = false;
    for (const link of replica.links) link.events.retire({ reason: 'GOAWAY', spread: true });
    this.#after(graceSeconds * 1000, () => {
      for (const link of replica.links) this.#break(replica, link);
    });
  }

  #supervisor(id: number): GatewaySession {
    return new GatewaySession({
      clock: this.clock,
      random: this.random,
      dial: (events) => this.#dial(events),
      hello: () => BEAT,
      heartbeat: () => BEAT,
      onRelayOpen: () => undefined,
      onRelayClose: () => undefined,
      onState: ({ kind }) => {
        if (kind === 'established' || kind === 'draining') this.#standing.add(id);
        else this.#standing.delete(id);
        this.#fewestStanding = Math.min(this.#fewestStanding, this.standing);
      },
      onBeat: () => undefined,
      maxAgeMs: this.#options.maxAgeMs ?? 0,
    });
  }

  #dial(events: StreamEvents): SessionStream {
    this.dials.add(this.clock.now());
    let home: { readonly replica: Replica; readonly link: Link } | undefined;
    let cancelled = false;
    const order = shuffle(this.replicas, this.random);
    const attempt = (index: number): void => {
      const replica = order[index];
      if (cancelled) return;
      if (replica === undefined) {
        events.closed(new CallError(STATUS.UNAVAILABLE, 'refused'));
        return;
      }
      replica.attempts.add(this.clock.now());
      this.#after(1 + this.random() * 20, () => {
        if (cancelled) return;
        if (!replica.up) {
          attempt(index + 1);
          return;
        }
        const link: Link = { events, over: false };
        home = { replica, link };
        replica.links.add(link);
        this.#after(ACCEPT_MS, () => {
          if (!link.over) events.message(this.#accepted());
        });
      });
    };
    attempt(0);
    const leave = (): void => {
      cancelled = true;
      if (home === undefined) return;
      home.link.over = true;
      home.replica.links.delete(home.link);
    };
    return {
      relay: () => {
        throw new Error('there are no relays here');
      },
      send: () => {
        home?.replica.beats.add(this.clock.now());
        return true;
      },
      end: leave,
      cancel: leave,
      probe: () => undefined,
    };
  }

  #break(replica: Replica, link: Link): void {
    if (link.over) return;
    link.over = true;
    replica.links.delete(link);
    link.events.closed(new CallError(STATUS.UNAVAILABLE, 'lost'));
  }

  /** The gateway's own heartbeats, all of them at once. */
  #beatBack(): void {
    this.#after((this.#options.heartbeatSeconds ?? 15) * 1000, () => {
      for (const replica of this.replicas)
        if (replica.up) for (const link of replica.links) link.events.message(HEARTBEAT);
      this.#beatBack();
    });
  }

  #accepted(): GatewayMessage {
    const { heartbeatSeconds = 15, redialWindowSeconds = 0 } = this.#options;
    const value = {
      sessionId: 's',
      heartbeatIntervalSecs: heartbeatSeconds,
      redialWindowSecs: redialWindowSeconds,
      gatewayVersion: '',
      capabilities: [],
    };
    return { payload: { $case: 'sessionAccepted', value } };
  }

  #after(delayMs: number, task: () => void): void {
    this.clock.after(delayMs, task);
  }
}

const BEAT: SupervisorMessage = { payload: undefined };
const HEARTBEAT: GatewayMessage = { payload: { $case: 'heartbeat', value: {} } };

/** The most dials in a second of each bucket, a line each, against the limit. */
export function chart(
  title: string,
  counts: readonly number[],
  bucketSeconds: number,
  limit: number,
): string {
  const width = 48;
  const lines = [`${title} (the most in a second of each ${bucketSeconds} s; | is ${limit})`];
  for (let from = 0; from < counts.length; from += bucketSeconds) {
    const most = Math.max(...counts.slice(from, from + bucketSeconds));
    const bar = '#'.repeat(Math.min(2 * width, Math.round((most / limit) * width)));
    lines.push(`${String(from).padStart(5)} s ${bar.padEnd(width)}| ${most}`);
  }
  return lines.join('\n');
}
