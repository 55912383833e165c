import { readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { helpText, parseFlags, splitAtCommand, usage, type Values } from './cli/flags.ts';
import { type MainCommand, resolveMainCommand } from './cli/main-command.ts';
import { Fault } from './fault.ts';
import { LOG_LEVELS, type LogFormat, type LogLevel } from './observability/log.ts';
import { Secret } from './observability/secret.ts';
import { OFFLINE_ACTIONS, type OfflineAction } from './offline-grace.ts';
import { err, ok, type Result } from './result.ts';

/** Where the policy comes from. */
export type PolicySource =
  | { readonly kind: 'file'; readonly path: string }
  | { readonly kind: 'gateway' }
  | { readonly kind: 'default' };

export interface ConfiguredProxy {
  readonly host: string;
  readonly port: number;
  readonly authFile: string | undefined;
  readonly byHostname: boolean;
  readonly noProxy: string;
}

export type ConfiguredToken =
  | { readonly kind: 'env'; readonly value: Secret }
  | { readonly kind: 'file'; readonly path: string }
  | { readonly kind: 'kubernetes'; readonly path: string }
  | { readonly kind: 'none' };

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
  readonly identity: { readonly uid: number; readonly gid: number } | undefined;
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

type Environment = Readonly<Record<string, string | undefined>>;

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
  const number = (
    what: string,
    value: string | undefined,
    fallback: number,
    low: number,
    high: number,
  ): number => {
    if (value === undefined) return fallback;
    const parsed = /^\d{1,10}$/.test(value) ? Number(value) : Number.NaN;
    if (!(parsed >= low && parsed <= high))
      throw new Fault(
        what.startsWith('--') ? 'usage' : 'config',
        `${what} must be a number from ${low} to ${high}, is "${value}"`,
      );
    return parsed;
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
        identity: readIdentity(get, number),
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

type Get = (name: string, variable?: string) => string | undefined;

/** One URL, or several with commas between them: a host and a port hold none. */
function readEndpoints(value: string | undefined): readonly URL[] {
  const urls = (value ?? '')
    .split(',')
    .map((one) => one.trim())
    .filter((one) => one !== '')
    .map(readEndpoint);
  if (new Set(urls.map(({ protocol }) => protocol)).size > 1)
    throw new Fault(
      'config',
      'the gateway endpoints mix http and https: the token would travel unencrypted to some; use one scheme',
    );
  return Object.freeze(urls);
}

/** A path, or a unix: URL of one, as SPIFFE's own variable has it. */
function readSpiffeSocket(value: string | undefined): string | undefined {
  if (value === undefined) return undefined;
  const path = value.replace(/^unix:(\/\/)?(?=\/)/, '');
  if (path.startsWith('/')) return path;
  throw new Fault(
    'config',
    `OPENSHELL_PROVIDER_SPIFFE_WORKLOAD_API_SOCKET must be an absolute path or unix:///path, is "${value.slice(0, 200)}"`,
  );
}

function readNameServers(value: string | undefined): readonly string[] {
  const servers = (value ?? '')
    .split(',')
    .map((one) => one.trim())
    .filter((one) => one !== '');
  const wrong = servers.find((server) => isIP(server) === 0);
  if (wrong !== undefined) throw usage(`--upstream-dns takes IP addresses, "${wrong}" is none`);
  return Object.freeze(servers);
}

function readEndpoint(value: string): URL {
  const url = URL.canParse(value) ? new URL(value) : undefined;
  if (url === undefined || !['http:', 'https:'].includes(url.protocol) || url.hostname === '')
    throw new Fault(
      'config',
      `the gateway endpoint "${value.slice(0, 200)}" is not an http or https URL; set OPENSHELL_ENDPOINT`,
    );
  if (url.username !== '' || url.password !== '')
    throw new Fault(
      'config',
      'the gateway endpoint must not hold credentials; use OPENSHELL_SANDBOX_TOKEN_FILE',
    );
  return url;
}

function readTokenSource(env: Environment): ConfiguredToken {
  const {
    OPENSHELL_SANDBOX_TOKEN: value,
    OPENSHELL_SANDBOX_TOKEN_FILE: file,
    OPENSHELL_K8S_SA_TOKEN_FILE: kubernetes,
  } = env;
  if (value) return { kind: 'env', value: new Secret(value) };
  if (file) return { kind: 'file', path: file };
  return kubernetes ? { kind: 'kubernetes', path: kubernetes } : { kind: 'none' };
}

/** An image's ENV must not send prompts where the gateway does not. */
function readInferenceRoutes(
  get: Get,
  env: Environment,
  endpoint: URL | undefined,
  warnings: string[],
): string | undefined {
  const file = get('inference-routes');
  const named = env['OPENSHELL_INFERENCE_ROUTES'];
  if (file !== undefined || !named) return file;
  if (endpoint === undefined) return named;
  warnings.push(
    'OPENSHELL_INFERENCE_ROUTES is ignored because a gateway is configured; use --inference-routes to override it',
  );
  return undefined;
}

/**
 * The image's ENV reaches us too, so a policy file named by a variable counts only without a gateway:
 * otherwise a hostile image would replace the gateway's policy. A flag comes from the pod's author.
 */
function readPolicySource(
  get: Get,
  values: Values,
  env: Environment,
  endpoint: URL | undefined,
  warnings: string[],
): PolicySource {
  const file = get('policy') ?? get('policy-data');
  if (values['policy-rules'] !== undefined) {
    if (get('policy-data') === undefined) throw usage('--policy-rules needs --policy-data');
    warnings.push('--policy-rules is not evaluated: this supervisor has the rules built in');
  }
  if (file !== undefined) return { kind: 'file', path: file };
  const named = env['OPENSHELL_POLICY_DATA'];
  if (named && endpoint === undefined) return { kind: 'file', path: named };
  if (named)
    warnings.push(
      'OPENSHELL_POLICY_DATA is ignored because a gateway is configured; use --policy to override it',
    );
  return endpoint === undefined ? { kind: 'default' } : { kind: 'gateway' };
}

/** Where a volume for the supervisor's own state may be; no image can put one elsewhere by its ENV. */
const STATE_ROOTS = ['/run/openshell', '/var/lib/openshell'] as const;

function readStateDir(get: Get, env: Environment, warnings: string[]): string | undefined {
  const flag = get('state-dir');
  if (flag !== undefined && !isPlainPath(flag))
    throw usage(`--state-dir must be an absolute path without . and .., is "${flag}"`);
  const named = env['OPENSHELL_STATE_DIR'];
  if (flag !== undefined || !named) return flag;
  if (isPlainPath(named) && STATE_ROOTS.some((root) => `${named}/`.startsWith(`${root}/`))) return named;
  warnings.push(
    `OPENSHELL_STATE_DIR is ignored: it must lie in ${STATE_ROOTS.join(' or ')}; use --state-dir for another place`,
  );
  return undefined;
}

function readLogDir(flag: string | undefined): string | undefined {
  if (flag !== undefined && !isPlainPath(flag))
    throw usage(`--log-dir must be an absolute path without . and .., is "${flag}"`);
  return flag;
}

const isPlainPath = (path: string): boolean => path.startsWith('/') && !/\/\.{1,2}(\/|$)/.test(path);

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

/** `http://host:port`, and what belongs to it (contract.md, 8.6): alone none of the others has a meaning. */
function readUpstreamProxy(get: Get, values: Values): ConfiguredProxy | undefined {
  const text = get('upstream-proxy');
  const authFile = get('upstream-proxy-auth-file');
  const insecure = values['upstream-proxy-auth-allow-insecure'] === true;
  const byHostname = values['upstream-proxy-connect-by-hostname'] === true;
  if (text === undefined) {
    if (authFile !== undefined || insecure || byHostname || get('upstream-no-proxy') !== undefined)
      throw usage('the --upstream-… flags of a proxy need --upstream-proxy');
    return undefined;
  }
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const bare = url?.pathname === '/' && url.search === '' && url.hash === '';
  if (url?.protocol !== 'http:' || url.port === '' || !bare || url.username !== '' || url.password !== '')
    throw usage('--upstream-proxy must be http://host:port, without a path and without credentials');
  if (authFile !== undefined && !insecure)
    throw usage(
      '--upstream-proxy-auth-file sends a password over plain HTTP: accept that with --upstream-proxy-auth-allow-insecure',
    );
  const noProxy = get('upstream-no-proxy') ?? '';
  return {
    host: url.hostname.replace(/^\[|\]$/g, ''),
    port: Number(url.port),
    authFile,
    byHostname,
    noProxy,
  };
}

function readOfflineAction(value = 'quarantine'): OfflineAction {
  const action = OFFLINE_ACTIONS.find((known) => known === value);
  if (action === undefined)
    throw usage(`--on-offline-expiry must be one of ${OFFLINE_ACTIONS.join(', ')}, is "${value}"`);
  return action;
}

function readIdentity(
  get: Get,
  number: (what: string, value: string | undefined, fallback: number, low: number, high: number) => number,
): Config['identity'] {
  const [uid, gid] = [get('', 'OPENSHELL_SANDBOX_UID'), get('', 'OPENSHELL_SANDBOX_GID')];
  if (uid === undefined && gid === undefined) return undefined;
  if (uid === undefined || gid === undefined)
    throw new Fault('config', 'OPENSHELL_SANDBOX_UID and OPENSHELL_SANDBOX_GID must both be set, or neither');
  if (get('', 'OPENSHELL_OCI_IMAGE_USER') !== undefined)
    throw new Fault(
      'config',
      'OPENSHELL_OCI_IMAGE_USER and OPENSHELL_SANDBOX_UID cannot both be set: keep the one that is meant',
    );
  return Object.freeze({
    uid: number('OPENSHELL_SANDBOX_UID', uid, 0, 1, 4_294_967_294),
    gid: number('OPENSHELL_SANDBOX_GID', gid, 0, 1, 4_294_967_294),
  });
}

function readUserEnvironment(value: string | undefined): ReadonlyMap<string, string> {
  if (value === undefined || value === '') return new Map();
  let parsed: unknown;
  try {
    parsed = JSON.parse(value);
  } catch {
    throw new Fault('config', 'OPENSHELL_USER_ENVIRONMENT is not JSON');
  }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed))
    throw new Fault('config', 'OPENSHELL_USER_ENVIRONMENT is not a JSON object');
  const variables = new Map<string, string>();
  for (const [name, entry] of Object.entries(parsed)) {
    if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(name) || typeof entry !== 'string' || entry.includes('\0'))
      throw new Fault(
        'config',
        `OPENSHELL_USER_ENVIRONMENT has a variable that cannot be set: "${name.slice(0, 100)}"`,
      );
    variables.set(name, entry);
  }
  return variables;
}

/** Reads a policy or other text file, or says which setting names it. */
export function readTextFile(path: string, setting: string): Result<string, Fault> {
  try {
    return ok(readFileSync(path, 'utf8'));
  } catch (cause) {
    return err(new Fault('config', `cannot read ${path}, which ${setting} names`, { cause }));
  }
}
