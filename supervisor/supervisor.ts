import { randomUUID } from 'node:crypto';
import { existsSync, readFileSync, realpathSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import type { Duplex } from 'node:stream';
import type { GetSandboxConfigResponse } from '../proto/generated/openshell/sandbox/v1/sandbox.ts';
import type { AccessServer } from './access/access-server.ts';
import type { MainProcessView } from './access/main-attachment.ts';
import { MainAttachments } from './access/main-attachments.ts';
import { streamPair } from './access/stream-pair.ts';
import type { RecordBuffer } from './buffer/record-buffer.ts';
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
import { DenialLines } from './egress/policy-local/denial-lines.ts';
import { installSkill } from './egress/policy-local/skill.ts';
import { createResolver, type Resolve, upstreamServers } from './egress/resolver.ts';
import { removeTrustFiles, type TrustFiles, trustVariables } from './egress/tls/trust-files.ts';
import { upstreamTrust } from './egress/tls/upstream.ts';
import type { Interception } from './egress/tunnels.ts';
import type { EgressPlane } from './egress-plane.ts';
import { Ending } from './ending.ts';
import { Fault } from './fault.ts';
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
import type { Logger, Logging } from './observability/log.ts';
import { createMetrics, type Metrics } from './observability/metrics.ts';
import { RepeatLimiter } from './observability/repeat-limiter.ts';
import { OfflineGrace } from './offline-grace.ts';
import type { PolicyInForce } from './policy-in-force.ts';
import { PolicySync } from './policy-sync.ts';
import { readinessOf } from './readiness.ts';
import { err, ok, type Result } from './result.ts';
import { sandboxAccess } from './sandbox-access.ts';
import { openSandboxBuffer } from './sandbox-buffer.ts';
import { confineSandbox } from './sandbox-confinement.ts';
import { openSandboxEgress } from './sandbox-egress.ts';
import { openSandboxLog } from './sandbox-log.ts';
import { type Settings, settingsOf } from './settings.ts';
import { type Need, neededBy } from './start-step.ts';
import { findStateDirectory, type StateDirectory } from './state-directory.ts';
import { operatorRoots } from './upstream-settings.ts';
import { VERSION } from './version.ts';
import { workloadEnvironment } from './workload/environment.ts';
import { MainProcess, type MainProcessResult } from './workload/main-process.ts';
import { MainStart } from './workload/main-start.ts';

/** How long the end may take beside the workload's own: exit report, then what is buffered. */
const EXIT_REPORT_MS = 10_000;
const DRAIN_MS = 3_000;
/** Beside the exit report: until who is attached to the main process has heard of its end. */
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
  readonly #config: Config;
  readonly #handover: Handover;
  readonly #complain: (message: string) => void;
  readonly #undo: Undo[];
  readonly #bootId = randomUUID();
  readonly #ending: Ending;
  readonly #grace: OfflineGrace;
  readonly #state: StateDirectory | undefined;
  readonly #buffer: RecordBuffer;
  readonly #metrics: Metrics = createMetrics(VERSION);
  readonly #logging: Logging;
  readonly #limiter = new RepeatLimiter({
    clock: systemClock,
    onOverflow: (suppressed) => {
      this.#metrics.suppressedEvents.inc(suppressed);
      const message = `${suppressed} events of too many kinds at once were not told`;
      this.#logging.ocsf({ class: 'base', severity: 'medium', message });
    },
  });
  #settings: Settings | undefined;
  #workspace = '';
  readonly #denialLines = new DenialLines();
  #skill: ReturnType<typeof installSkill> | undefined;
  readonly #middlewares: MiddlewareRegistry;
  readonly #log: Logger;
  readonly #need: Need;
  readonly #resolve: Resolve;
  #policy: PolicyInForce | undefined;
  #sync: PolicySync | undefined;
  #gateway: GatewayPlane | undefined;
  #egress: EgressPlane | undefined;
  #main: MainProcess | undefined;
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
  #pendingSignal: NodeJS.Signals | undefined;

  constructor(
    config: Config,
    handover: Handover,
    complain: (message: string) => void,
    undo: Undo[],
    onAccess: (access: AccessServer) => void,
  ) {
    this.#onAccess = onAccess;
    this.#config = config;
    this.#handover = handover;
    this.#complain = complain;
    this.#undo = undo;
    this.#ending = new Ending(systemClock, config.graceMs);
    this.#grace = new OfflineGrace({
      clock: systemClock,
      graceMs: config.offlineGraceMs,
      onExpired: (offlineMs) => this.#offlineTooLong(offlineMs),
      onReturned: () => this.#sync?.release(),
    });
    undo.push(() => this.#grace.stop());
    // Only a gateway empties it, and only a volume outlives us.
    this.#state = config.endpoints.length === 0 ? undefined : findStateDirectory(config.stateDir);
    const { buffer, close } = openSandboxBuffer({
      state: this.#state,
      boot: this.#bootId,
      sandboxId: config.sandboxId,
      clock: systemClock,
      asOwner: (act) => this.#privileges.asRoot(act),
      log: () => this.#log,
    });
    this.#buffer = buffer;
    undo.push(close);
    const told = openSandboxLog({
      config,
      buffer,
      now: Date.now,
      onLine: (line) => this.#denialLines.add(line),
      ocsfJson: () => this.#settings?.ocsfJson === true,
    });
    this.#logging = told.logging;
    undo.push(told.close);
    this.#log = this.#logging.logger('supervisor');
    this.#need = neededBy(this.#log);
    const resolvConf = readOr('/etc/resolv.conf');
    const servers = upstreamServers(config.upstreamDns, resolvConf);
    this.#resolve = createResolver(readOr('/etc/hosts'), resolvConf, servers);
    undo.push(() => this.#logging.flush());
    this.#middlewares = new MiddlewareRegistry({
      clock: systemClock,
      random: Math.random,
      resolve: this.#resolve,
      credential: (service) => this.#gateway?.link.extensions.current(service),
      // Before the proxy listens nothing has been decided yet.
      onChange: () => this.#egress && this.#sync?.middlewaresChanged(),
      onProblem: (message) => this.#log.warn(message),
    });
    undo.push(() => this.#middlewares.stop());
  }

  async run(): Promise<number> {
    const config = this.#config;
    for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const)
      process.on(signal, () => this.#end(signal));
    for (const warning of config.warnings) this.#log.warn(warning);
    const handover = this.#handover;
    await this.#startHealth();
    await this.#openGateway();
    const lastGood = this.#lastGood();
    const initial = this.#need(
      'load the policy',
      await initialPolicy(config, this.#gateway?.link, lastGood, this.#log),
    );
    this.#policy = initial.policy;
    this.#metrics.policyGeneration.set(initial.policy.generation);
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
      clock: systemClock,
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
    const main = new MainProcess({
      clock: systemClock,
      timeoutMs: config.timeoutMs,
      graceMs: this.#ending.workloadMs,
      start: () => started,
    });
    this.#main = main;
    if (this.#pendingSignal !== undefined) main.end(this.#pendingSignal);
    const report = await main.started;
    if (report.ok) {
      if (main.pid !== undefined) this.#mainStart.began(main.pid);
      for (const warning of report.value.warnings) this.#log.warn(warning);
      // Which may be another one than the process's own, as after --timeout.
      const exitCode = main.result.then(({ code }) => code);
      this.#openAccess(plan, anchor, view && { ...view, exitCode });
      this.#mainStarted(main);
    }
    const result = await main.result;
    await drained;
    this.#running = false;
    this.#metrics.mainProcess.set(0);
    const told = this.#attachments?.closed(this.#ending.left(VIEWERS_MS));
    await Promise.all([this.#finish(result), this.#ending.overOr(told ?? Promise.resolve(), undefined)]);
    return result.code;
  }

  /** As of now: placeholders of credentials change while the sandbox runs. */
  #workloadEnvironment(tty: boolean): ReadonlyMap<string, string> {
    return workloadEnvironment({
      inherited: this.#handover.environment,
      user: this.#config.userEnvironment,
      proxy: `${PROXY_HOST}:${this.#config.proxyPort}`,
      provider: metadataVariables(
        this.#credentials.workloadVariables(),
        this.#egress?.adapters.metadata === true,
      ),
      trust: this.#trustFiles === undefined ? {} : trustVariables(this.#trustFiles),
      withheld: this.#inference?.withheld ?? new Set(),
      javaTrustStore: this.#trustFiles?.java,
      home: this.#config.workdir,
      tty,
    });
  }

  #openAccess(plan: ConfinementPlan, anchor: Anchor | undefined, view: MainProcessView | undefined): void {
    const attachments = new MainAttachments(systemClock, view);
    this.#attachments = attachments;
    const access = sandboxAccess({
      config: this.#config,
      clock: systemClock,
      plan,
      anchor,
      fenceFd: this.#handover.fenceFd,
      privileges: this.#privileges,
      helperPids: this.#helperPids(anchor),
      helpers: this.#helpers,
      hiding: this.#hiding,
      environment: (tty) => this.#workloadEnvironment(tty),
      home: this.#config.userEnvironment.get('HOME') ?? this.#config.workdir,
      logging: this.#logging,
      metrics: this.#metrics,
      limiter: this.#limiter,
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
    const { health } = this.#config;
    if (health === undefined) return;
    const server: HealthServer = this.#need(
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
      ending: this.#ending.begun,
      closed: this.#policy?.closed,
      session: this.#gateway?.link.state,
      offline: this.#grace.state,
    });
  }

  #metricsText(): Promise<string> {
    const { proxy, adapters } = this.#egress ?? {};
    return metricsPage(this.#metrics, {
      buffer: this.#buffer.stats(),
      offline: this.#grace.state,
      logLinesDropped: this.#logging.dropped(),
      openConnections: (proxy?.openConnections() ?? 0) + (adapters?.openConnections() ?? 0),
      accessConnections: this.#access?.openConnections ?? 0,
      accessForwards: this.#access?.openForwards ?? 0,
      relays: this.#gateway?.link.openRelays ?? 0,
    });
  }

  async #openGateway(): Promise<void> {
    if (this.#config.endpoints.length === 0) return;
    const plane = createGatewayPlane({
      config: this.#config,
      clock: systemClock,
      random: Math.random,
      bootId: this.#bootId,
      buffer: this.#buffer,
      resolve: this.#resolve,
      logging: this.#logging,
      metrics: this.#metrics,
      grace: this.#grace,
      readSecret: (path) => this.#privileges.asRoot(() => readFileSync(path)),
      enforcement: () => this.#plan?.statement ?? [],
      policyVersion: () => this.#policy?.version ?? 0,
      credentials: this.#credentials,
      grants: () => this.#grants,
      onConfig: (received) => {
        this.#settle(received);
        if (this.#config.policySource.kind === 'gateway') this.#sync?.received(received);
      },
      onExtensions: () => this.#middlewares.retry(),
      connect: (target) => this.#reachIn(target),
    });
    const { link } = plane;
    this.#gateway = plane;
    this.#undo.push(() => plane.providers.stop());
    this.#undo.push(async () => {
      if (!(await this.#ending.hurriedOr(link.stop(this.#ending.left(DRAIN_MS)), false)))
        this.#log.info('not everything was delivered', { records: this.#buffer.stats().entries });
    });
    const prepared = await link.prepare();
    // With a policy file the sandbox can start without its gateway; without one initialPolicy tries on.
    if (!prepared.ok && prepared.error.kind !== 'gateway') this.#need('open the gateway link', prepared);
    if (!prepared.ok) this.#logging.logger('gateway').warn(prepared.error.message);
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
      config: this.#config,
      policy,
      readable: this.#trustFiles === undefined ? [] : [this.#trustFiles.directory],
      need: this.#need,
      logging: this.#logging,
      metrics: this.#metrics,
    });
    this.#plan = plan;
    this.#privileges = privileges;
    return plan;
  }

  async #prepareInterception(): Promise<void> {
    const roots = this.#need('read the upstream roots', operatorRoots(this.#config.upstreamCaFile));
    const trust = upstreamTrust(roots);
    this.#trust = trust;
    this.#grants = new TokenGrants({
      clock: systemClock,
      assertion: fetchJwtSvid(this.#config.spiffeSocket, systemClock),
      ask: askTokenEndpoint(this.#resolve, trust),
    });
    const prepared = await prepareInterception(trust, Date.now);
    if (!prepared.ok) {
      this.#log.warn(`${prepared.error}: endpoints that ask for inspection are refused over TLS`);
      return;
    }
    const { files, interception } = prepared.value;
    this.#trustFiles = files;
    this.#undo.push(() => this.#privileges.asRoot(() => removeTrustFiles(files)));
    this.#interception = interception;
  }

  async #startAnchor(plan: ConfinementPlan, fenceFd: number): Promise<Anchor | undefined> {
    if (plan.fence.kind !== 'namespace') return undefined;
    const { launcher } = this.#config;
    const options = { launcher, fenceFd, privileges: this.#privileges };
    const anchor = this.#need('fence the network', await startAnchor(options, plan, plan.fence));
    if (anchor.view !== undefined && !anchor.view.resolvConf)
      this.#log.info('the image has no regular /etc/resolv.conf, so the workload gets none of its own');
    return anchor;
  }

  /** In the workload's network; without it callers are found in /proc alone, which takes some milliseconds. */
  async #startSocketDiag(anchor: Anchor | undefined): Promise<SocketDiag | undefined> {
    const { launcher } = this.#config;
    const diag = await this.#privileges.asRoot(() => startSocketDiag(launcher, anchor?.pids[0]));
    this.#socketDiag = diag;
    if (diag === undefined) this.#log.debug('there is no sock_diag here: sockets are looked up in /proc');
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
      config: this.#config,
      clock: systemClock,
      random: Math.random,
      host: PROXY_HOST,
      anchor,
      policy,
      helpers: this.#helpers,
      hiding: this.#hiding,
      workloadUid: this.#plan?.identity?.uid,
      mainPid: () => this.#mainStart.pid(),
      diag,
      resolve: this.#resolve,
      limits: readOr('/proc/self/limits'),
      resolvConf: readOr('/etc/resolv.conf'),
      interception: this.#interception,
      trust: this.#trust,
      credentials: this.#credentials,
      grants: this.#grants,
      registry: this.#middlewares,
      gateway: this.#gateway,
      denialLines: this.#denialLines,
      workspace: () => this.#workspace,
      proposals: () =>
        this.#settings?.policyProposals === true ? { skillPath: this.#skill?.path } : undefined,
      readSecret: (path) => this.#privileges.asRoot(() => readFileSync(path, 'utf8')),
      variable: (name) => this.#handover.environment.get(name),
      logging: this.#logging,
      metrics: this.#metrics,
      limiter: this.#limiter,
      need: this.#need,
      undo: (step) => this.#undo.push(step),
    });
    this.#egress = plane;
    this.#inference = inference;
  }

  #mainStarted(main: MainProcess): void {
    this.#running = true;
    this.#metrics.mainProcess.set(1);
    const [name = ''] = this.#config.main.argv;
    this.#logging.ocsf({
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
    if (this.#state === undefined || this.#config.policySource.kind !== 'gateway') return undefined;
    const { path } = this.#state;
    return new LastGoodConfig(path, this.#config.sandboxId, (act) => this.#privileges.asRoot(act));
  }

  /** A configuration that the workload of an earlier start could have written must not be its policy. */
  #startPolicySync(
    initial: InitialPolicy,
    plan: ConfinementPlan,
    lastGood: LastGoodConfig | undefined,
  ): void {
    const { path } = this.#state ?? { path: '' };
    const trusted = lastGood !== undefined && isKeptOut(plan, canonical(path));
    if (initial.kept && !trusted)
      throw new Fault(
        'gateway',
        `the gateway is away, and the configuration kept in ${path} cannot be trusted: this container does not keep the workload out of it (see doctor); mount the state where no read_write path of the policy reaches it`,
      );
    this.#sync = new PolicySync({
      policy: initial.policy,
      kept: trusted ? lastGood : undefined,
      logging: this.#logging,
      log: this.#log,
      metrics: this.#metrics,
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
    switch (this.#config.onOfflineExpiry) {
      case 'continue':
        this.#log.error('the gateway has been away for longer than --offline-grace; the sandbox goes on', {
          offlineMs,
        });
        return;
      case 'quarantine':
        this.#sync?.quarantine(offlineMs);
        return;
      case 'stop': {
        const message =
          'the gateway has been away for longer than --offline-grace, and --on-offline-expiry is stop';
        this.#log.error(message, { offlineMs });
        this.#complain(message);
        this.#end('SIGTERM');
      }
    }
  }

  /** A signal to the supervisor is meant for the workload; before there is one it waits for it. A second one hurries. */
  #end(signal: NodeJS.Signals): void {
    if (this.#ending.asked() === 'hurried') {
      this.#log.warn(`${signal} again: killing the main process`);
      this.#main?.kill();
      return;
    }
    this.#pendingSignal = signal;
    this.#log.info(`${signal}: ending the main process`);
    this.#main?.end(signal);
  }

  async #finish(result: MainProcessResult): Promise<void> {
    if (result.kind === 'not-started') {
      this.#log.error(`the main process did not start: ${result.message}`);
      this.#complain(result.message);
    } else {
      const [name = ''] = this.#config.main.argv;
      const [pid, exitCode] = [this.#main?.pid ?? 0, result.code];
      this.#logging.ocsf({ class: 'process', activity: 'TERMINATE', severity: 'info', name, pid, exitCode });
    }
    this.#limiter.flush();
    this.#gateway?.denials.stop();
    if (this.#gateway === undefined) return;
    const reported = this.#gateway.link.reportExit(result.code, this.#ending.left(EXIT_REPORT_MS));
    if (!(await this.#ending.hurriedOr(reported, false)))
      this.#log.warn('the gateway did not acknowledge the exit', { code: result.code });
  }
}

function canonical(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return path;
  }
}

const readOr = (path: string): string => (existsSync(path) ? readFileSync(path, 'utf8') : '');

/** Makes libuv start its threads, so that the shim can name all of them as protected. */
async function warmThreads(): Promise<void> {
  await Promise.all(Array.from({ length: 8 }, () => stat('/proc/self')));
}
