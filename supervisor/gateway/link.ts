import type { GetSandboxConfigResponse } from '../../proto/generated/openshell/sandbox/v1/sandbox.ts';
import type {
  Enforcement,
  RelayOpen,
  SupervisorHello,
  SupervisorMessage,
} from '../../proto/generated/openshell/v1/openshell.ts';
import { OpenShellDefinition, PolicyStatus } from '../../proto/generated/openshell/v1/openshell.ts';
import type { RecordBuffer } from '../buffer/record-buffer.ts';
import type { Clock, Random } from '../clock.ts';
import type { Fault } from '../fault.ts';
import { err, ok, type Result } from '../result.ts';
import { Channel, codeOf, isTransient } from './channel.ts';
import { ConfigSync } from './config-sync.ts';
import { dial, type Keepalive } from './dial.ts';
import { endpointOf, type ResolveHost } from './endpoint.ts';
import { LogPush } from './log-push.ts';
import { PolicyReports } from './policy-reports.ts';
import { RotationWatch } from './rotation.ts';
import { CallError, STATUS } from './rpc/status.ts';
import { GatewaySession, type SessionState } from './session.ts';
import { dialSession } from './session-dial.ts';
import { type ReadSecret, secureContext, type TlsFiles } from './tls.ts';
import { TokenHolder, type TokenSource } from './token.ts';
import { vitalsOf } from './vitals.ts';

export interface GatewayLinkOptions {
  /** The URLs of one gateway's entrances; all of their addresses are tried, in random order. */
  readonly endpoints: readonly URL[];
  readonly tls: TlsFiles;
  readonly token: TokenSource;
  readonly sandboxId: string;
  /** One for each start of the main process (contract.md, 2.3). */
  readonly instanceId: string;
  /** One for each start of the supervisor; the buffer's records carry it. */
  readonly bootId: string;
  readonly version: string;
  /** What is enforced and what is not; told in the hello. */
  readonly enforcement: () => readonly Enforcement[];
  readonly readSecret: ReadSecret;
  readonly policyVersion: () => number;
  readonly clock: Clock;
  readonly random: Random;
  readonly resolve: ResolveHost;
  readonly buffer: RecordBuffer;
  readonly pollIntervalMs: number;
  /** A connection is replaced between half of this and this; 0 is never. An hour by default. */
  readonly maxConnectionAgeMs?: number;
  readonly keepalive?: Keepalive;
  readonly onConfig: (config: GetSandboxConfigResponse) => Promise<void>;
  readonly onState: (state: SessionState) => void;
  readonly onBeat: () => void;
  readonly onRelayOpen: (request: RelayOpen) => { readonly success: boolean; readonly error: string };
  readonly onError: (what: string, message: string) => void;
}

/** What this supervisor understands beyond the gateway's own contract, told in the hello. */
export const CAPABILITIES = ['redial-window', 'make-before-break', 'retry-info', 'vitals'] as const;

const METHODS = OpenShellDefinition.methods;
const EXIT_RETRY_MS = 250;
const EXIT_LAST_RETRY_MS = 2_000;

/** Everything between the supervisor and its gateway, over one HTTP/2 connection. */
export class GatewayLink {
  readonly #options: GatewayLinkOptions;
  readonly #channel: Channel;
  readonly #session: GatewaySession;
  readonly #config: ConfigSync;
  readonly #logs: LogPush;
  readonly #reports: PolicyReports;
  readonly #token: TokenHolder;
  readonly #certificates: RotationWatch;
  readonly #tokenFile: RotationWatch;

  constructor(options: GatewayLinkOptions) {
    this.#options = options;
    const { clock, random, sandboxId, buffer, readSecret, tls } = options;
    const endpoints = options.endpoints.map(endpointOf);
    this.#channel = new Channel({
      clock,
      token: () => this.#token.current(),
      dial: () => dial({ ...options, endpoints }),
    });
    this.#token = new TokenHolder(
      options.token,
      {
        issue: async (token) => toToken(await this.#channel.unary(METHODS.issueSandboxToken, {}, { token })),
        refresh: async (token) =>
          toToken(
            await this.#channel.unary(METHODS.refreshSandboxToken, { extensionServiceNames: [] }, { token }),
          ),
      },
      clock,
      random,
      readSecret,
    );
    this.#session = new GatewaySession({
      clock,
      random,
      dial: (events, renewToken) => dialSession(this.#channel, this.#token, events, renewToken),
      hello: () => this.#hello(),
      heartbeat: () => this.#heartbeat(),
      onRelayOpen: options.onRelayOpen,
      onState: options.onState,
      onBeat: options.onBeat,
      ...(options.maxConnectionAgeMs === undefined ? {} : { maxAgeMs: options.maxConnectionAgeMs }),
    });
    this.#certificates = new RotationWatch({
      clock,
      random,
      readSecret,
      paths: endpoints.some(({ secure }) => secure) ? [tls.ca, tls.cert, tls.key].filter(isGiven) : [],
      onChange: () => this.#session.retire('the TLS files were replaced'),
    });
    this.#tokenFile = new RotationWatch({
      clock,
      random,
      readSecret,
      // A ServiceAccount token is only read to be exchanged, so its rotation needs no answer.
      paths: options.token.kind === 'file' ? [options.token.path] : [],
      onChange: () => void this.#token.acquire().then((read) => this.#complain('token', read)),
    });
    this.#config = new ConfigSync({
      clock,
      random,
      pollIntervalMs: options.pollIntervalMs,
      fetch: () => this.#channel.unary(METHODS.getSandboxConfig, { sandboxId }),
      onConfig: options.onConfig,
      onError: (message) => options.onError('config', message),
    });
    this.#logs = new LogPush({
      clock,
      random,
      sandboxId,
      buffer,
      send: async (request) => void (await this.#channel.push(METHODS.pushSandboxLogs, [request])),
      onError: (message) => options.onError('logs', message),
    });
    this.#reports = new PolicyReports(
      (report) => this.#channel.unary(METHODS.reportPolicyStatus, report),
      clock,
    );
  }

  get state(): SessionState {
    return this.#session.state;
  }

  /**
   * Checks what the operator gave: TLS files and token. Asks the gateway only to exchange a ServiceAccount
   * token, and a gateway that is away is a fault of the kind `gateway`, which need not be the end.
   */
  async prepare(): Promise<Result<void, Fault>> {
    const { endpoints, tls, readSecret, token } = this.#options;
    if (endpoints.some(({ protocol }) => protocol === 'https:')) {
      const checked = secureContext(tls, readSecret);
      if (!checked.ok) return checked;
    }
    if (token.kind === 'kubernetes') await this.#channel.ensure().catch(() => undefined);
    const acquired = await this.#token.acquire();
    return acquired.ok ? ok(undefined) : err(acquired.error);
  }

  /** The first configuration, with the contract's five attempts. Before there is a session each may dial. */
  initialConfig(): Promise<Result<GetSandboxConfigResponse, Fault>> {
    return this.#config.initial(async () => {
      await this.#channel.ensure();
      this.#complain('token', await this.#token.ensure());
    });
  }

  /** Polling and log delivery; the session comes when the workload can be reached. */
  startSync(): void {
    this.#config.start();
    this.#logs.start();
  }

  startSession(): void {
    this.#session.start();
    this.#certificates.start();
    this.#tokenFile.start();
  }

  /** Says what became of a policy revision; only revisions of the sandbox's own policy are reported. */
  reportPolicy(
    version: number,
    outcome: { readonly loaded: true } | { readonly loaded: false; readonly error: string },
  ): void {
    if (version === 0) return;
    this.#reports.push({
      sandboxId: this.#options.sandboxId,
      version,
      status: outcome.loaded ? PolicyStatus.POLICY_STATUS_LOADED : PolicyStatus.POLICY_STATUS_FAILED,
      loadError: outcome.loaded ? '' : outcome.error.slice(0, 4096),
      record: undefined,
    });
  }

  /** Reports the exit until the gateway acknowledges it or `deadlineMs` has passed. May dial. */
  async reportExit(exitCode: number, deadlineMs: number): Promise<boolean> {
    const { clock, random, sandboxId, instanceId } = this.#options;
    const end = clock.monotonic() + deadlineMs;
    const left = (): number => end - clock.monotonic();
    let retryMs = EXIT_RETRY_MS;
    for (;;) {
      try {
        await within(clock, Math.max(EXIT_RETRY_MS, left()), this.#channel.ensure());
        await this.#channel.unary(
          METHODS.reportMainProcessExit,
          { sandboxId, instanceId, exitCode, record: undefined },
          { timeoutMs: Math.max(EXIT_RETRY_MS, left()) },
        );
        return true;
      } catch (error) {
        // FAILED_PRECONDITION is a storage conflict there (contract.md, 2.3): try again as well.
        const again = isTransient(error) || codeOf(error) === STATUS.FAILED_PRECONDITION;
        const waitMs = retryMs * (0.5 + random() / 2);
        if (!again || waitMs >= left()) return false;
        await new Promise<void>((resolve) => void clock.after(waitMs, resolve));
        retryMs = Math.min(EXIT_LAST_RETRY_MS, retryMs * 2);
      }
    }
  }

  /** Delivers what is buffered, for at most `deadlineMs`, then closes everything. */
  async stop(deadlineMs: number): Promise<boolean> {
    this.#config.stop();
    this.#reports.stop();
    this.#token.stop();
    this.#certificates.stop();
    this.#tokenFile.stop();
    const empty = await this.#logs.drain(deadlineMs);
    this.#session.stop();
    this.#channel.close();
    return empty;
  }

  #hello(): SupervisorMessage {
    const { sandboxId, instanceId, bootId, version, enforcement, policyVersion, buffer } = this.#options;
    const value: SupervisorHello = {
      sandboxId,
      instanceId,
      supervisorVersion: version,
      enforcement: [...enforcement()],
      bootId,
      policyVersion: policyVersion(),
      capabilities: [...CAPABILITIES],
      vitals: vitalsOf(buffer.stats()),
    };
    return { payload: { $case: 'hello', value } };
  }

  #heartbeat(): SupervisorMessage {
    const { policyVersion, buffer } = this.#options;
    const vitals = vitalsOf(buffer.stats());
    const value = { policyVersion: policyVersion(), bufferedBytes: vitals.bufferedBytes, vitals };
    return { payload: { $case: 'heartbeat', value } };
  }

  #complain(what: string, result: Result<void, Fault>): void {
    if (!result.ok) this.#options.onError(what, result.error.message);
  }
}

/** The promise, or DEADLINE_EXCEEDED when it takes longer. */
async function within<T>(clock: Clock, limitMs: number, promise: Promise<T>): Promise<T> {
  let cancel: (() => void) | undefined;
  const late = new Promise<never>((_, reject) => {
    cancel = clock.after(limitMs, () =>
      reject(new CallError(STATUS.DEADLINE_EXCEEDED, `not within ${Math.round(limitMs)} ms`)),
    );
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    cancel?.();
  }
}

const isGiven = (path: string | undefined): path is string => path !== undefined && path !== '';

const toToken = (answer: { readonly token: string; readonly expiresAtMs: bigint }) => ({
  token: answer.token,
  expiresAtMs: Number(answer.expiresAtMs),
});
