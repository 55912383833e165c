import { randomUUID } from 'node:crypto';
import { type Metadata, type ServerDuplexStream, type ServiceError, status } from '@grpc/grpc-js';
import type {
  GatewayMessage,
  RelayOpenResult,
  SupervisorHello,
  SupervisorMessage,
  Vitals,
} from '../../proto/generated/openshell/v1/openshell.ts';
import { Recent, type SessionView, type VitalsView } from './state.ts';
import { asServiceError, failure } from './status-errors.ts';

type Stream = ServerDuplexStream<SupervisorMessage, GatewayMessage>;

export interface SupervisorSessionsOptions {
  readonly heartbeatSeconds: number;
  readonly redialWindowSeconds: number;
  /** What a gateway of another version would do. */
  readonly missing: readonly string[];
  readonly newer: boolean;
  /** Throws the error that a caller gets who may not speak for this sandbox. */
  readonly authorize: (metadata: Metadata, sandboxId: string) => void;
  readonly onRelayResult: (result: RelayOpenResult) => void;
  /** A session has taken the place of another one of its sandbox. */
  readonly onSuperseded: (sandboxId: string) => void;
  /** One line for a person. Never holds a token. */
  readonly onEvent: (line: string) => void;
}

interface Live {
  view: SessionView;
  readonly stream: Stream;
  readonly beat: NodeJS.Timeout;
}

const BEATS = 100;
const ENDED = 100;

/** The sessions of supervisors (contract.md, 2.1): one a sandbox, and the last hundred that have ended. */
export class SupervisorSessions {
  readonly #options: SupervisorSessionsOptions;
  readonly #live = new Map<string, Live>();
  readonly #ended = new Recent<SessionView>(ENDED);
  readonly #activeInstance = new Map<string, string>();
  /** The reason that new ones are rejected with. */
  rejection: string | undefined;

  constructor(options: SupervisorSessionsOptions) {
    this.#options = options;
  }

  /** The ended ones first, then the live ones. */
  all(): readonly SessionView[] {
    return [...this.#ended.all(), ...[...this.#live.values()].map(({ view }) => view)];
  }

  /** The sandboxes that have one. */
  connected(): readonly string[] {
    return [...new Set([...this.#live.values()].map(({ view }) => view.sandboxId))];
  }

  /** Those that have or have had one, the latest at the end. */
  known(): readonly string[] {
    return [...this.#activeInstance.keys()];
  }

  has(sandboxId: string): boolean {
    return this.#of(sandboxId) !== undefined;
  }

  send(sandboxId: string, message: GatewayMessage): void {
    this.#of(sandboxId)?.stream.write(message);
  }

  /** Whether this is the start of the main process that the sandbox's newest session spoke for. */
  isActive(sandboxId: string, instanceId: string): boolean {
    return this.#activeInstance.get(sandboxId) === instanceId;
  }

  /** Closes a session's stream without a message, as a gateway that stops it does. */
  drop(id: string): boolean {
    const live = this.#live.get(id);
    if (live === undefined) return false;
    this.#end(id, 'dropped');
    live.stream.end();
    return true;
  }

  endAll(): void {
    for (const id of this.#live.keys()) this.#end(id, 'gateway closed');
  }

  /** Serves a ConnectSupervisor. Response headers go out only after the first message, as at the real gateway. */
  connect(stream: Stream): void {
    let id: string | undefined;
    const over = (reason: string): void => {
      if (id !== undefined) this.#end(id, reason);
    };
    stream.on('error', () => over('connection lost'));
    stream.on('cancelled', () => over('connection lost'));
    stream.on('end', () => {
      over('closed by the supervisor');
      stream.end();
    });
    stream.on('data', (message: SupervisorMessage) => {
      if (id === undefined) id = this.#admit(stream, message);
      else this.#take(id, message);
    });
  }

  /** The id of the session that the first message begins; undefined when the stream was refused. */
  #admit(stream: Stream, { payload }: SupervisorMessage): string | undefined {
    try {
      if (payload?.$case !== 'hello' || payload.value.sandboxId === '')
        throw failure(status.INVALID_ARGUMENT, 'the first message must be a hello with a sandbox id');
      this.#options.authorize(stream.metadata, payload.value.sandboxId);
      if (this.rejection === undefined) return this.#begin(stream, payload.value);
      stream.write({ payload: { $case: 'sessionRejected', value: { reason: this.rejection } } });
      stream.end();
    } catch (error) {
      refuse(stream, asServiceError(error));
    }
    return undefined;
  }

  #take(id: string, { payload }: SupervisorMessage): void {
    const live = this.#live.get(id);
    if (live === undefined) return;
    const { onEvent, onRelayResult } = this.#options;
    if (payload?.$case === 'heartbeat') {
      const { policyVersion, bufferedBytes } = payload.value;
      const beatsMs = [...live.view.beatsMs, Date.now()].slice(-BEATS);
      const vitals = toView(payload.value.vitals);
      live.view = { ...live.view, beatsMs, policyVersion, bufferedBytes: Number(bufferedBytes), vitals };
      onEvent(`${live.view.sandboxId}: heartbeat`);
    } else if (payload?.$case === 'relayOpenResult') {
      const { channelId, success, error } = payload.value;
      onRelayResult(payload.value);
      onEvent(`${live.view.sandboxId}: relay ${channelId} ${success ? 'open' : `refused: ${error}`}`);
    }
  }

  #begin(stream: Stream, hello: SupervisorHello): string {
    const { heartbeatSeconds, redialWindowSeconds, missing, newer, onEvent, onSuperseded } = this.#options;
    const superseded = this.#supersede(hello.sandboxId);
    const id = randomUUID();
    const beat = setInterval(
      () => void stream.write({ payload: { $case: 'heartbeat', value: {} } }),
      heartbeatSeconds * 1000,
    );
    const { sandboxId, instanceId, enforcement } = hello;
    this.#live.set(id, { stream, beat, view: viewOf(id, hello) });
    this.#activeInstance.delete(sandboxId); // so that the latest comes last
    this.#activeInstance.set(sandboxId, instanceId);
    const value = {
      sessionId: id,
      heartbeatIntervalSecs: heartbeatSeconds,
      redialWindowSecs: redialWindowSeconds,
      gatewayVersion: missing.length > 0 ? '' : 'dev',
      capabilities: newer ? ['vitals', 'of-tomorrow'] : [],
    };
    // A newer gateway may send what we do not know, even before the acceptance.
    if (newer) stream.write({ payload: undefined });
    stream.write({ payload: { $case: 'sessionAccepted', value } });
    if (newer) stream.write({ payload: undefined });
    if (superseded) onSuperseded(sandboxId);
    onEvent(
      `${sandboxId}: session ${id} established [${enforcement.map(({ aspect, level, mechanism }) => `${aspect}=${level === 'none' ? level : mechanism}`).join(', ')}]`,
    );
    return id;
  }

  /** Ends the sandbox's earlier sessions; says whether there was one. */
  #supersede(sandboxId: string): boolean {
    const earlier = [...this.#live].filter(([, { view }]) => view.sandboxId === sandboxId);
    for (const [id, { stream }] of earlier) {
      this.#end(id, 'superseded');
      stream.end();
    }
    return earlier.length > 0;
  }

  #end(id: string, reason: string): void {
    const live = this.#live.get(id);
    if (live === undefined) return;
    clearInterval(live.beat);
    this.#live.delete(id);
    this.#ended.push({ ...live.view, endedAtMs: Date.now() });
    this.#options.onEvent(`${live.view.sandboxId}: session ${id} ended: ${reason}`);
  }

  #of(sandboxId: string): Live | undefined {
    return [...this.#live.values()].findLast(({ view }) => view.sandboxId === sandboxId);
  }
}

/** Ends a stream with a status. To destroy it would send none: the caller would wait for ever. */
export function refuse(stream: Stream, error: Partial<ServiceError> & Error): void {
  stream.emit('error', error);
}

const viewOf = (
  id: string,
  { sandboxId, instanceId, supervisorVersion, enforcement, bootId, capabilities, ...hello }: SupervisorHello,
): SessionView => ({
  ...{ id, sandboxId, instanceId, supervisorVersion, enforcement, bootId, capabilities },
  connectedAtMs: Date.now(),
  endedAtMs: undefined,
  beatsMs: [],
  policyVersion: hello.policyVersion,
  bufferedBytes: 0,
  vitals: toView(hello.vitals),
});

const toView = (vitals: Vitals | undefined): VitalsView | undefined =>
  vitals && {
    bufferedRecords: Number(vitals.bufferedRecords),
    bufferedBytes: Number(vitals.bufferedBytes),
    privateBytes: Number(vitals.privateBytes),
    openDescriptors: vitals.openDescriptors,
  };
