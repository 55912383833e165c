import yargs from 'yargs';
import { Fault } from '../fault.ts';
import { err, ok, type Result } from '../result.ts';
import { closest } from './suggestion.ts';

const text = (describe: string, alias?: string) =>
  ({ type: 'string', describe, requiresArg: true, ...(alias && { alias }) }) as const;
const flag = (describe: string, alias?: string) =>
  ({ type: 'boolean', describe, ...(alias && { alias }) }) as const;

const FLAGS = {
  workdir: text('working directory of the main process, writable by policy', 'w'),
  timeout: text('seconds until the main process is ended with code 124; 0 is never', 't'),
  interactive: flag('give the command a terminal', 'i'),
  'sandbox-id': text('id of the sandbox'),
  sandbox: text('name of the sandbox'),
  'openshell-endpoint': text('URL of the gateway; several with commas between them'),
  'gateway-max-age': text('seconds after which a connection to the gateway is replaced; 3600, 0 is never'),
  policy: text('policy file (YAML), instead of the gateway’s'),
  'policy-rules': text('accepted with --policy-data for compatibility; Rego is not evaluated'),
  'policy-data': text('policy file (YAML), as --policy'),
  'log-level': text('error, warn, info, debug or trace; for standard output'),
  'log-dir': text('directory for log files by day; /var/log where a volume is mounted there'),
  'log-format': text('json or pretty'),
  'ssh-socket-path': text('accepted: relays reach the SSH server without a socket'),
  'inference-routes': text('file of inference routes'),
  'max-relays': text('relays at once (shells, copies, forwarded ports), 64 by default'),
  'state-dir': text('directory for what outlives a restart: undelivered records, the last good policy'),
  'health-check': flag('serve /healthz, /readyz and /metrics'),
  'health-port': text('port of the health server'),
  'health-host': text('address of the health server'),
  'proxy-port': text('port of the proxy on 127.0.0.1'),
  'socks-port': text('port of the SOCKS 5 proxy on 127.0.0.1; 1080, 0 is none'),
  'upstream-dns': text('name servers to ask for the workload, with commas between them; resolv.conf’s'),
  'upstream-ca-file': text('PEM file of roots that upstream servers are verified against, beside Node’s'),
  'strict-loopback': flag('let the workload connect to the proxy’s port and to no other'),
  'landlock-abi-max': text(
    'use no Landlock feature newer than this ABI, as an older kernel would; 0 uses none',
  ),
  'max-processes': text('processes and threads that the workload may have; 4096 in a user namespace'),
  'max-sessions': text('sessions beside the main process that may run at once; 64, at most 200'),
  'max-open-files': text('files that a process of the workload may have open; 65536'),
  'termination-grace': text('seconds that the pod has to end, from SIGTERM to SIGKILL; 30'),
  'offline-grace': text('seconds that the gateway may be away; 86400'),
  'on-offline-expiry': text('what happens then: continue, quarantine (egress closes) or stop; quarantine'),
  mode: text('network,process: the only one here'),
  'proxy-uid': text('sidecar topology only'),
  'proxy-gid': text('sidecar topology only'),
  'sidecar-state-dir': text('sidecar topology only'),
  'sidecar-tls-dir': text('sidecar topology only'),
  'upstream-proxy': text('corporate proxy'),
  'upstream-no-proxy': text('hosts that the corporate proxy is not used for'),
  'upstream-proxy-auth-file': text('credentials of the corporate proxy'),
  'upstream-proxy-auth-allow-insecure': flag('send them over plain HTTP'),
  'upstream-proxy-connect-by-hostname': flag('let the corporate proxy resolve'),
  json: flag('doctor: print JSON'),
  help: flag('print this help', 'h'),
  version: flag('print the version', 'V'),
} as const;

/** What was given, by the flag's long name. */
export type Values = Readonly<Record<string, string | boolean | undefined>>;

/** A fault of the command line: exit code 64. */
export const usage = (message: string): Fault => new Fault('usage', message);

/** Reads our own flags; what follows the first word that is none is positional. Unknown ones are refused. */
export function parseFlags(
  argv: readonly string[],
): Result<{ readonly values: Values; readonly positional: readonly string[] }, Fault> {
  // Everything from the first word that is no flag belongs to the command, flags of its own included.
  const { own, rest } = splitAtCommand(argv);
  const known = new Set<string>(Object.keys(FLAGS));
  for (const { alias } of Object.values(FLAGS) as readonly { readonly alias?: string }[])
    if (alias) known.add(alias);
  for (const argument of own) {
    const name = /^--?([A-Za-z][\w-]*)/.exec(argument)?.[1];
    if (name === undefined || known.has(name)) continue;
    const guess = closest(name, Object.keys(FLAGS));
    return err(
      usage(
        `unknown flag ${argument.split('=', 1)[0]}${guess === undefined ? '' : `; did you mean --${guess}?`}`,
      ),
    );
  }
  let failure: string | undefined;
  // yargs keeps these two names for itself and warns when they are declared; undeclared they are booleans.
  const { help: _help, version: _version, ...declared } = FLAGS;
  const parser = yargs(own as string[])
    .options(declared)
    .help(false)
    .version(false)
    .exitProcess(false)
    .detectLocale(false)
    .parserConfiguration({
      'camel-case-expansion': false,
      'duplicate-arguments-array': false,
      'boolean-negation': false,
    })
    .fail((message, error) => {
      failure = message ?? error?.message ?? 'the flags cannot be read';
    });
  const values = parser.parseSync() as unknown as Values;
  if (failure !== undefined) return err(usage(failure.replace(/\s+/g, ' ').trim()));
  return ok({ values, positional: rest });
}

/** Splits at the first word that is neither a flag nor the value of one. */
export function splitAtCommand(argv: readonly string[]): {
  readonly own: readonly string[];
  readonly rest: readonly string[];
} {
  const valued = new Set<string>();
  for (const [name, option] of Object.entries(FLAGS) as readonly [
    string,
    { readonly type: string; readonly alias?: string },
  ][])
    if (option.type === 'string') {
      valued.add(`--${name}`);
      if (option.alias) valued.add(`-${option.alias}`);
    }
  let index = 0;
  while (index < argv.length && argv[index]?.startsWith('-')) index += valued.has(argv[index] ?? '') ? 2 : 1;
  return { own: argv.slice(0, index), rest: argv.slice(index) };
}

/** What `--help` prints. */
export function helpText(): string {
  const lines = Object.entries(FLAGS).map(([name, option]) => {
    const alias = 'alias' in option ? `-${option.alias}, ` : '    ';
    return `  ${alias}--${name.padEnd(36)} ${option.describe}`;
  });
  return [
    'Usage: openshell-sandbox [flags] [--] [command…]',
    '       openshell-sandbox doctor [--json]',
    '       openshell-sandbox policy check FILE | policy explain FILE --host … (policy --help)',
    '       openshell-sandbox probe | copy-self DEST',
    '',
    ...lines,
    '',
  ].join('\n');
}
