import { type Metadata, type ServerWritableStream, status } from '@grpc/grpc-js';
import {
  type OpenShellDefinition,
  type RelayOpen,
  type SandboxLogLine,
  type SandboxStreamEvent,
  TcpForwardFrame,
  type TcpForwardInit,
  type WatchSandboxRequest,
} from '../../proto/generated/openshell/v1/openshell.ts';
import type { DataCall } from './data-call.ts';
import { ExecService } from './exec.ts';
import type { Implementation } from './grpc.ts';
import { type RelayBroker, RelayRefused } from './relays.ts';
import { SshSessions } from './ssh-sessions.ts';
import type { LogView } from './state.ts';

export interface UserServiceOptions {
  readonly relays: RelayBroker;
  /** Throws unless the caller is a user: a sandbox must not reach into another one. */
  readonly authorize: (metadata: Metadata) => void;
  readonly logs: () => readonly LogView[];
  /** Tells of each new line; what it returns ends that. */
  readonly onLog: (listener: (line: LogView) => void) => () => void;
  /** Where users reach this gateway. */
  readonly place: () => { readonly host: string; readonly port: number };
}

type UserMethods =
  | 'execSandbox'
  | 'execSandboxInteractive'
  | 'createSshSession'
  | 'revokeSshSession'
  | 'watchSandbox'
  | 'getSandboxLogs';

/** The gateway's order of levels; one that nobody knows is hidden by any minimum (contract.md, 11). */
const RANK: Readonly<Record<string, number>> = { ERROR: 0, WARN: 1, INFO: 2, OCSF: 2, DEBUG: 3, TRACE: 4 };
const rankOf = (level: string): number => RANK[level.toUpperCase()] ?? 5;

/** What users call: connections into a sandbox, and its logs. */
export class UserService {
  readonly #options: UserServiceOptions;
  readonly #sessions = new SshSessions();
  readonly #exec: ExecService;

  constructor(options: UserServiceOptions) {
    this.#options = options;
    this.#exec = new ExecService({
      authorize: options.authorize,
      openRelay: (sandboxId, target) => options.relays.open(sandboxId, target),
    });
  }

  implementation(): Pick<Implementation<OpenShellDefinition>, UserMethods> {
    const { authorize, logs, place, relays } = this.#options;
    return {
      execSandbox: (call) => this.#exec.unary(call),
      execSandboxInteractive: (call) => this.#exec.interactive(call),
      createSshSession: (call, callback) => {
        try {
          authorize(call.metadata);
          const sandboxId = relays.meant(call.request.sandboxId);
          const { host, port } = place();
          callback(null, {
            sandboxId,
            ...withBigTime(this.#sessions.create(sandboxId)),
            gatewayHost: host,
            gatewayPort: port,
            gatewayScheme: 'http',
            hostKeyFingerprint: '',
          });
        } catch (error) {
          callback(asStatus(error));
        }
      },
      revokeSshSession: (call, callback) => {
        try {
          authorize(call.metadata);
          callback(null, { revoked: this.#sessions.revoke(call.request.token) });
        } catch (error) {
          callback(asStatus(error));
        }
      },
      getSandboxLogs: (call, callback) => {
        try {
          authorize(call.metadata);
          const { lines, sinceMs, sources, minLevel } = call.request;
          const sandboxId = relays.meant(call.request.sandboxId);
          const all = logs().filter((line) => line.sandboxId === sandboxId);
          const kept = all.filter(wanted(Number(sinceMs), sources, minLevel));
          callback(null, { logs: kept.slice(-(lines || 2000)).map(toLine), bufferTotal: all.length });
        } catch (error) {
          callback(asStatus(error));
        }
      },
      watchSandbox: (call) => this.#watch(call),
    };
  }

  #watch(call: ServerWritableStream<WatchSandboxRequest, SandboxStreamEvent>): void {
    const { authorize, logs, onLog, relays } = this.#options;
    let id: string;
    try {
      authorize(call.metadata);
      id = relays.meant(call.request.id);
    } catch (error) {
      call.emit('error', asStatus(error));
      return;
    }
    const { followLogs, logTailLines, logSinceMs, logSources, logMinLevel } = call.request;
    const keep = wanted(Number(logSinceMs), logSources, logMinLevel);
    const tell = (line: LogView): void => {
      if (line.sandboxId === id && keep(line)) call.write({ payload: { $case: 'log', value: toLine(line) } });
    };
    const tail = logs().filter((line) => line.sandboxId === id && keep(line));
    for (const line of tail.slice(-(logTailLines || 200))) tell(line);
    if (!followLogs) return void call.end();
    const stop = onLog(tell);
    call.on('cancelled', stop);
    call.on('close', stop);
  }

  /** A ForwardTcp, which grpc-js does not serve here; see data-call.ts. */
  forward(call: DataCall, metadata: Metadata): void {
    this.#forward(call, metadata).catch((error: unknown) => {
      const { code, message } = asStatus(error);
      call.refuse(code, message);
    });
  }

  async #forward(user: DataCall, metadata: Metadata): Promise<void> {
    this.#options.authorize(metadata);
    const init = initOf(await user.first);
    const done = this.#sessions.connect(init.authorizationToken, init.sandboxId);
    if (done === undefined)
      throw Object.assign(new Error('the token of CreateSshSession is unknown or has expired'), {
        code: status.UNAUTHENTICATED,
      });
    if (done === 'full')
      throw Object.assign(
        new Error('3 connections by this token, or 20 into the sandbox, are open already'),
        {
          code: status.RESOURCE_EXHAUSTED,
        },
      );
    try {
      const inside = await this.#options.relays.open(init.sandboxId, targetOf(init), init.serviceId);
      inside.once('error', () => user.refuse(status.UNAVAILABLE, 'the connection to the sandbox was lost'));
      inside.once('close', done);
      user.once('close', done);
      // Gone while the relay was being opened: nobody else would end it.
      if (user.destroyed) return void inside.destroy();
      user.once('error', (error) => inside.destroy(error));
      user.once('close', () => {
        // What a user has sent to its end still goes where it was sent to, although both have said their last by now.
        if (!inside.writableEnded) inside.destroy();
      });
      user.pipe(inside);
      inside.pipe(user);
    } catch (error) {
      done();
      throw error;
    }
  }
}

function initOf(message: Buffer | undefined): TcpForwardInit {
  const payload = message === undefined ? undefined : TcpForwardFrame.decode(message).payload;
  if (payload?.$case !== 'init') throw new RelayRefused('INVALID_ARGUMENT', 'the first frame must be init');
  return payload.value;
}

function targetOf({ target }: TcpForwardInit): RelayOpen['target'] {
  if (target === undefined) return { $case: 'ssh', value: {} };
  return target.$case === 'tcp'
    ? { $case: 'tcp', value: target.value }
    : { $case: 'ssh', value: target.value };
}

const wanted =
  (sinceMs: number, sources: readonly string[], minLevel: string) =>
  (line: LogView): boolean =>
    line.timestampMs >= sinceMs &&
    (sources.length === 0 || sources.includes(line.source)) &&
    (minLevel === '' || rankOf(line.level) <= rankOf(minLevel));

const toLine = (line: LogView): SandboxLogLine => ({
  ...line,
  fields: { ...line.fields },
  timestampMs: BigInt(line.timestampMs),
});

const withBigTime = ({ token, expiresAtMs }: { readonly token: string; readonly expiresAtMs: number }) => ({
  token,
  expiresAtMs: BigInt(expiresAtMs),
});

/** What gRPC tells a caller of an error. */
export function asStatus(error: unknown): Error & { readonly code: status } {
  const message = error instanceof Error ? error.message : String(error);
  if (error instanceof RelayRefused)
    return Object.assign(new Error(message), { code: status[error.code], details: message });
  const code =
    error instanceof Error && 'code' in error && typeof error.code === 'number'
      ? error.code
      : status.INTERNAL;
  return Object.assign(new Error(message), { code, details: message });
}
