import {
  type GetInferenceBundleResponse,
  InferenceDefinition,
} from '../../proto/generated/openshell/inference/v1/inference.ts';
import type {
  GetSandboxConfigResponse,
  SandboxPolicy,
} from '../../proto/generated/openshell/sandbox/v1/sandbox.ts';
import type {
  Enforcement,
  GetDraftPolicyResponse,
  GetSandboxProviderEnvironmentResponse,
  SubmitPolicyAnalysisRequest,
  SubmitPolicyAnalysisResponse,
  SupervisorHello,
  SupervisorMessage,
} from '../../proto/generated/openshell/v1/openshell.ts';
import { OpenShellDefinition } from '../../proto/generated/openshell/v1/openshell.ts';
import type { RecordBuffer } from '../buffer/record-buffer.ts';
import type { Clock, Random } from '../clock.ts';
import type { Fault } from '../fault.ts';
import { err, ok, type Result } from '../result.ts';
import { within } from '../rpc/deadline.ts';
import { codeOf, describeCallError, STATUS } from '../rpc/status.ts';
import { Channel } from './channel.ts';
import { ConfigSync } from './config-sync.ts';
import { Delivery, type Manner } from './delivery/delivery.ts';
import type { Call } from './delivery/wire.ts';
import { dial, type Keepalive } from './dial.ts';
import { endpointOf, type ResolveHost } from './endpoint.ts';
import { ExtensionCredentials } from './extension-credentials.ts';
import { Relays, type RelaysOptions } from './relay/relays.ts';
import { RotationWatch } from './rotation.ts';
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
  readonly relays: Pick<RelaysOptions, 'connect' | 'max' | 'observe'>;
  /** Credentials for middlewares have come. */
  readonly onExtensions?: () => void;
  readonly onError: (what: string, message: string) => void;
}

/** Why a call has no answer, in words without secrets. */
export interface CallFailure {
  readonly message: string;
  /** Nobody was there to be asked. */
  readonly away: boolean;
}

/** What this supervisor understands beyond the gateway's own contract, told in the hello. */
export const CAPABILITIES = ['redial-window', 'make-before-break', 'retry-info', 'vitals'] as const;

const METHODS = OpenShellDefinition.methods;

/** Everything between the supervisor and its gateway, over one HTTP/2 connection. */
export class GatewayLink {
  readonly #options: GatewayLinkOptions;
  readonly #channel: Channel;
  readonly #session: GatewaySession;
  readonly #relays: Relays;
  readonly #config: ConfigSync;
  readonly #delivery: Delivery;
  readonly #token: TokenHolder;
  /** For services that the supervisor calls besides the gateway. */
  readonly extensions: ExtensionCredentials;
  readonly #certificates: RotationWatch;
  readonly #tokenFile: RotationWatch;

  constructor(options: GatewayLinkOptions) {
    this.#options = options;
    const { clock, random, sandboxId, buffer, readSecret, tls } = options;
    const endpoints = options.endpoints.map(endpointOf);
    this.#channel = new Channel({
      clock,
      token: () => this.#token.current(),
      onRefused: (token) => this.#token.refused(token),
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
    this.#relays = new Relays({ clock, ...options.relays });
    this.extensions = new ExtensionCredentials({
      clock,
      random,
      // The token that comes with them is left alone: the holder asks for its own in time.
      mint: async (services) => {
        const request = { extensionServiceNames: [...services] };
        return (await this.#channel.unary(METHODS.refreshSandboxToken, request)).extensionCredentials;
      },
      onFresh: () => options.onExtensions?.(),
      onError: (message) => options.onError('extensions', message),
    });
    this.#session = new GatewaySession({
      clock,
      random,
      dial: (events, renewToken) => dialSession(this.#channel, this.#token, events, renewToken),
      hello: () => this.#hello(),
      heartbeat: () => this.#heartbeat(),
      onRelayOpen: (request, session) => this.#relays.open(request, session),
      onRelayClose: (close) => this.#relays.close(close),
      onState: (state) => {
        if (state.kind === 'established') this.#delivery.hurry();
        options.onState(state);
      },
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
    this.#delivery = new Delivery({
      clock,
      random,
      sandboxId,
      buffer,
      send: (call, manner) => this.#send(call, manner),
      onError: (message) => options.onError('delivery', message),
    });
  }

  /** Relays that are open, or whose target is being connected. */
  get openRelays(): number {
    return this.#relays.size;
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

  /** The sandbox's credentials. Rejects with what the gateway says. */
  providerEnvironment(): Promise<GetSandboxProviderEnvironmentResponse> {
    const { sandboxId } = this.#options;
    return this.#channel.unary(METHODS.getSandboxProviderEnvironment, {
      sandboxId,
      supportsStaticCredentialBindings: true,
    });
  }

  /** Sends the policy of a sandbox that the gateway has none for; says why it does not take it. */
  async tellPolicy(name: string, policy: SandboxPolicy, workspace: string): Promise<Result<void, string>> {
    try {
      await this.#channel.unary(METHODS.updateConfig, { name, policy, workspace });
      return ok(undefined);
    } catch (error) {
      return err(describeCallError(error));
    }
  }

  /** The routes of inference.local. Rejects with what the gateway says. */
  inferenceBundle(): Promise<GetInferenceBundleResponse> {
    return this.#channel.unary(
      InferenceDefinition.methods.getInferenceBundle,
      {},
      { service: InferenceDefinition.fullName },
    );
  }

  /** Hands in what an agent proposes, at once: whoever proposes waits for the answer. */
  submitProposals(
    request: SubmitPolicyAnalysisRequest,
  ): Promise<Result<SubmitPolicyAnalysisResponse, CallFailure>> {
    return this.#asked(this.#channel.unary(METHODS.submitPolicyAnalysis, request));
  }

  /** What has been proposed for a sandbox, and what became of it. */
  draftPolicy(name: string, workspace: string): Promise<Result<GetDraftPolicyResponse, CallFailure>> {
    return this.#asked(this.#channel.unary(METHODS.getDraftPolicy, { name, statusFilter: '', workspace }));
  }

  async #asked<T>(call: Promise<T>): Promise<Result<T, CallFailure>> {
    try {
      return ok(await call);
    } catch (error) {
      return err({ message: describeCallError(error), away: codeOf(error) === STATUS.UNAVAILABLE });
    }
  }

  /** Polling and delivery; the session comes when the workload can be reached. */
  startSync(): void {
    this.#config.start();
    this.#delivery.start();
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
    const { buffer, clock } = this.#options;
    const error = outcome.loaded ? '' : outcome.error.slice(0, 4096);
    buffer.append('status', {
      kind: 'policy-status',
      at: clock.now(),
      version,
      loaded: outcome.loaded,
      error,
    });
    this.#delivery.start();
    this.#delivery.hurry();
  }

  /**
   * Reports the exit, and what else of status is still to be told, until the gateway has acknowledged it or
   * `deadlineMs` has passed; then it is in the buffer for the next start. May dial.
   */
  async reportExit(exitCode: number, deadlineMs: number): Promise<boolean> {
    const { buffer, clock, instanceId } = this.#options;
    buffer.append('status', { kind: 'exit', at: clock.now(), instanceId, exitCode });
    return this.#delivery.drain(deadlineMs, ['status']);
  }

  /** Delivers what is buffered, for at most `deadlineMs`, then closes everything. */
  async stop(deadlineMs: number): Promise<boolean> {
    this.#config.stop();
    this.#token.stop();
    this.extensions.stop();
    this.#certificates.stop();
    this.#tokenFile.stop();
    const empty = await this.#delivery.drain(deadlineMs);
    this.#delivery.stop();
    this.#relays.stop();
    this.#session.stop();
    this.#channel.close();
    return empty;
  }

  async #send(call: Call, { timeoutMs, last }: Manner): Promise<void> {
    const { clock } = this.#options;
    if (last) await within(clock, timeoutMs, this.#channel.ensure());
    const options = { timeoutMs };
    switch (call.kind) {
      case 'lines':
        return void (await this.#channel.push(METHODS.pushSandboxLogs, [call.request], options));
      case 'policy-status':
        return void (await this.#channel.unary(METHODS.reportPolicyStatus, call.request, options));
      case 'exit':
        return void (await this.#channel.unary(METHODS.reportMainProcessExit, call.request, options));
      case 'analysis':
        return void (await this.#channel.unary(METHODS.submitPolicyAnalysis, call.request, options));
    }
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

const isGiven = (path: string | undefined): path is string => path !== undefined && path !== '';

const toToken = (answer: { readonly token: string; readonly expiresAtMs: bigint }) => ({
  token: answer.token,
  expiresAtMs: Number(answer.expiresAtMs),
});
