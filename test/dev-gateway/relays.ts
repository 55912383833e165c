import { randomUUID } from 'node:crypto';
import type { Duplex } from 'node:stream';
import { status } from '@grpc/grpc-js';
import {
  type GatewayMessage,
  RelayFrame,
  type RelayOpen,
  type RelayOpenResult,
} from '../../proto/generated/openshell/v1/openshell.ts';
import type { DataCall } from './data-call.ts';

/** Contract.md, 2.2. */
const PENDING_MS = 10_000;
const SESSION_MS = 15_000;
const MAX_PENDING = 256;
const MAX_PENDING_SANDBOX = 32;
/** Of a message to a user. */
const MAX_NAMED = 10;

/** Why a relay is not to be had, in the words of gRPC's codes. */
export class RelayRefused extends Error {
  readonly code: 'UNAVAILABLE' | 'DEADLINE_EXCEEDED' | 'INVALID_ARGUMENT' | 'NOT_FOUND' | 'PERMISSION_DENIED';
  constructor(code: RelayRefused['code'], message: string) {
    super(message);
    this.code = code;
  }
}

interface Pending {
  readonly sandboxId: string;
  readonly open: RelayOpen;
  readonly timer: NodeJS.Timeout;
  readonly take: (stream: Duplex) => void;
  readonly fail: (error: RelayRefused) => void;
}

/** The sessions that stand. */
export interface Sessions {
  /** The sandboxes that have one. */
  connected(): readonly string[];
  /** Those that have or have had one. */
  known(): readonly string[];
  has(sandboxId: string): boolean;
  send(sandboxId: string, message: GatewayMessage): void;
}

/** Brings users and sandboxes together: a user's wish becomes a RelayOpen, which a RelayStream of the sandbox claims. */
export class RelayBroker {
  readonly #pending = new Map<string, Pending>();
  readonly #sessions: Sessions;

  constructor(sessions: Sessions) {
    this.#sessions = sessions;
  }

  /**
   * The sandbox that a user means: of one that is not named, the only one that is connected. Throws a RelayRefused that
   * names what there is.
   */
  meant(named: string): string {
    const connected = this.#sessions.connected();
    const known = this.#sessions.known();
    if (named !== '') {
      // Where none is connected this gateway may have started a moment ago, and it may come yet.
      if (connected.length === 0 || known.includes(named)) return named;
      throw new RelayRefused(
        'NOT_FOUND',
        `no sandbox is called ${JSON.stringify(named)}; connected: ${listed(connected)}`,
      );
    }
    const [only] = connected;
    if (only === undefined) {
      const earlier = known.length === 0 ? '' : `; earlier ones, by --sandbox: ${listed(known)}`;
      throw new RelayRefused('UNAVAILABLE', `no sandbox is connected${earlier}`);
    }
    if (connected.length === 1) return only;
    throw new RelayRefused(
      'INVALID_ARGUMENT',
      `${connected.length} sandboxes are connected; name one with --sandbox: ${listed(connected)}`,
    );
  }

  /** A stream to a target inside a sandbox, as `meant` finds it. Rejects with a RelayRefused. */
  async open(named: string, target: RelayOpen['target'], serviceId = ''): Promise<Duplex> {
    const sandboxId = this.meant(named);
    const mine = [...this.#pending.values()].filter((pending) => pending.sandboxId === sandboxId).length;
    if (this.#pending.size >= MAX_PENDING || mine >= MAX_PENDING_SANDBOX)
      throw new RelayRefused('UNAVAILABLE', 'too many relays are waiting for their sandbox');
    await this.#session(sandboxId);
    const open: RelayOpen = { channelId: randomUUID(), target, serviceId };
    return new Promise((resolve, reject) => {
      const settle = (): void => {
        clearTimeout(timer);
        this.#pending.delete(open.channelId);
      };
      const fail = (error: RelayRefused): void => {
        settle();
        reject(error);
      };
      const timer = setTimeout(
        () => fail(new RelayRefused('DEADLINE_EXCEEDED', 'the sandbox did not open the relay in time')),
        PENDING_MS,
      );
      const take = (stream: Duplex): void => {
        settle();
        resolve(stream);
      };
      this.#pending.set(open.channelId, { sandboxId, open, timer, take, fail });
      this.#sessions.send(sandboxId, { payload: { $case: 'relayOpen', value: open } });
    });
  }

  /** Sends what is still pending to the session that has just replaced another one. */
  repeat(sandboxId: string): void {
    for (const pending of this.#pending.values())
      if (pending.sandboxId === sandboxId)
        this.#sessions.send(sandboxId, { payload: { $case: 'relayOpen', value: pending.open } });
  }

  /** What the sandbox says of a relay that it was asked for. */
  result({ channelId, success, error }: RelayOpenResult): void {
    if (!success) this.#pending.get(channelId)?.fail(new RelayRefused('UNAVAILABLE', error));
  }

  /** A RelayStream of a sandbox: its first frame claims the channel. */
  async claim(sandboxId: string, call: DataCall): Promise<void> {
    const channelId = channelOf(await call.first);
    if (channelId === undefined || channelId === '')
      return call.refuse(status.INVALID_ARGUMENT, 'the first frame must be init with a channel_id');
    const pending = this.#pending.get(channelId);
    if (pending === undefined) return call.refuse(status.NOT_FOUND, 'no relay waits for this channel');
    if (pending.sandboxId !== sandboxId)
      return call.refuse(status.PERMISSION_DENIED, 'the channel belongs to another sandbox');
    pending.take(call);
  }

  /** Waits until the sandbox has a session. */
  async #session(sandboxId: string): Promise<void> {
    for (let waited = 0, step = 100; !this.#sessions.has(sandboxId); step = Math.min(2_000, step * 2)) {
      if (waited >= SESSION_MS)
        throw new RelayRefused('UNAVAILABLE', `the sandbox ${sandboxId} is not connected`);
      await new Promise((resolve) => setTimeout(resolve, step));
      waited += step;
    }
  }
}

/** The latest of them. */
const listed = (names: readonly string[]): string => names.slice(-MAX_NAMED).join(', ');

function channelOf(message: Buffer | undefined): string | undefined {
  try {
    const { payload } = RelayFrame.decode(message ?? Buffer.alloc(0));
    return payload?.$case === 'init' ? payload.value.channelId : undefined;
  } catch {
    return undefined;
  }
}
