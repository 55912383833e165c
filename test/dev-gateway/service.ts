import type { Duplex } from 'node:stream';
import { type Metadata, status } from '@grpc/grpc-js';
import {
  GetInferenceBundleResponse,
  type InferenceDefinition,
} from '../../proto/generated/openshell/inference/v1/inference.ts';
import { EffectiveSetting, PolicySource } from '../../proto/generated/openshell/sandbox/v1/sandbox.ts';
import {
  GetSandboxProviderEnvironmentResponse,
  type OpenShellDefinition,
  PolicyStatus,
  type RelayOpen,
  type ReportMainProcessExitRequest,
  ServiceStatus,
} from '../../proto/generated/openshell/v1/openshell.ts';
import { acceptable, readAnalysis } from './analysis.ts';
import { Callers } from './callers.ts';
import type { DataCall } from './data-call.ts';
import { Drafts, withRule } from './drafts.ts';
import type { Implementation } from './grpc.ts';
import { readInferenceRoutes } from './inference.ts';
import { readMiddlewares, type ToldMiddlewares } from './middlewares.ts';
import { readProviders } from './providers.ts';
import { RelayBroker } from './relays.ts';
import { SandboxLogs } from './sandbox-logs.ts';
import {
  type AnalysisView,
  type ExitView,
  type LogView,
  type PolicyReportView,
  type PolicyRevision,
  policyRevision,
  Recent,
  type SessionView,
} from './state.ts';
import { answer, asServiceError, type Fault, failure, faultError } from './status-errors.ts';
import { refuse, SupervisorSessions } from './supervisor-sessions.ts';
import { Tokens } from './tokens.ts';
import { UserService } from './user-service.ts';

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

/** What the gateway knows and answers, by the rules of contract.md, 1 and 2. It outlives its listener. */
export class GatewayService {
  readonly tokens: Tokens;
  readonly exits = new Recent<ExitView>(1_000);
  readonly policyReports = new Recent<PolicyReportView>(1_000);
  readonly analyses = new Recent<AnalysisView>(200);
  readonly drafts = new Drafts();
  readonly #callers: Callers;
  readonly #logs = new SandboxLogs();
  readonly #sessions: SupervisorSessions;
  readonly #relays: RelayBroker;
  readonly #users: UserService;
  #place = { host: '127.0.0.1', port: 0 };
  readonly #options: ServiceOptions;
  #revision: PolicyRevision = policyRevision(undefined, 0);
  #settings: Readonly<Record<string, boolean>> = {};
  #providers = GetSandboxProviderEnvironmentResponse.fromPartial({});
  #inference = GetInferenceBundleResponse.fromPartial({});
  #middlewares: ToldMiddlewares = { services: [], authentication: false };

  constructor(options: ServiceOptions) {
    this.#options = options;
    this.tokens = new Tokens(options.tokenTtlSeconds);
    this.#callers = new Callers(this.tokens);
    this.#logs.onLine(({ sandboxId, level, target, message }) =>
      options.onEvent(`${sandboxId}: ${level} ${target}: ${message}`),
    );
    this.#sessions = new SupervisorSessions({
      ...options,
      authorize: (metadata, sandboxId) => void this.#callers.authorize(metadata, sandboxId),
      onRelayResult: (result) => this.#relays.result(result),
      onSuperseded: (sandboxId) => this.#relays.repeat(sandboxId),
    });
    this.#relays = new RelayBroker(this.#sessions);
    this.#users = new UserService({
      relays: this.#relays,
      authorize: (metadata) => this.#callers.person(metadata),
      logs: () => this.logs(),
      onLog: (listener) => this.#logs.onLine(listener),
      place: () => this.#place,
    });
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
          this.#callers.authorize(call.metadata, '');
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
    return this.#sessions.all();
  }

  logs(): readonly LogView[] {
    return this.#logs.all();
  }

  /** Closes a session's stream without a message, as a gateway that stops it does. */
  dropSession(id: string): boolean {
    return this.#sessions.drop(id);
  }

  endAll(): void {
    this.#sessions.endAll();
  }

  /** The reason that sessions are rejected with, until it is called without. */
  rejectWith(reason: string | undefined): void {
    this.#sessions.rejection = reason;
  }

  /** Where users are told that it listens. */
  listensAt(host: string, port: number): void {
    this.#place = { host, port };
  }

  /** A RelayStream, which grpc-js cannot serve; see data-call.ts. */
  relay(call: DataCall, metadata: Metadata): void {
    try {
      void this.#relays.claim(this.#callers.authorize(metadata, ''), call);
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

  implementation(): Implementation<OpenShellDefinition> {
    return {
      ...this.#users.implementation(),
      connectSupervisor: (stream) => {
        const { fault } = this.#callers;
        if (fault === undefined) this.#sessions.connect(stream);
        else refuse(stream, faultError(fault));
      },
      getSandboxConfig: (call, callback) =>
        answer(callback, () => {
          this.#callers.authorize(call.metadata, call.request.sandboxId);
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
          this.#callers.authorize(call.metadata, sandboxId);
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
          const sandboxId = this.#callers.authorize(call.metadata, '');
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
          this.#callers.authorize(call.metadata, '');
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
          this.#callers.authorize(call.metadata, call.request.sandboxId);
          if (!call.request.supportsStaticCredentialBindings)
            throw failure(
              status.FAILED_PRECONDITION,
              'static credentials are withheld without their bindings',
            );
          return this.#providers;
        }),
      updateConfig: (call, callback) =>
        answer(callback, () => {
          this.#callers.authorize(call.metadata, '');
          const { name, policy } = call.request;
          if (name === '' || policy === undefined)
            throw failure(status.INVALID_ARGUMENT, 'a sandbox sends its name and a policy');
          if (this.#revision.policy !== undefined)
            throw failure(status.FAILED_PRECONDITION, 'this gateway has a policy already');
          this.#options.onEvent(`${name}: sent its policy`);
          const { version, hash } = this.setPolicy(policy);
          return { version, policyHash: hash };
        }),
      pushSandboxLogs: (call, callback) =>
        this.#logs.take(
          call,
          callback,
          (metadata, sandboxId) => void this.#callers.authorize(metadata, sandboxId),
        ),
      issueSandboxToken: (call, callback) =>
        answer(callback, () => {
          const principal = this.#callers.principal(call.metadata);
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
          const sandboxId = this.#callers.authorize(call.metadata, '');
          const extensionCredentials = this.#mintExtensions(sandboxId, call.request.extensionServiceNames);
          this.#options.onEvent(`${sandboxId || 'a sandbox'}: token refreshed`);
          return { ...toWire(this.tokens.mint(sandboxId)), extensionCredentials };
        }),
      reportMainProcessExit: (call, callback) =>
        answer(callback, () => {
          const { sandboxId, instanceId } = call.request;
          this.#callers.authorize(call.metadata, sandboxId);
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
    this.#callers.fault = fault;
  }

  #keepExit({ sandboxId, instanceId, exitCode }: ReportMainProcessExitRequest): void {
    const before = this.exits.all().find((exit) => exit.accepted && exit.instanceId === instanceId);
    if (before?.exitCode === exitCode) return;
    const accepted = this.#sessions.isActive(sandboxId, instanceId) && before === undefined;
    this.exits.push({ sandboxId, instanceId, exitCode, atMs: Date.now(), accepted });
    this.#options.onEvent(
      `${sandboxId}: main process ended with code ${exitCode}${accepted ? '' : ' (ignored)'}`,
    );
  }
}

const toSettings = (settings: Readonly<Record<string, boolean>>): Record<string, EffectiveSetting> =>
  Object.fromEntries(
    Object.entries(settings).map(([key, value]) => [
      key,
      EffectiveSetting.fromPartial({ value: { value: { $case: 'boolValue', value } } }),
    ]),
  );

const toWire = (minted: { readonly token: string; readonly expiresAtMs: number }) => ({
  token: minted.token,
  expiresAtMs: BigInt(minted.expiresAtMs),
});
