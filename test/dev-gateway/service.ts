import { randomUUID } from 'node:crypto';
import type { Duplex } from 'node:stream';
import { Metadata, type ServerDuplexStream, type ServiceError, status } from '@grpc/grpc-js';
import {
  GetInferenceBundleResponse,
  type InferenceDefinition,
} from '../../proto/generated/openshell/inference/v1/inference.ts';
import { EffectiveSetting, PolicySource } from '../../proto/generated/openshell/sandbox/v1/sandbox.ts';
import {
  type GatewayMessage,
  GetSandboxProviderEnvironmentResponse,
  type OpenShellDefinition,
  PolicyStatus,
  type PushSandboxLogsRequest,
  type RelayOpen,
  type ReportMainProcessExitRequest,
  ServiceStatus,
  type SupervisorHello,
  type SupervisorMessage,
  type Vitals,
} from '../../proto/generated/openshell/v1/openshell.ts';
import { acceptable, readAnalysis } from './analysis.ts';
import type { DataCall } from './data-call.ts';
import { Drafts, withRule } from './drafts.ts';
import type { Implementation } from './grpc.ts';
import { readInferenceRoutes } from './inference.ts';
import { readMiddlewares, type ToldMiddlewares } from './middlewares.ts';
import { readProviders } from './providers.ts';
import { RelayBroker } from './relays.ts';
import {
  type AnalysisView,
  type ExitView,
  type LogView,
  type PolicyReportView,
  type PolicyRevision,
  policyRevision,
  Recent,
  type SessionView,
  type VitalsView,
} from './state.ts';
import { type Principal, Tokens } from './tokens.ts';
import { UserService } from './user-service.ts';

type Stream = ServerDuplexStream<SupervisorMessage, GatewayMessage>;

export interface ServiceOptions {
  readonly tokenTtlSeconds: number;
  /** Service-account token to sandbox id; undefined = any token, bound to the first sandbox it names. */
  readonly serviceAccounts: ReadonlyMap<string, string> | undefined;
  readonly heartbeatSeconds: number;
  readonly redialWindowSeconds: number;
  /** What a gateway of another version would do. */
  readonly missing: readonly string[];
  readonly newer: boolean;
  /** One line for a person. Never holds a token. */
  readonly onEvent: (line: string) => void;
}

/** The gateway keeps the first 100 lines of a batch and 2000 a sandbox (contract.md, 1.6). */
const LINES_OF_A_BATCH = 100;
const LINES_OF_A_SANDBOX = 2_000;
const SANDBOXES = 256;
const BEATS = 100;

/** What the gateway knows and answers, by the rules of contract.md, 1 and 2. It outlives its listener. */
export class GatewayService {
  readonly tokens: Tokens;
  readonly exits = new Recent<ExitView>(1_000);
  readonly policyReports = new Recent<PolicyReportView>(1_000);
  readonly analyses = new Recent<AnalysisView>(200);
  readonly drafts = new Drafts();
  readonly #logListeners = new Set<(line: LogView) => void>();
  readonly #relays = new RelayBroker({
    connected: () => [...new Set([...this.#live.values()].map(({ view }) => view.sandboxId))],
    has: (sandboxId) => this.#sessionOf(sandboxId) !== undefined,
    send: (sandboxId, message) => void this.#sessionOf(sandboxId)?.stream.write(message),
  });
  readonly #users = new UserService({
    relays: this.#relays,
    authorize: (metadata) => {
      // A person has no token here: this gateway listens where only they are.
      if (metadata.get('authorization').length > 0)
        throw failure(status.PERMISSION_DENIED, 'a sandbox has no say in this');
    },
    logs: () => this.logs(),
    onLog: (listener) => {
      this.#logListeners.add(listener);
      return () => this.#logListeners.delete(listener);
    },
    place: () => this.#place,
  });
  #place = { host: '127.0.0.1', port: 0 };
  readonly #options: ServiceOptions;
  readonly #live = new Map<
    string,
    { view: SessionView; readonly stream: Stream; readonly beat: NodeJS.Timeout }
  >();
  readonly #ended = new Recent<SessionView>(100);
  readonly #logs = new Map<string, Recent<LogView>>();
  readonly #bound = new Map<string, string>();
  readonly #activeInstance = new Map<string, string>();
  #revision: PolicyRevision = policyRevision(undefined, 0);
  #settings: Readonly<Record<string, boolean>> = {};
  #providers = GetSandboxProviderEnvironmentResponse.fromPartial({});
  #inference = GetInferenceBundleResponse.fromPartial({});
  #middlewares: ToldMiddlewares = { services: [], authentication: false };
  #fault: Fault | undefined;
  #rejection: string | undefined;

  constructor(options: ServiceOptions) {
    this.#options = options;
    this.tokens = new Tokens(options.tokenTtlSeconds);
  }

  get revision(): PolicyRevision {
    return this.#revision;
  }

  setPolicy(policy: PolicyRevision['policy']): PolicyRevision {
    this.#revision = policyRevision(policy, this.#revision.version + 1, this.#settingsText());
    this.#options.onEvent(`policy set, version ${this.#revision.version}`);
    return this.#revision;
  }

  /** Sets these settings, all of them booleans, and leaves the others as they are. */
  setSettings(settings: Readonly<Record<string, boolean>>): void {
    this.#settings = { ...this.#settings, ...settings };
    const { policy, version } = this.#revision;
    this.#revision = policyRevision(policy, version, this.#settingsText());
    this.#options.onEvent(`settings: ${this.#settingsText()}`);
  }

  /** Makes these the credentials of every sandbox; see providers.ts. */
  setCredentials(text: string): void {
    this.#providers = readProviders(text, this.#providers.providerEnvRevision + 1n);
    const { policy, version } = this.#revision;
    this.#revision = policyRevision(policy, version, this.#settingsText());
    this.#options.onEvent(`credentials set, revision ${this.#providers.providerEnvRevision}`);
  }

  /** Makes these the routes of inference.local; see inference.ts. */
  setInferenceRoutes(text: string): void {
    this.#inference = readInferenceRoutes(text);
    this.#options.onEvent(`inference routes set, revision ${this.#inference.revision}`);
  }

  inference(): Implementation<InferenceDefinition> {
    return {
      getInferenceBundle: (call, callback) =>
        answer(callback, () => {
          this.#authorize(call.metadata, '');
          return this.#inference;
        }),
    };
  }

  /** Decides on a proposal; an approved rule becomes part of the policy at once. False when none waits by that id. */
  decideChunk(id: string, approved: boolean, reason: string): boolean {
    const decided = this.drafts.decide(id, approved, reason);
    if (decided === undefined) return false;
    this.#options.onEvent(`proposal ${decided.ruleName} ${decided.status}`);
    if (approved) this.setPolicy(withRule(this.#revision.policy, decided));
    return true;
  }

  /** Makes these the middlewares that there are; see middlewares.ts. */
  setMiddlewares(text: string): void {
    this.#middlewares = readMiddlewares(text);
    const { policy, version } = this.#revision;
    this.#revision = policyRevision(policy, version, this.#settingsText());
    this.#options.onEvent(`middlewares: ${this.#middlewares.services.map(({ name }) => name).join(', ')}`);
  }

  #settingsText(): string {
    const { providerEnvRevision } = this.#providers;
    const { services, authentication } = this.#middlewares;
    const told =
      services.length === 0
        ? ''
        : JSON.stringify([
            authentication,
            services.map((one) => ({ ...one, maxPayloadBytes: `${one.maxPayloadBytes}` })),
          ]);
    const settings = (Object.keys(this.#settings).length === 0 ? '' : JSON.stringify(this.#settings)) + told;
    return providerEnvRevision === 0n ? settings : `${settings} ${providerEnvRevision}`;
  }

  /** Ended sessions first, then the live ones; at most the last 100 ended. */
  sessions(): readonly SessionView[] {
    return [...this.#ended.all(), ...[...this.#live.values()].map(({ view }) => view)];
  }

  logs(): readonly LogView[] {
    return [...this.#logs.values()].flatMap((recent) => recent.all());
  }

  /** Closes a session's stream without a message, as a gateway that stops it does. */
  dropSession(id: string): boolean {
    const live = this.#live.get(id);
    if (live === undefined) return false;
    this.#end(id, 'dropped');
    live.stream.end();
    return true;
  }

  endAll(): void {
    for (const id of this.#live.keys()) this.#end(id, 'gateway closed');
  }

  /** Where users are told that it listens. */
  listensAt(host: string, port: number): void {
    this.#place = { host, port };
  }

  /** A RelayStream, which grpc-js cannot serve; see data-call.ts. */
  relay(call: DataCall, metadata: Metadata): void {
    try {
      void this.#relays.claim(this.#authorize(metadata, ''), call);
    } catch (error) {
      const { code, details } = asServiceError(error);
      call.refuse(code ?? status.INTERNAL, details ?? String(error));
    }
  }

  /** A ForwardTcp of a user. */
  forward(call: DataCall, metadata: Metadata): void {
    this.#users.forward(call, metadata);
  }

  /** A stream to a target inside a sandbox, as users' calls get it. */
  openRelay(sandboxId: string, target: RelayOpen['target']): Promise<Duplex> {
    return this.#relays.open(sandboxId, target);
  }

  #sessionOf(sandboxId: string) {
    return [...this.#live.values()].findLast(({ view }) => view.sandboxId === sandboxId);
  }

  implementation(): Implementation<OpenShellDefinition> {
    return {
      ...this.#users.implementation(),
      connectSupervisor: (stream) => this.#connect(stream),
      getSandboxConfig: (call, callback) =>
        answer(callback, () => {
          this.#authorize(call.metadata, call.request.sandboxId);
          const { policy, version, hash, configRevision } = this.#revision;
          return {
            policy,
            version,
            policyHash: hash,
            settings: toSettings(this.#settings),
            configRevision,
            policySource: PolicySource.POLICY_SOURCE_SANDBOX,
            globalPolicyVersion: 0,
            providerEnvRevision: this.#providers.providerEnvRevision,
            supervisorMiddlewareServices: [...this.#middlewares.services],
            workspace: 'dev',
            policyValidationFailureMode: 'fail_closed',
            extensionAuthenticationEnabled: this.#middlewares.authentication,
          };
        }),
      reportPolicyStatus: (call, callback) =>
        answer(callback, () => {
          const { sandboxId, version, status: reported, loadError } = call.request;
          this.#authorize(call.metadata, sandboxId);
          const loaded = reported === PolicyStatus.POLICY_STATUS_LOADED;
          if (version === 0 || !(loaded || reported === PolicyStatus.POLICY_STATUS_FAILED)) {
            throw failure(
              status.INVALID_ARGUMENT,
              'version must not be 0 and status must be LOADED or FAILED',
            );
          }
          if (version > this.#revision.version)
            throw failure(status.NOT_FOUND, `no policy version ${version}`);
          const outcome = loaded ? 'loaded' : 'failed';
          const kept = loaded ? '' : loadError;
          this.policyReports.push({ sandboxId, version, status: outcome, loadError: kept, atMs: Date.now() });
          this.#options.onEvent(
            `${sandboxId}: policy version ${version} ${outcome}${kept === '' ? '' : `: ${kept}`}`,
          );
          return {};
        }),
      submitPolicyAnalysis: (call, callback) =>
        answer(callback, () => {
          const sandboxId = this.#authorize(call.metadata, '');
          if (call.request.name === '') throw failure(status.INVALID_ARGUMENT, 'name must not be empty');
          const view = readAnalysis(sandboxId, call.request);
          this.analyses.push(view);
          for (const { ruleName, confidence } of view.proposals)
            this.#options.onEvent(`${view.name}: proposal ${ruleName}, confidence ${confidence.toFixed(2)}`);
          return {
            acceptedChunks: view.proposals.length,
            rejectedChunks: view.rejections.length,
            rejectionReasons: [...view.rejections],
            acceptedChunkIds: [...this.drafts.add(acceptable(call.request.proposedChunks))],
          };
        }),
      getDraftPolicy: (call, callback) =>
        answer(callback, () => {
          this.#authorize(call.metadata, '');
          if (call.request.name === '') throw failure(status.INVALID_ARGUMENT, 'name must not be empty');
          return {
            chunks: [...this.drafts.all()],
            rollingSummary: '',
            draftVersion: BigInt(this.drafts.all().length),
            lastAnalyzedAtMs: 0n,
          };
        }),
      getSandboxProviderEnvironment: (call, callback) =>
        answer(callback, () => {
          this.#authorize(call.metadata, call.request.sandboxId);
          if (!call.request.supportsStaticCredentialBindings)
            throw failure(
              status.FAILED_PRECONDITION,
              'static credentials are withheld without their bindings',
            );
          return this.#providers;
        }),
      updateConfig: (call, callback) =>
        answer(callback, () => {
          this.#authorize(call.metadata, '');
          const { name, policy } = call.request;
          if (name === '' || policy === undefined)
            throw failure(status.INVALID_ARGUMENT, 'a sandbox sends its name and a policy');
          if (this.#revision.policy !== undefined)
            throw failure(status.FAILED_PRECONDITION, 'this gateway has a policy already');
          this.#options.onEvent(`${name}: sent its policy`);
          const { version, hash } = this.setPolicy(policy);
          return { version, policyHash: hash };
        }),
      pushSandboxLogs: (call, callback) => {
        let sandboxId = '';
        let done = false;
        call.on('error', () => undefined); // the supervisor went away; it sends the batch again
        call.on('data', (batch: PushSandboxLogsRequest) => {
          if (done || batch.sandboxId === '') return;
          try {
            this.#authorize(call.metadata, batch.sandboxId);
            if (sandboxId !== '' && sandboxId !== batch.sandboxId) {
              throw failure(status.PERMISSION_DENIED, 'the sandbox id changed within the stream');
            }
            sandboxId = batch.sandboxId;
            this.#keepLogs(batch);
          } catch (error) {
            done = true;
            callback(asServiceError(error));
          }
        });
        call.on('end', () => {
          if (done) return;
          answer(callback, () => {
            this.#authorize(call.metadata, sandboxId);
            return {};
          });
        });
      },
      issueSandboxToken: (call, callback) =>
        answer(callback, () => {
          const principal = this.#principal(call.metadata);
          if (principal.kind !== 'service-account') {
            throw failure(status.PERMISSION_DENIED, 'only a ServiceAccount token can be exchanged');
          }
          const known = this.#options.serviceAccounts;
          const sandboxId = known === undefined ? '' : known.get(principal.token);
          if (sandboxId === undefined) throw failure(status.UNAUTHENTICATED, 'unknown ServiceAccount token');
          this.#options.onEvent(`token issued${sandboxId === '' ? '' : ` to ${sandboxId}`}`);
          return toWire(this.tokens.mint(sandboxId));
        }),
      refreshSandboxToken: (call, callback) =>
        answer(callback, () => {
          const sandboxId = this.#authorize(call.metadata, '');
          const extensionCredentials = this.#mintExtensions(sandboxId, call.request.extensionServiceNames);
          this.#options.onEvent(`${sandboxId || 'a sandbox'}: token refreshed`);
          return { ...toWire(this.tokens.mint(sandboxId)), extensionCredentials };
        }),
      reportMainProcessExit: (call, callback) =>
        answer(callback, () => {
          const { sandboxId, instanceId } = call.request;
          this.#authorize(call.metadata, sandboxId);
          if (sandboxId === '' || instanceId === '') {
            throw failure(status.INVALID_ARGUMENT, 'sandbox_id and instance_id must not be empty');
          }
          this.#keepExit(call.request);
          return {};
        }),
      health: (_call, callback) =>
        callback(null, { status: ServiceStatus.SERVICE_STATUS_HEALTHY, version: 'dev' }),
    };
  }

  /** One for each name, for the audience that its registration names (contract.md, 3). */
  #mintExtensions(sandboxId: string, names: readonly string[]) {
    if (names.length === 0) return [];
    if (!this.#middlewares.authentication)
      throw failure(status.FAILED_PRECONDITION, 'extension authentication is not enabled');
    if (names.length > 64 || new Set(names).size < names.length)
      throw failure(status.INVALID_ARGUMENT, 'at most 64 names, each once');
    return names.map((serviceName) => {
      const service = this.#middlewares.services.find(({ name }) => name === serviceName);
      if (service === undefined || service.allowInsecureTransport)
        throw failure(status.INVALID_ARGUMENT, `no credential is minted for ${serviceName}`);
      const { token, expiresAtMs } = this.tokens.mint(sandboxId, service.audience);
      return { serviceName, token, expiresAtMs: BigInt(expiresAtMs) };
    });
  }

  /** What every call gets instead of its answer, until it is called without. */
  failWith(fault: Fault | undefined): void {
    this.#fault = fault;
  }

  /** The reason that sessions are rejected with, until it is called without. */
  rejectWith(reason: string | undefined): void {
    this.#rejection = reason;
  }

  #connect(stream: Stream): void {
    if (this.#fault !== undefined) {
      refuse(stream, faultError(this.#fault));
      return;
    }
    // Response headers go out only after the first message, as at the real gateway (contract.md, 2.1).
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
    stream.on('data', ({ payload }: SupervisorMessage) => {
      if (id === undefined) {
        try {
          if (payload?.$case !== 'hello' || payload.value.sandboxId === '') {
            throw failure(status.INVALID_ARGUMENT, 'the first message must be a hello with a sandbox id');
          }
          this.#authorize(stream.metadata, payload.value.sandboxId);
          if (this.#rejection !== undefined) {
            stream.write({ payload: { $case: 'sessionRejected', value: { reason: this.#rejection } } });
            stream.end();
            return;
          }
          id = this.#begin(stream, payload.value);
        } catch (error) {
          refuse(stream, asServiceError(error));
        }
        return;
      }
      const live = this.#live.get(id);
      if (live === undefined) return;
      if (payload?.$case === 'heartbeat') {
        const { policyVersion, bufferedBytes } = payload.value;
        const beatsMs = [...live.view.beatsMs, Date.now()].slice(-BEATS);
        const vitals = toView(payload.value.vitals);
        live.view = { ...live.view, beatsMs, policyVersion, bufferedBytes: Number(bufferedBytes), vitals };
        this.#options.onEvent(`${live.view.sandboxId}: heartbeat`);
      } else if (payload?.$case === 'relayOpenResult') {
        const { channelId, success, error } = payload.value;
        this.#relays.result(payload.value);
        this.#options.onEvent(
          `${live.view.sandboxId}: relay ${channelId} ${success ? 'open' : `refused: ${error}`}`,
        );
      }
    });
  }

  #begin(stream: Stream, hello: SupervisorHello): string {
    let superseded = false;
    for (const [id, live] of this.#live) {
      if (live.view.sandboxId !== hello.sandboxId) continue;
      superseded = true;
      this.#end(id, 'superseded');
      live.stream.end();
    }
    const id = randomUUID();
    const beat = setInterval(
      () => void stream.write({ payload: { $case: 'heartbeat', value: {} } }),
      this.#options.heartbeatSeconds * 1000,
    );
    const { sandboxId, instanceId, supervisorVersion, enforcement } = hello;
    const { bootId, capabilities, policyVersion, vitals } = hello;
    const told = { sandboxId, instanceId, supervisorVersion, enforcement, bootId, capabilities };
    const fresh = {
      endedAtMs: undefined,
      beatsMs: [],
      policyVersion,
      bufferedBytes: 0,
      vitals: toView(vitals),
    };
    this.#live.set(id, { stream, beat, view: { id, ...told, connectedAtMs: Date.now(), ...fresh } });
    this.#activeInstance.set(sandboxId, instanceId);
    const { heartbeatSeconds, redialWindowSeconds } = this.#options;
    const value = {
      sessionId: id,
      heartbeatIntervalSecs: heartbeatSeconds,
      redialWindowSecs: redialWindowSeconds,
      gatewayVersion: this.#options.missing.length > 0 ? '' : 'dev',
      capabilities: this.#options.newer ? ['vitals', 'of-tomorrow'] : [],
    };
    // A newer gateway may send what we do not know, even before the acceptance.
    if (this.#options.newer) stream.write({ payload: undefined });
    stream.write({ payload: { $case: 'sessionAccepted', value } });
    if (this.#options.newer) stream.write({ payload: undefined });
    if (superseded) this.#relays.repeat(hello.sandboxId);
    this.#options.onEvent(
      `${sandboxId}: session ${id} established [${enforcement.map(({ aspect, level, mechanism }) => `${aspect}=${level === 'none' ? level : mechanism}`).join(', ')}]`,
    );
    return id;
  }

  #end(id: string, reason: string): void {
    const live = this.#live.get(id);
    if (live === undefined) return;
    clearInterval(live.beat);
    this.#live.delete(id);
    this.#ended.push({ ...live.view, endedAtMs: Date.now() });
    this.#options.onEvent(`${live.view.sandboxId}: session ${id} ended: ${reason}`);
  }

  #keepLogs({ sandboxId, logs }: PushSandboxLogsRequest): void {
    const recent = this.#logs.get(sandboxId) ?? new Recent<LogView>(LINES_OF_A_SANDBOX);
    this.#logs.set(sandboxId, recent);
    const [oldest] = this.#logs.keys();
    if (this.#logs.size > SANDBOXES && oldest !== undefined) this.#logs.delete(oldest);
    const kept = logs.slice(0, LINES_OF_A_BATCH).map((line) => ({
      ...line,
      sandboxId,
      source: 'sandbox',
      timestampMs: Number(line.timestampMs),
    }));
    recent.push(...kept);
    for (const listener of this.#logListeners) for (const line of kept) listener(line);
    for (const line of kept)
      this.#options.onEvent(`${sandboxId}: ${line.level} ${line.target}: ${line.message}`);
  }

  #keepExit({ sandboxId, instanceId, exitCode }: ReportMainProcessExitRequest): void {
    const before = this.exits.all().find((exit) => exit.accepted && exit.instanceId === instanceId);
    if (before?.exitCode === exitCode) return;
    const accepted = this.#activeInstance.get(sandboxId) === instanceId && before === undefined;
    this.exits.push({ sandboxId, instanceId, exitCode, atMs: Date.now(), accepted });
    this.#options.onEvent(
      `${sandboxId}: main process ended with code ${exitCode}${accepted ? '' : ' (ignored)'}`,
    );
  }

  #principal(metadata: Metadata): Exclude<Principal, { kind: 'none' }> {
    if (this.#fault !== undefined) throw faultError(this.#fault);
    const principal = this.tokens.principal(metadata.get('authorization')[0]?.toString());
    if (principal.kind === 'none') throw failure(status.UNAUTHENTICATED, 'no valid token');
    return principal;
  }

  /** The caller's sandbox. Throws unless its token is ours and belongs to `sandboxId` (empty = none named). */
  #authorize(metadata: Metadata, sandboxId: string): string {
    const principal = this.#principal(metadata);
    if (principal.kind !== 'sandbox') throw failure(status.UNAUTHENTICATED, 'not a token of this gateway');
    const own = principal.sandboxId || this.#bound.get(principal.token) || '';
    if (sandboxId === '' || own === sandboxId) return own;
    if (own !== '') throw failure(status.PERMISSION_DENIED, 'the token belongs to another sandbox');
    this.#bound.set(principal.token, sandboxId);
    const [oldest] = this.#bound.keys();
    if (this.#bound.size > 10 * SANDBOXES && oldest !== undefined) this.#bound.delete(oldest);
    return sandboxId;
  }
}

/** Ends a stream with a status. To destroy it would send none: the caller would wait for ever. */
function refuse(stream: Stream, error: Partial<ServiceError> & Error): void {
  stream.emit('error', error);
}

/** An answer that says no, and when to come again. */
export interface Fault {
  readonly code: status;
  readonly details: string;
  /** Whole seconds up to 127, in a google.rpc.RetryInfo. */
  readonly retryAfterSeconds?: number;
}

function faultError({ code, details, retryAfterSeconds }: Fault): Error {
  const metadata = new Metadata();
  if (retryAfterSeconds !== undefined) {
    const type = Buffer.from('type.googleapis.com/google.rpc.RetryInfo');
    const retryInfo = Buffer.from([0x0a, 0x02, 0x08, retryAfterSeconds]);
    const any = Buffer.concat([Buffer.from([0x0a, type.length]), type, Buffer.from([0x12, 4]), retryInfo]);
    const wrapped = Buffer.concat([Buffer.from([0x08, code, 0x1a, any.length]), any]);
    metadata.set('grpc-status-details-bin', wrapped);
  }
  return Object.assign(new Error(details), { code, details, metadata });
}

const toSettings = (settings: Readonly<Record<string, boolean>>): Record<string, EffectiveSetting> =>
  Object.fromEntries(
    Object.entries(settings).map(([key, value]) => [
      key,
      EffectiveSetting.fromPartial({ value: { value: { $case: 'boolValue', value } } }),
    ]),
  );

const toView = (vitals: Vitals | undefined): VitalsView | undefined =>
  vitals && {
    bufferedRecords: Number(vitals.bufferedRecords),
    bufferedBytes: Number(vitals.bufferedBytes),
    privateBytes: Number(vitals.privateBytes),
    openDescriptors: vitals.openDescriptors,
  };

const failure = (code: status, details: string): Error =>
  Object.assign(new Error(details), { code, details });

function asServiceError(error: unknown): Partial<ServiceError> & Error {
  return error instanceof Error ? error : failure(status.INTERNAL, 'failed');
}

function answer<T>(callback: (error: Partial<ServiceError> | null, value?: T) => void, work: () => T): void {
  let value: T;
  try {
    value = work();
  } catch (error) {
    callback(asServiceError(error));
    return;
  }
  callback(null, value);
}

const toWire = (minted: { readonly token: string; readonly expiresAtMs: number }) => ({
  token: minted.token,
  expiresAtMs: BigInt(minted.expiresAtMs),
});
