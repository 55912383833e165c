import { readFileSync } from 'node:fs';
import { helpText, parseFlags, splitAtCommand, usage, type Values } from './cli/flags.ts';
import { type MainCommand, resolveMainCommand } from './cli/main-command.ts';
import { readLogDir, readStateDir } from './config/directories.ts';
import {
  type ConfiguredProxy,
  readNameServers,
  readSpiffeSocket,
  readUpstreamProxy,
} from './config/egress-settings.ts';
import { type ConfiguredToken, readEndpoints, readTokenSource } from './config/gateway-settings.ts';
import { type Environment, number } from './config/given.ts';
import { type PolicySource, readInferenceRoutes, readPolicySource } from './config/sources.ts';
import { readIdentity, readUserEnvironment, type UserIds } from './config/workload-settings.ts';
import { Fault } from './fault.ts';
import { LOG_LEVELS, type LogFormat, type LogLevel } from './observability/log.ts';
import { OFFLINE_ACTIONS, type OfflineAction } from './offline-grace.ts';
import { err, ok, type Result } from './result.ts';

/** Everything the supervisor is told, checked once and never changed. Durations are milliseconds. */
export interface Config {
  readonly main: MainCommand;
  readonly workdir: string | undefined;
  readonly timeoutMs: number;
  /** The pod's terminationGracePeriodSeconds: what the whole end may take. */
  readonly graceMs: number;
  /** How long the gateway may be away before `onOfflineExpiry` happens. */
  readonly offlineGraceMs: number;
  readonly onOfflineExpiry: OfflineAction;
  readonly sandboxId: string;
  readonly sandboxName: string;
  /** The first of `endpoints`. */
  readonly endpoint: URL | undefined;
  /** The entrances of one gateway, all http or all https. */
  readonly endpoints: readonly URL[];
  /** A connection to the gateway is replaced between half of this and this; 0 is never. */
  readonly maxConnectionAgeMs: number;
  readonly tls: {
    readonly ca: string | undefined;
    readonly cert: string | undefined;
    readonly key: string | undefined;
    readonly serverName: string | undefined;
  };
  readonly token: ConfiguredToken;
  readonly policySource: PolicySource;
  readonly logLevel: LogLevel;
  readonly logFormat: LogFormat;
  readonly pushLevel: LogLevel;
  readonly pollIntervalMs: number;
  /** Where state is kept, as the pod's author has it; the usual places are looked at when absent. */
  readonly stateDir: string | undefined;
  /** Where log files go; the usual place when it is a mounted volume. */
  readonly logDir: string | undefined;
  readonly health: { readonly host: string; readonly port: number } | undefined;
  readonly proxyPort: number;
  /** 0: no SOCKS. Whether somebody asked for this very port. */
  readonly socksPort: { readonly port: number; readonly given: boolean };
  /** Addresses of name servers; those of resolv.conf when there are none. */
  readonly upstreamDns: readonly string[];
  /** More roots that upstream servers may be verified against, in PEM. */
  readonly upstreamCaFile: string | undefined;
  /** Where the SPIFFE Workload API listens, for token grants. */
  readonly spiffeSocket: string | undefined;
  /** The site's proxy; its credentials are read from their file at the start. */
  readonly upstreamProxy: ConfiguredProxy | undefined;
  /** Relays at once. */
  readonly maxRelays: number;
  /** A file of inference routes, instead of the gateway's. */
  readonly inferenceRoutes: string | undefined;
  /** Whether the workload may connect to no port but the supervisor's. */
  readonly strictLoopback: boolean;
  /** Upper bound for Landlock's ABI; what the kernel has when absent. */
  readonly landlockAbiMax: number | undefined;
  readonly maxProcesses: number | undefined;
  /** Sessions beside the main process that may run at once. */
  readonly maxSessions: number;
  readonly maxOpenFiles: number | undefined;
  readonly requirePidsMax: boolean;
  readonly identity: UserIds | undefined;
  /** The image's USER, as the driver tells it; empty for an image without one. */
  readonly imageUser: string | undefined;
  readonly userEnvironment: ReadonlyMap<string, string>;
  /** Our own launcher, which init names. */
  readonly launcher: string;
  readonly warnings: readonly string[];
}

export type Command =
  | { readonly kind: 'run'; readonly config: Config }
  | { readonly kind: 'doctor'; readonly config: Config; readonly json: boolean }
  | { readonly kind: 'help'; readonly text: string }
  | { readonly kind: 'version' };

/** Reads the command line and the environment (contract.md, 4.2 to 4.4). Flags win over variables. */
export function parseCommandLine(argv: readonly string[], env: Environment): Result<Command, Fault> {
  const separator = argv.indexOf('--');
  const before = separator < 0 ? argv : argv.slice(0, separator);
  // Behind the name of a main command every word is its own; behind `doctor` flags are still ours.
  const split = splitAtCommand(before);
  const doctor = separator < 0 && split.rest[0] === 'doctor';
  const parsed = parseFlags(doctor ? [...split.own, ...split.rest.slice(1)] : before);
  if (!parsed.ok) return parsed;
  const { values, positional } = parsed.value;
  if (values['help'] === true) return ok({ kind: 'help', text: helpText() });
  if (values['version'] === true) return ok({ kind: 'version' });
  const trailing = separator < 0 ? [] : argv.slice(separator + 1);
  const [word] = positional;
  if (doctor && word !== undefined) return err(usage(`doctor takes no argument ${word}`));
  const config = readConfig(values, doctor ? [] : [...positional, ...trailing], env);
  if (!config.ok) return config;
  if (doctor) return ok({ kind: 'doctor', config: config.value, json: values['json'] === true });
  return ok({ kind: 'run', config: config.value });
}

function readConfig(values: Values, command: readonly string[], env: Environment): Result<Config, Fault> {
  const warnings: string[] = [];
  const get = (name: string, variable?: string): string | undefined => {
    const value = values[name];
    const chosen = typeof value === 'string' ? value : variable === undefined ? undefined : env[variable];
    return chosen === undefined || chosen === '' ? undefined : chosen;
  };
  const bound = (name: string, low: number, high: number): number | undefined =>
    get(name) === undefined ? undefined : number(`--${name}`, get(name), low, low, high);
  try {
    const mode = get('mode') ?? 'network,process';
    if (mode !== 'network,process')
      throw usage(
        `--mode ${mode} does not exist here: this supervisor needs no sidecar, so leave --mode out`,
      );
    const endpoints = readEndpoints(get('openshell-endpoint', 'OPENSHELL_ENDPOINT'));
    const [endpoint] = endpoints;
    const main = resolveMainCommand(
      command,
      values['interactive'] === true,
      env['OPENSHELL_MAIN_PROCESS_SPEC'],
    );
    if (!main.ok) throw main.error;
    const workdir = get('workdir');
    if (workdir !== undefined && !workdir.startsWith('/'))
      throw usage(`--workdir must be an absolute path, is "${workdir}"`);
    const sandboxId = get('sandbox-id', 'OPENSHELL_SANDBOX_ID') ?? '';
    if (endpoint !== undefined && sandboxId === '')
      throw new Fault(
        'config',
        'a gateway is configured but no sandbox id: set OPENSHELL_SANDBOX_ID or --sandbox-id',
      );
    const healthWanted = values['health-check'] === true || get('health-port') !== undefined;
    return ok(
      Object.freeze({
        main: main.value,
        workdir,
        timeoutMs: number('--timeout', get('timeout'), 0, 0, 31_536_000) * 1000,
        graceMs: number('--termination-grace', get('termination-grace'), 30, 0, 3600) * 1000,
        offlineGraceMs: number('--offline-grace', get('offline-grace'), 86_400, 0, 31_536_000) * 1000,
        onOfflineExpiry: readOfflineAction(get('on-offline-expiry')),
        sandboxId,
        sandboxName: get('sandbox', 'OPENSHELL_SANDBOX') ?? '',
        endpoint,
        endpoints,
        maxConnectionAgeMs: number('--gateway-max-age', get('gateway-max-age'), 3600, 0, 604_800) * 1000,
        tls: Object.freeze({
          ca: get('', 'OPENSHELL_TLS_CA'),
          cert: get('', 'OPENSHELL_TLS_CERT'),
          key: get('', 'OPENSHELL_TLS_KEY'),
          serverName: get('', 'OPENSHELL_GATEWAY_TLS_SERVER_NAME'),
        }),
        token: readTokenSource(env),
        policySource: readPolicySource(get, values, env, endpoint, warnings),
        logLevel: readLevel('--log-level', get('log-level', 'OPENSHELL_LOG_LEVEL'), 'warn'),
        logFormat: readFormat(get('log-format')),
        pushLevel: readLevel('OPENSHELL_LOG_PUSH_LEVEL', get('', 'OPENSHELL_LOG_PUSH_LEVEL'), 'info'),
        pollIntervalMs:
          number(
            'OPENSHELL_POLICY_POLL_INTERVAL_SECS',
            get('', 'OPENSHELL_POLICY_POLL_INTERVAL_SECS'),
            10,
            1,
            3600,
          ) * 1000,
        logDir: readLogDir(get('log-dir')),
        stateDir: readStateDir(get, env, warnings),
        health: healthWanted
          ? Object.freeze({
              host: get('health-host') ?? '0.0.0.0',
              port: number('--health-port', get('health-port'), 8080, 1, 65_535),
            })
          : undefined,
        proxyPort: number('--proxy-port', get('proxy-port'), 3128, 1, 65_535),
        socksPort: Object.freeze({
          port: number('--socks-port', get('socks-port'), 1080, 0, 65_535),
          given: get('socks-port') !== undefined,
        }),
        upstreamDns: readNameServers(get('upstream-dns')),
        upstreamCaFile: get('upstream-ca-file'),
        spiffeSocket: readSpiffeSocket(get('', 'OPENSHELL_PROVIDER_SPIFFE_WORKLOAD_API_SOCKET')),
        upstreamProxy: readUpstreamProxy(get, values),
        maxRelays: number('--max-relays', get('max-relays'), 64, 0, 1024),
        inferenceRoutes: readInferenceRoutes(get, env, endpoint, warnings),
        strictLoopback: values['strict-loopback'] === true,
        maxProcesses: bound('max-processes', 16, 4_194_304),
        maxSessions: number('--max-sessions', get('max-sessions'), 64, 1, 200),
        maxOpenFiles: bound('max-open-files', 64, 1_048_576),
        requirePidsMax: env['OPENSHELL_REQUIRE_RUNTIME_PID_LIMIT'] !== undefined,
        landlockAbiMax:
          get('landlock-abi-max') === undefined
            ? undefined
            : number('--landlock-abi-max', get('landlock-abi-max'), 0, 0, 1000),
        identity: readIdentity(get),
        imageUser: env['OPENSHELL_OCI_IMAGE_USER'],
        userEnvironment: readUserEnvironment(env['OPENSHELL_USER_ENVIRONMENT']),
        launcher: env['OPENSHELL_INIT_LAUNCHER'] ?? '/opt/openshell/bin/openshell-sandbox',
        warnings: Object.freeze(warnings),
      } satisfies Config),
    );
  } catch (error) {
    if (error instanceof Fault) return err(error);
    throw error;
  }
}

function readLevel(what: string, value: string | undefined, fallback: LogLevel): LogLevel {
  if (value === undefined) return fallback;
  const level = LOG_LEVELS.find((known) => known === value.toLowerCase());
  if (level === undefined)
    throw new Fault('config', `${what} must be one of ${LOG_LEVELS.join(', ')}, is "${value}"`);
  return level;
}

function readFormat(value: string | undefined): LogFormat {
  if (value === undefined || value === 'json') return 'json';
  if (value === 'pretty') return 'pretty';
  throw usage(`--log-format must be json or pretty, is "${value}"`);
}

function readOfflineAction(value = 'quarantine'): OfflineAction {
  const action = OFFLINE_ACTIONS.find((known) => known === value);
  if (action === undefined)
    throw usage(`--on-offline-expiry must be one of ${OFFLINE_ACTIONS.join(', ')}, is "${value}"`);
  return action;
}

/** Reads a policy or other text file, or says which setting names it. */
export function readTextFile(path: string, setting: string): Result<string, Fault> {
  try {
    return ok(readFileSync(path, 'utf8'));
  } catch (cause) {
    return err(new Fault('config', `cannot read ${path}, which ${setting} names`, { cause }));
  }
}
