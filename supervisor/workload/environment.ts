/** Variables that only the supervisor may see (contract.md, 4.3), and our own hand-over names. */
const SCRUBBED: ReadonlySet<string> = new Set([
  'OPENSHELL_NETWORK_RUNTIME_CAPABILITIES',
  'OPENSHELL_TLS_CA',
  'OPENSHELL_TLS_CERT',
  'OPENSHELL_TLS_KEY',
  'OPENSHELL_K8S_SA_TOKEN_FILE',
  'OPENSHELL_SANDBOX_TOKEN_FILE',
  'OPENSHELL_SANDBOX_TOKEN',
  'OPENSHELL_OCI_IMAGE_USER',
  'OPENSHELL_SANDBOX_UID',
  'OPENSHELL_SANDBOX_GID',
  'OPENSHELL_PROVIDER_SPIFFE_WORKLOAD_API_SOCKET',
]);

/**
 * Reads the container's environment as init hands it over: NUL-terminated "NAME=value" records. Records
 * without a name or an equals sign are left out; of a name that occurs twice the first one counts,
 * as getenv(3) has it.
 */
export function parseEnvironment(bytes: Buffer): ReadonlyMap<string, string> {
  const variables = new Map<string, string>();
  for (const record of bytes.toString('utf8').split('\0')) {
    const equals = record.indexOf('=');
    if (equals <= 0) continue;
    const name = record.slice(0, equals);
    if (!variables.has(name)) variables.set(name, record.slice(equals + 1));
  }
  return variables;
}

export interface WorkloadEnvironmentInput {
  /** The container's whole environment, image and driver together. */
  readonly inherited: ReadonlyMap<string, string>;
  /** OPENSHELL_USER_ENVIRONMENT: what the user asked for; it beats the image. */
  readonly user: ReadonlyMap<string, string>;
  /** Placeholders for credentials, and what of them is no secret. */
  readonly provider: ReadonlyMap<string, string>;
  /** Where the explicit proxy listens: `127.0.0.1:3128`. */
  readonly proxy: string;
  /** Variables that name the files which clients are to trust; none where TLS is not terminated. */
  readonly trust: Readonly<Record<string, string>>;
  /** Names that hold what the workload must not have. */
  readonly withheld: ReadonlySet<string>;
  /** Java's trust store; it reads no variable that names one. None where TLS is not terminated. */
  readonly javaTrustStore: string | undefined;
  readonly home: string | undefined;
  readonly tty: boolean;
}

/**
 * The main process's environment (contract.md, 5): inherited, then the user's, then the providers', then identity defaults
 * where nothing is set, then the proxy and the CA. Nothing of the supervisor's own reaches it: every
 * OPENSHELL_ name is removed, and OPENSHELL_SANDBOX says "1".
 */
export function workloadEnvironment(input: WorkloadEnvironmentInput): ReadonlyMap<string, string> {
  const environment = new Map<string, string>();
  for (const [name, value] of [...input.inherited, ...input.user, ...input.provider])
    if (!SCRUBBED.has(name) && !input.withheld.has(name) && !name.startsWith('OPENSHELL_'))
      environment.set(name, value);
  const proxyUrl = `http://${input.proxy}`;
  const defaults: Readonly<Record<string, string | undefined>> = {
    HOME: input.home,
    USER: 'sandbox',
    SHELL: '/bin/bash',
    PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
    TERM: input.tty ? 'xterm-256color' : 'dumb',
  };
  for (const [name, value] of Object.entries(defaults))
    if (value !== undefined && !environment.has(name)) environment.set(name, value);
  environment.set('OPENSHELL_SANDBOX', '1');
  for (const name of ['ALL_PROXY', 'HTTP_PROXY', 'HTTPS_PROXY', 'http_proxy', 'https_proxy', 'grpc_proxy'])
    environment.set(name, proxyUrl);
  environment.set('NO_PROXY', '127.0.0.1,localhost,::1');
  environment.set('no_proxy', '127.0.0.1,localhost,::1');
  environment.set('NODE_USE_ENV_PROXY', '1');
  for (const [name, file] of Object.entries(input.trust)) environment.set(name, file);
  // Of an option that occurs twice Java takes the last one; the command line beats them all.
  const java = [environment.get(JAVA), ...javaOptions(input)].filter((option) => option);
  environment.set(JAVA, java.join(' '));
  return environment;
}

const JAVA = 'JAVA_TOOL_OPTIONS';

/** Java asks neither the proxy's variables nor those that name certificates. */
function javaOptions({ proxy, javaTrustStore }: WorkloadEnvironmentInput): readonly string[] {
  const { hostname, port } = new URL(`http://${proxy}`);
  return [
    ...['http', 'https'].flatMap((scheme) => [
      `-D${scheme}.proxyHost=${hostname}`,
      `-D${scheme}.proxyPort=${port}`,
    ]),
    ...(javaTrustStore === undefined ? [] : [`-Djavax.net.ssl.trustStore=${javaTrustStore}`]),
  ];
}
