import type { ClientDuplexStream } from '@grpc/grpc-js';
import type { GetSandboxConfigResponse } from '../../proto/generated/openshell/sandbox/v1/sandbox.ts';
import type {
  Enforcement,
  GatewayMessage,
  OpenShellClient,
  PushSandboxLogsRequest,
  RelayOpen,
  SupervisorMessage,
} from '../../proto/generated/openshell/v1/openshell.ts';
import { PolicyStatus } from '../../proto/generated/openshell/v1/openshell.ts';
import type { RecordBuffer } from '../buffer/record-buffer.ts';
import type { Clock, Random } from '../clock.ts';
import type { Fault } from '../fault.ts';
import { err, ok, type Result } from '../result.ts';
import { bearer, isTransient, openClient, unary } from './channel.ts';
import { ConfigSync } from './config-sync.ts';
import { endpointOf, type ResolveHost, resolveTarget } from './endpoint.ts';
import { LogPush } from './log-push.ts';
import { PolicyReports } from './policy-reports.ts';
import { GatewaySession, type SessionState } from './session.ts';
import { type ReadSecret, secureCredentials, type TlsFiles } from './tls.ts';
import { TokenHolder, type TokenSource } from './token.ts';

export interface GatewayLinkOptions {
  readonly endpoint: URL;
  readonly tls: TlsFiles;
  readonly token: TokenSource;
  readonly sandboxId: string;
  /** One for each start of the main process (contract.md, 2.3). */
  readonly instanceId: string;
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
  readonly onConfig: (config: GetSandboxConfigResponse) => Promise<void>;
  readonly onState: (state: SessionState) => void;
  readonly onBeat: () => void;
  readonly onRelayOpen: (request: RelayOpen) => { readonly success: boolean; readonly error: string };
  readonly onError: (what: string, message: string) => void;
}

const EXIT_RETRY_MS = 250;
const EXIT_LAST_RETRY_MS = 2_000;

/** Everything between the supervisor and its gateway, over one HTTP/2 connection. */
export class GatewayLink {
  readonly #options: GatewayLinkOptions;
  readonly #session: GatewaySession;
  readonly #config: ConfigSync;
  readonly #logs: LogPush;
  readonly #reports: PolicyReports;
  readonly #token: TokenHolder;
  #client: OpenShellClient | undefined;
  #target = '';

  constructor(options: GatewayLinkOptions) {
    this.#options = options;
    const { clock, random, sandboxId, buffer } = options;
    this.#token = new TokenHolder(
      options.token,
      {
        issue: async (token) =>
          toToken(await this.#call((client) => client.issueSandboxToken.bind(client), {}, token)),
        refresh: async (token) =>
          toToken(
            await this.#call(
              (client) => client.refreshSandboxToken.bind(client),
              { extensionServiceNames: [] },
              token,
            ),
          ),
      },
      clock,
      random,
      options.readSecret,
    );
    this.#session = new GatewaySession({
      clock,
      random,
      dial: () => this.#dial(),
      hello: () => this.#hello(),
      heartbeat: () => ({
        payload: {
          $case: 'heartbeat',
          value: { policyVersion: options.policyVersion(), bufferedBytes: BigInt(buffer.stats().bytes) },
        },
      }),
      onRelayOpen: options.onRelayOpen,
      onState: options.onState,
      onBeat: options.onBeat,
      onRefused: async () => {
        const acquired = await this.#token.acquire();
        if (!acquired.ok) options.onError('token', acquired.error.message);
      },
    });
    this.#config = new ConfigSync({
      clock,
      random,
      pollIntervalMs: options.pollIntervalMs,
      fetch: () => this.#call((client) => client.getSandboxConfig.bind(client), { sandboxId }),
      onConfig: options.onConfig,
      onError: (message) => options.onError('config', message),
    });
    this.#logs = new LogPush({
      clock,
      random,
      sandboxId,
      buffer,
      send: (request) => this.#pushLogs(request),
      onError: (message) => options.onError('logs', message),
    });
    this.#reports = new PolicyReports(
      (report) => this.#call((client) => client.reportPolicyStatus.bind(client), report),
      clock,
    );
  }

  get state(): SessionState {
    return this.#session.state;
  }

  /** Resolves the gateway, reads the token and opens the connection. Does not wait for the gateway. */
  async prepare(): Promise<Result<void, Fault>> {
    const connected = await this.#connect();
    if (!connected.ok) return connected;
    const acquired = await this.#token.acquire();
    return acquired.ok ? ok(undefined) : err(acquired.error);
  }

  /** The first configuration, with the contract's five attempts. */
  initialConfig(): Promise<Result<GetSandboxConfigResponse, Fault>> {
    return this.#config.initial();
  }

  /** Polling and log delivery; the session comes when the workload can be reached. */
  startSync(): void {
    this.#config.start();
    this.#logs.start();
  }

  startSession(): void {
    this.#session.start();
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

  /** Reports the exit until the gateway acknowledges it or `deadlineMs` has passed. */
  async reportExit(exitCode: number, deadlineMs: number): Promise<boolean> {
    const { clock, sandboxId, instanceId } = this.#options;
    const end = clock.monotonic() + deadlineMs;
    let retryMs = EXIT_RETRY_MS;
    for (;;) {
      try {
        const left = Math.max(250, end - clock.monotonic());
        await this.#call(
          (client) => client.reportMainProcessExit.bind(client),
          { sandboxId, instanceId, exitCode, record: undefined },
          this.#token.current(),
          left,
        );
        return true;
      } catch (error) {
        // FAILED_PRECONDITION is a storage conflict there (contract.md, 2.3): try again as well.
        const code = error instanceof Error && 'code' in error ? error.code : undefined;
        if ((!isTransient(error) && code !== 9) || clock.monotonic() + retryMs >= end) return false;
        const wait = retryMs;
        await new Promise<void>((resolve) => void setTimeout(resolve, wait));
        retryMs = Math.min(EXIT_LAST_RETRY_MS, retryMs * 2);
      }
    }
  }

  /** Delivers what is buffered, for at most `deadlineMs`, then closes everything. */
  async stop(deadlineMs: number): Promise<boolean> {
    this.#config.stop();
    this.#reports.stop();
    this.#token.stop();
    const empty = await this.#logs.drain(deadlineMs);
    this.#session.stop();
    this.#client?.close();
    return empty;
  }

  async #connect(): Promise<Result<OpenShellClient, Fault>> {
    const { endpoint, tls, resolve, random } = this.#options;
    const place = endpointOf(endpoint);
    const target = await resolveTarget(place, resolve, random);
    if (!target.ok) return this.#client === undefined ? target : ok(this.#client);
    if (this.#client !== undefined && sameAddresses(target.value, this.#target)) return ok(this.#client);
    const secure = place.secure ? secureCredentials(tls, this.#options.readSecret) : undefined;
    if (secure !== undefined && !secure.ok) return secure;
    this.#client?.close();
    this.#target = target.value;
    this.#client = openClient(
      target.value,
      secure?.value,
      `${place.host}:${place.port}`,
      tls.serverName ?? place.host,
    );
    return ok(this.#client);
  }

  async #dial(): Promise<ClientDuplexStream<SupervisorMessage, GatewayMessage>> {
    const client = await this.#connect();
    if (!client.ok) throw client.error;
    return client.value.connectSupervisor(bearer(this.#token.current()));
  }

  #hello(): SupervisorMessage {
    const { sandboxId, instanceId, version, enforcement } = this.#options;
    const value = { sandboxId, instanceId, supervisorVersion: version, enforcement: [...enforcement()] };
    return { payload: { $case: 'hello', value } };
  }

  async #call<Req, Res>(
    method: (client: OpenShellClient) => UnaryMethod<Req, Res>,
    request: Req,
    token = this.#token.current(),
    deadlineMs?: number,
  ): Promise<Res> {
    const client = await this.#connect();
    if (!client.ok) throw client.error;
    return unary(method(client.value), request, token, deadlineMs);
  }

  async #pushLogs(request: PushSandboxLogsRequest): Promise<void> {
    const client = await this.#connect();
    if (!client.ok) throw client.error;
    await new Promise<void>((resolve, reject) => {
      const options = { deadline: Date.now() + 10_000 };
      const stream = client.value.pushSandboxLogs(bearer(this.#token.current()), options, (error) =>
        error === null ? resolve() : reject(error),
      );
      stream.on('error', () => undefined); // the callback has it
      stream.end(request);
    });
  }
}

type UnaryMethod<Req, Res> = Parameters<typeof unary<Req, Res>>[0];

const toToken = (answer: { readonly token: string; readonly expiresAtMs: bigint }) => ({
  token: answer.token,
  expiresAtMs: Number(answer.expiresAtMs),
});

const sameAddresses = (a: string, b: string): boolean =>
  a
    .replace(/^ipv\d:/, '')
    .split(',')
    .sort()
    .join() ===
  b
    .replace(/^ipv\d:/, '')
    .split(',')
    .sort()
    .join();
