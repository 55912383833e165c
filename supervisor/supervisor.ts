import { readFileSync, realpathSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import type { Duplex } from 'node:stream';
import type { GetSandboxConfigResponse } from '../proto/generated/openshell/sandbox/v1/sandbox.ts';
import type { AccessServer } from './access/access-server.ts';
import type { MainProcessView } from './access/main-attachment.ts';
import { MainAttachments } from './access/main-attachments.ts';
import { streamPair } from './access/stream-pair.ts';
import { systemClock } from './clock.ts';
import type { Config } from './config.ts';
import { type Anchor, startAnchor } from './confinement/anchor.ts';
import { isKeptOut } from './confinement/kept-out.ts';
import type { ConfinementPlan } from './confinement/plan.ts';
import { type Privileges, unchanged } from './confinement/privileges.ts';
import { CredentialStore } from './egress/credentials/credential-store.ts';
import { fetchJwtSvid } from './egress/credentials/spiffe.ts';
import { askTokenEndpoint } from './egress/credentials/token-endpoint.ts';
import { TokenGrants } from './egress/credentials/token-grants.ts';
import { type SocketDiag, startSocketDiag } from './egress/identity/socket-diag.ts';
import { metadataVariables } from './egress/metadata/google-metadata.ts';
import { MiddlewareRegistry } from './egress/middleware/registry.ts';
import { installSkill } from './egress/policy-local/skill.ts';
import { removeTrustFiles, type TrustFiles, trustVariables } from './egress/tls/trust-files.ts';
import { upstreamTrust } from './egress/tls/upstream.ts';
import type { Interception } from './egress/tunnels.ts';
import type { EgressPlane } from './egress-plane.ts';
import { Fault } from './fault.ts';
import { type Foundation, type FoundationQuestions, layFoundation, readOr } from './foundation.ts';
import type { RelayTarget } from './gateway/relay/target.ts';
import { createGatewayPlane, type GatewayPlane } from './gateway-plane.ts';
import type { Handover } from './handover.ts';
import type { Inference } from './inference.ts';
import { type InitialPolicy, initialPolicy } from './initial-policy.ts';
import { prepareInterception } from './interception.ts';
import { LastGoodConfig } from './last-good-config.ts';
import { startMainProgram } from './main-program.ts';
import { metricsPage } from './metrics-page.ts';
import { type HealthServer, startHealthServer } from './observability/health.ts';
import { OfflineGrace } from './offline-grace.ts';
import type { PolicyInForce } from './policy-in-force.ts';
import { PolicySync } from './policy-sync.ts';
import { readinessOf } from './readiness.ts';
import { err, ok, type Result } from './result.ts';
import { sandboxAccess } from './sandbox-access.ts';
import { confineSandbox } from './sandbox-confinement.ts';
import { openSandboxEgress } from './sandbox-egress.ts';
import { type Settings, settingsOf } from './settings.ts';
import { Termination } from './termination.ts';
import { operatorRoots } from './upstream-settings.ts';
import { workloadEnvironment } from './workload/environment.ts';
import { MainProcess } from './workload/main-process.ts';
import { MainStart } from './workload/main-start.ts';

/** How long the end may take beside the workload's own, after the exit report: what is buffered. */
const DRAIN_MS = 3_000;
/** Beside that report: until who is attached to the main process has heard of its end. */
const VIEWERS_MS = 3_000;
/** How long a start waits for middlewares; later ones are taken up when they come. */
const MIDDLEWARES_MS = 2_000;
const PROXY_HOST = '127.0.0.1';

/** Undoes a step of the start. */
type Undo = () => Promise<void> | void;

/**
 * Runs a sandbox from start to end: builds the parts, starts them in order, stops them in reverse, and
 * returns the exit code of the container. Throws the Fault of the step that failed, with everything
 * that had been started stopped again. `complain` writes the one line that says why a workload could not run;
 * `onAccess` gets the way in when the main process runs.
 */
export async function runSupervisor(
  config: Config,
  handover: Handover,
  complain: (message: string) => void,
  onAccess: (access: AccessServer) => void = () => undefined,
): Promise<number> {
  const undo: Undo[] = [];
  try {
    return await new Supervisor(config, handover, complain, undo, onAccess).run();
  } finally {
    for (const step of undo.reverse()) await step();
  }
}

class Supervisor {
  readonly #foundation: Foundation;
  readonly #handover: Handover;
  readonly #complain: (message: string) => void;
  readonly #undo: Undo[];
  readonly #termination: Termination;
  readonly #grace: OfflineGrace;
  #settings: Settings | undefined;
  #workspace = '';
  #skill: ReturnType<typeof installSkill> | undefined;
  readonly #middlewares: MiddlewareRegistry;
  #policy: PolicyInForce | undefined;
  #sync: PolicySync | undefined;
  #gateway: GatewayPlane | undefined;
  #egress: EgressPlane | undefined;
  readonly #mainStart = new MainStart(systemClock);
  /** The way in, as soon as the main process runs: relays hand it their streams. */
  #access: AccessServer | undefined;
  #attachments: MainAttachments | undefined;
  readonly #onAccess: (access: AccessServer) => void;
  #plan: ConfinementPlan | undefined;
  #privileges: Privileges = unchanged;
  readonly #credentials = new CredentialStore(Date.now);
  #grants: TokenGrants | undefined;
  #interception: Interception | undefined;
  #trust = upstreamTrust(undefined);
  /** Processes of ours, which are never the workload's callers. */
  readonly #helpers = new Set<number>();
  readonly #hiding = new Set<number>();
  #inference: Inference | undefined;
  #socketDiag: SocketDiag | undefined;
  #trustFiles: TrustFiles | undefined;
  #running = false;

  constructor(
    config: Config,
    handover: Handover,
    complain: (message: string) => void,
    undo: Undo[],
    onAccess: (access: AccessServer) => void,
  ) {
    this.#onAccess = onAccess;
    this.#handover = handover;
    this.#complain = complain;
    this.#undo = undo;
    const questions: FoundationQuestions = {
      asOwner: (act) => this.#privileges.asRoot(act),
      ocsfJson: () => this.#settings?.ocsfJson === true,
    };
    this.#foundation = layFoundation(config, questions, (step) => undo.push(step));
    this.#termination = new Termination(this.#foundation, complain);
    const { clock, random, resolve, log } = this.#foundation;
    this.#grace = new OfflineGrace({
      clock,
      graceMs: config.offlineGraceMs,
      onExpired: (offlineMs) => this.#offlineTooLong(offlineMs),
      onReturned: () => this.#sync?.release(),
    });
    undo.push(() => this.#grace.stop());
    this.#middlewares = new MiddlewareRegistry({
      ...{ clock, random, resolve },
      credential: (service) => this.#gateway?.link.extensions.current(service),
      // Before the proxy listens nothing has been decided yet.
      onChange: () => this.#egress && this.#sync?.middlewaresChanged(),
      onProblem: (message) => log.warn(message),
    });
    undo.push(() => this.#middlewares.stop());
  }

  async run(): Promise<number> {
    const { config, clock, log, metrics, need } = this.#foundation;
    const handover = this.#handover;
    this.#termination.listen();
    for (const warning of config.warnings) log.warn(warning);
    await this.#startHealth();
    await this.#openGateway();
    const lastGood = this.#lastGood();
    const initial = need('load the policy', await initialPolicy(config, this.#gateway?.link, lastGood, log));
    this.#policy = initial.policy;
    metrics.policyGeneration.set(initial.policy.generation);
    await this.#prepareInterception();
    const plan = await this.#confine(initial.policy);
    this.#startPolicySync(initial, plan, lastGood);
    await this.#gateway?.providers.follow(initial.fetched?.config.providerEnvRevision ?? 0n);
    const anchor = await this.#startAnchor(plan, handover.fenceFd);
    await this.#middlewares.settled(MIDDLEWARES_MS);
    await this.#openEgress(initial.policy, anchor);
    await warmThreads();

    const program = await startMainProgram({
      config,
      clock,
      fenceFd: handover.fenceFd,
      privileges: this.#privileges,
      plan,
      helperPids: this.#helperPids(anchor),
      helpers: this.#helpers,
      hiding: this.#hiding,
      environment: (tty) => this.#workloadEnvironment(tty),
    });
    if (!program.ok) throw new Fault('confinement', `the main process cannot be started: ${program.error}`);
    const { process: started, view, drained } = program.value;
    const { ending } = this.#termination;
    const main = new MainProcess({
      clock,
      timeoutMs: config.timeoutMs,
      graceMs: ending.workloadMs,
      start: () => started,
    });
    this.#termination.watch(main);
    const report = await main.started;
    if (report.ok) {
      if (main.pid !== undefined) this.#mainStart.began(main.pid);
      for (const warning of report.value.warnings) log.warn(warning);
      // Which may be another one than the process's own, as after --timeout.
      const exitCode = main.result.then(({ code }) => code);
      this.#openAccess(plan, anchor, view && { ...view, exitCode });
      this.#mainStarted(main);
    }
    const result = await main.result;
    await drained;
    this.#running = false;
    metrics.mainProcess.set(0);
    const told = this.#attachments?.closed(ending.left(VIEWERS_MS));
    await Promise.all([
      this.#termination.tell(result, this.#gateway),
      ending.overOr(told ?? Promise.resolve(), undefined),
    ]);
    return result.code;
  }

  /** As of now: placeholders of credentials change while the sandbox runs. */
  #workloadEnvironment(tty: boolean): ReadonlyMap<string, string> {
    const { config } = this.#foundation;
    return workloadEnvironment({
      inherited: this.#handover.environment,
      user: config.userEnvironment,
      proxy: `${PROXY_HOST}:${config.proxyPort}`,
      provider: metadataVariables(
        this.#credentials.workloadVariables(),
        this.#egress?.adapters.metadata === true,
      ),
      trust: this.#trustFiles === undefined ? {} : trustVariables(this.#trustFiles),
      withheld: this.#inference?.withheld ?? new Set(),
      javaTrustStore: this.#trustFiles?.java,
      home: config.workdir,
      tty,
    });
  }

  #openAccess(plan: ConfinementPlan, anchor: Anchor | undefined, view: MainProcessView | undefined): void {
    const { config, clock } = this.#foundation;
    const attachments = new MainAttachments(clock, view);
    this.#attachments = attachments;
    const access = sandboxAccess({
      ...this.#foundation,
      plan,
      anchor,
      fenceFd: this.#handover.fenceFd,
      privileges: this.#privileges,
      helperPids: this.#helperPids(anchor),
      helpers: this.#helpers,
      hiding: this.#hiding,
      environment: (tty) => this.#workloadEnvironment(tty),
      home: config.userEnvironment.get('HOME') ?? config.workdir,
      subsystems: new Map([['openshell-main', attachments.start]]),
    });
    this.#access = access;
    this.#undo.push(() => access.stop());
    this.#onAccess(access);
  }

  /** What a configuration says beside its policy. */
  #settle(config: GetSandboxConfigResponse): void {
    this.#settings = settingsOf(config);
    this.#workspace = config.workspace;
    this.#offerSkill();
    if (this.#gateway !== undefined) this.#gateway.denials.workspace = config.workspace;
    this.#middlewares.replace(config.supervisorMiddlewareServices, config.extensionAuthenticationEnabled);
    this.#gateway?.link.extensions.want(this.#middlewares.authenticated);
    // A new revision may be a revocation: nobody waits for the policy meanwhile.
    if (this.#running) void this.#gateway?.providers.follow(config.providerEnvRevision);
  }

  /** For agents, as soon as they may propose policy. */
  #offerSkill(): void {
    const { directory } = this.#trustFiles ?? {};
    if (this.#skill !== undefined || this.#settings?.policyProposals !== true || directory === undefined)
      return;
    const skill = this.#privileges.asRoot(() => installSkill(directory));
    this.#skill = skill;
    this.#undo.push(() => this.#privileges.asRoot(() => skill.remove()));
  }

  async #startHealth(): Promise<void> {
    const { config, need } = this.#foundation;
    const { health } = config;
    if (health === undefined) return;
    const server: HealthServer = need(
      'serve health',
      await startHealthServer({
        ...health,
        readiness: () => this.#readiness(),
        metrics: () => this.#metricsText(),
      }),
    );
    this.#undo.push(() => server.stop());
  }

  #readiness(): { readonly ready: boolean; readonly reasons: readonly string[] } {
    return readinessOf({
      running: this.#running,
      ending: this.#termination.ending.begun,
      closed: this.#policy?.closed,
      session: this.#gateway?.link.state,
      offline: this.#grace.state,
    });
  }

  #metricsText(): Promise<string> {
    const { metrics, buffer, logging } = this.#foundation;
    const { proxy, adapters } = this.#egress ?? {};
    return metricsPage(metrics, {
      buffer: buffer.stats(),
      offline: this.#grace.state,
      logLinesDropped: logging.dropped(),
      openConnections: (proxy?.openConnections() ?? 0) + (adapters?.openConnections() ?? 0),
      accessConnections: this.#access?.openConnections ?? 0,
      accessForwards: this.#access?.openForwards ?? 0,
      relays: this.#gateway?.link.openRelays ?? 0,
    });
  }

  async #openGateway(): Promise<void> {
    const { config, buffer, log, logging, need } = this.#foundation;
    if (config.endpoints.length === 0) return;
    const plane = createGatewayPlane({
      ...this.#foundation,
      grace: this.#grace,
      readSecret: (path) => this.#privileges.asRoot(() => readFileSync(path)),
      enforcement: () => this.#plan?.statement ?? [],
      policyVersion: () => this.#policy?.version ?? 0,
      credentials: this.#credentials,
      grants: () => this.#grants,
      onConfig: (received) => {
        this.#settle(received);
        if (config.policySource.kind === 'gateway') this.#sync?.received(received);
      },
      onExtensions: () => this.#middlewares.retry(),
      connect: (target) => this.#reachIn(target),
    });
    const { link } = plane;
    this.#gateway = plane;
    this.#undo.push(() => plane.providers.stop());
    this.#undo.push(async () => {
      const { ending } = this.#termination;
      if (!(await ending.hurriedOr(link.stop(ending.left(DRAIN_MS)), false)))
        log.info('not everything was delivered', { records: buffer.stats().entries });
    });
    const prepared = await link.prepare();
    // With a policy file the sandbox can start without its gateway; without one initialPolicy tries on.
    if (!prepared.ok && prepared.error.kind !== 'gateway') need('open the gateway link', prepared);
    if (!prepared.ok) logging.logger('gateway').warn(prepared.error.message);
  }

  /** Connects a relay to its target inside the sandbox. */
  async #reachIn(target: RelayTarget): Promise<Result<Duplex, string>> {
    const access = this.#access;
    if (access === undefined) return err('the main process does not run yet');
    if (target.kind === 'tcp') return access.connectInside(target.host, target.port);
    const [ours, theirs] = streamPair();
    const accepted = access.accept(theirs);
    return accepted.ok ? ok(ours) : accepted;
  }

  async #confine(policy: PolicyInForce): Promise<ConfinementPlan> {
    const { plan, privileges } = await confineSandbox({
      ...this.#foundation,
      policy,
      readable: this.#trustFiles === undefined ? [] : [this.#trustFiles.directory],
    });
    this.#plan = plan;
    this.#privileges = privileges;
    return plan;
  }

  async #prepareInterception(): Promise<void> {
    const { config, clock, log, need, resolve } = this.#foundation;
    const roots = need('read the upstream roots', operatorRoots(config.upstreamCaFile));
    const trust = upstreamTrust(roots);
    this.#trust = trust;
    this.#grants = new TokenGrants({
      clock,
      assertion: fetchJwtSvid(config.spiffeSocket, clock),
      ask: askTokenEndpoint(resolve, trust),
    });
    const prepared = await prepareInterception(trust, Date.now);
    if (!prepared.ok) {
      log.warn(`${prepared.error}: endpoints that ask for inspection are refused over TLS`);
      return;
    }
    const { files, interception } = prepared.value;
    this.#trustFiles = files;
    this.#undo.push(() => this.#privileges.asRoot(() => removeTrustFiles(files)));
    this.#interception = interception;
  }

  async #startAnchor(plan: ConfinementPlan, fenceFd: number): Promise<Anchor | undefined> {
    if (plan.fence.kind !== 'namespace') return undefined;
    const { config, log, need } = this.#foundation;
    const options = { launcher: config.launcher, fenceFd, privileges: this.#privileges };
    const anchor = need('fence the network', await startAnchor(options, plan, plan.fence));
    if (anchor.view !== undefined && !anchor.view.resolvConf)
      log.info('the image has no regular /etc/resolv.conf, so the workload gets none of its own');
    return anchor;
  }

  /** In the workload's network; without it callers are found in /proc alone, which takes some milliseconds. */
  async #startSocketDiag(anchor: Anchor | undefined): Promise<SocketDiag | undefined> {
    const { config, log } = this.#foundation;
    const diag = await this.#privileges.asRoot(() => startSocketDiag(config.launcher, anchor?.pids[0]));
    this.#socketDiag = diag;
    if (diag === undefined) log.debug('there is no sock_diag here: sockets are looked up in /proc');
    else this.#undo.push(() => diag.stop());
    return diag;
  }

  /** Processes of ours beside the supervisor itself, which the workload may not touch. */
  #helperPids(anchor: Anchor | undefined): readonly number[] {
    return [...(anchor?.pids ?? []), ...(this.#socketDiag === undefined ? [] : [this.#socketDiag.pid])];
  }

  async #openEgress(policy: PolicyInForce, anchor: Anchor | undefined): Promise<void> {
    const diag = await this.#startSocketDiag(anchor);
    for (const pid of [1, process.ppid, process.pid, ...this.#helperPids(anchor)]) this.#helpers.add(pid);
    const { plane, inference } = await openSandboxEgress({
      ...this.#foundation,
      host: PROXY_HOST,
      anchor,
      policy,
      helpers: this.#helpers,
      hiding: this.#hiding,
      workloadUid: this.#plan?.identity?.uid,
      mainPid: () => this.#mainStart.pid(),
      diag,
      limits: readOr('/proc/self/limits'),
      resolvConf: readOr('/etc/resolv.conf'),
      interception: this.#interception,
      trust: this.#trust,
      credentials: this.#credentials,
      grants: this.#grants,
      registry: this.#middlewares,
      gateway: this.#gateway,
      workspace: () => this.#workspace,
      proposals: () =>
        this.#settings?.policyProposals === true ? { skillPath: this.#skill?.path } : undefined,
      readSecret: (path) => this.#privileges.asRoot(() => readFileSync(path, 'utf8')),
      variable: (name) => this.#handover.environment.get(name),
      undo: (step) => this.#undo.push(step),
    });
    this.#egress = plane;
    this.#inference = inference;
  }

  #mainStarted(main: MainProcess): void {
    const { config, logging, metrics } = this.#foundation;
    this.#running = true;
    metrics.mainProcess.set(1);
    const [name = ''] = config.main.argv;
    logging.ocsf({
      class: 'process',
      activity: 'LAUNCH',
      severity: 'info',
      name,
      pid: main.pid ?? 0,
      exitCode: undefined,
    });
    // A session is readiness at the gateway, so it comes only now (contract.md, 2.1).
    this.#gateway?.denials.start();
    this.#gateway?.link.startSync();
    this.#gateway?.link.startSession();
  }

  /** Where the last good configuration is kept; nothing without a gateway and a volume. */
  #lastGood(): LastGoodConfig | undefined {
    const { state, config } = this.#foundation;
    if (state === undefined || config.policySource.kind !== 'gateway') return undefined;
    return new LastGoodConfig(state.path, config.sandboxId, (act) => this.#privileges.asRoot(act));
  }

  /** A configuration that the workload of an earlier start could have written must not be its policy. */
  #startPolicySync(
    initial: InitialPolicy,
    plan: ConfinementPlan,
    lastGood: LastGoodConfig | undefined,
  ): void {
    const { state, logging, log, metrics } = this.#foundation;
    const { path } = state ?? { path: '' };
    const trusted = lastGood !== undefined && isKeptOut(plan, canonical(path));
    if (initial.kept && !trusted)
      throw new Fault(
        'gateway',
        `the gateway is away, and the configuration kept in ${path} cannot be trusted: this container does not keep the workload out of it (see doctor); mount the state where no read_write path of the policy reaches it`,
      );
    this.#sync = new PolicySync({
      policy: initial.policy,
      kept: trusted ? lastGood : undefined,
      ...{ logging, log, metrics },
      report: (version, outcome) => this.#gateway?.link.reportPolicy(version, outcome),
      onGeneration: (generation) => {
        this.#egress?.proxy.closeStale(generation);
        this.#egress?.adapters.policyChanged();
      },
    });
    if (initial.fetched === undefined) return;
    this.#settle(initial.fetched.config);
    this.#sync.taken(initial.fetched.config, initial.fetched.outcome);
  }

  #offlineTooLong(offlineMs: number): void {
    const { config, log } = this.#foundation;
    switch (config.onOfflineExpiry) {
      case 'continue':
        log.error('the gateway has been away for longer than --offline-grace; the sandbox goes on', {
          offlineMs,
        });
        return;
      case 'quarantine':
        this.#sync?.quarantine(offlineMs);
        return;
      case 'stop': {
        const message =
          'the gateway has been away for longer than --offline-grace, and --on-offline-expiry is stop';
        log.error(message, { offlineMs });
        this.#complain(message);
        this.#termination.ask('SIGTERM');
      }
    }
  }
}

function canonical(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return path;
  }
}

/** Makes libuv start its threads, so that the shim can name all of them as protected. */
async function warmThreads(): Promise<void> {
  await Promise.all(Array.from({ length: 8 }, () => stat('/proc/self')));
}
